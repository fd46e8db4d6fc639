"""Statistics by hand, and the tables made of them."""

import pytest

from mtvit.benchmarks import input as input_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.benchmarks import step
from mtvit.benchmarks import strategies

from mtvit.configs import cifar10


def repetitions(*seconds, count=10, cpu=2.0):
  return [{"count": count, "seconds": s, "cpu_seconds": cpu * s,
           "peak_bytes": 5e6} for s in seconds]


def rows(text):
  """Name -> its cells."""
  lines = [line for line in text.splitlines() if line.startswith("|")]
  cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
  return {c[0]: c[1:] for c in cells}


def test_a_spread_is_the_median_and_the_ends():
  assert show.spread([3, 1, 10]) == show.Spread(3, 1, 10)
  assert show.spread([1, 2, 3, 10]).median == 2.5
  assert show.spread([1000.26, 1.04, 3000]).text(1) == (
      "1,000.3 (1.0 to 3,000.0)")


def test_a_ratio_is_the_median_of_those_of_the_rounds():
  # Of the medians it would be 4 / 2.
  assert show.ratio([1, 4, 9], [2, 1, 3]) == show.Spread(3, 0.5, 4)
  with pytest.raises(ValueError):
    show.ratio([1, 2], [1])


def test_rates_and_cpu():
  found = repetitions(2.0, 4.0)
  assert show.rates(found) == [5, 2.5]
  assert show.cpu_milliseconds(found) == [400, 800]


def test_faster_by_the_clock_and_by_cpu_time():
  ours, others = repetitions(1.0, 1.0), repetitions(2.0, 4.0, cpu=0.5)
  assert show.against(ours, others) == [
      "3.00 (2.00 to 4.00)", "0.75 (0.50 to 1.00)"]


def test_short_times_have_more_digits():
  assert show.milliseconds([0.02, 0.5]) == "0.260 (0.020 to 0.500)"
  assert show.milliseconds([0.5, 1.5]) == "1.0 (0.5 to 1.5)"


def test_a_table():
  assert show.table(["", "x"], [["a", "1"]]) == (
      "|  | x |\n| --- | --- |\n| a | 1 |")


def test_stages_are_what_one_contestant_costs_more_than_another():
  work = input_lib.Work({"mtvit, three": {}}, 1, None)
  measured = {
      name: {"input": repetitions(s, s)} for name, s in (
          (input_lib.CEILING, 0.01), (input_lib.AUGMENT, 0.03),
          ("mtvit, three", 0.1), ("lightly", 0.2), ("DALI", 0.05))}
  first, second = input_lib.report(work, measured).split(
      "Where the time goes:")
  first, second = rows(first), rows(second)
  assert first["mtvit, three"] == [
      "100 (100 to 100)", "20.0 (20.0 to 20.0)", "0.10 (0.10 to 0.10)",
      "2.00 (2.00 to 2.00)", "2.00 (2.00 to 2.00)",
      "0.50 (0.50 to 0.50)", "0.50 (0.50 to 0.50)"]
  assert first[""][3:] == [
      "against lightly", "by CPU time", "against DALI", "by CPU time"]
  assert [line[0].split()[0] for line in second.values()][2:] == [
      "2.0", "4.0", "14.0"]


def test_the_table_of_steps():
  config = cifar10.get_config().to_dict() | {"batch_size": 8}
  work = step.Work({"mtvit": config}, 1, None)
  measured = {
      "mtvit": {"step": repetitions(1.0, 2.0, count=2),
                "matmul": repetitions(1.0, 1.0, count=40e9)},
      step.PEER: {"step": repetitions(2.0, 6.0, count=2),
                  "matmul": repetitions(1.0, 1.0, count=20e9)}}
  ready = {"mtvit": {"flops": 10e9, "compile_seconds": 7.2},
           step.PEER: {"flops": 10e9}}
  found = rows(step.report(work, processes.Found(measured, ready, {})))
  # Two and one step a second, of 16 views and 10 GFLOP.
  assert found["mtvit"] == [
      "24 (16 to 32)", "667", "1,500", "15 (10 to 20)", "0.38 (0.25 to 0.50)",
      "5", "7", "2.50 (2.00 to 3.00)", "2.50 (2.00 to 3.00)"]
  assert found[step.PEER][4] == "0.33 (0.17 to 0.50)"
  assert found[step.PEER][6] == ""


def test_the_table_of_steps_on_a_gpu():
  config = cifar10.get_config().to_dict() | {"batch_size": 8}
  config["model"] |= {"dtype": "bfloat16"}
  device = {"platform": "gpu", "kind": "NVIDIA H200", "count": 2}
  measured = {
      "mtvit": {"step": repetitions(1.0, 1.0, count=2),
                "matmul": repetitions(1.0, 1.0, count=500e12)},
      step.PEER: {"step": repetitions(2.0, 2.0, count=2),
                  "matmul": repetitions(1.0, 1.0, count=500e12)}}
  measured["mtvit"]["step"][-1]["device_bytes"] = 3 * 2**30
  ready = {
      "mtvit": {"flops": 98.95e12, "compile_seconds": 7.2, "device": device,
                "memory_bytes": 2 * 2**30},
      step.PEER: {"flops": 98.95e12,
                  "device": device | {"kind": "another", "count": 1}}}
  found = rows(step.report(
      step.Work({"mtvit": config}, None, None),
      processes.Found(measured, ready, {})))
  # Two steps a second on two chips, each with a peak of 989.5 TFLOP/s.
  assert found["mtvit"] == [
      "32 (32 to 32)", "500.0", "197.9 (197.9 to 197.9)",
      "0.20 (0.20 to 0.20)", "10%", "3.0", "2.0", "7", "2.00 (2.00 to 2.00)"]
  assert found[step.PEER][3:7] == ["0.20 (0.20 to 0.20)", "?", "", ""]
  # No share of a peak that is of another dtype.
  config["model"] |= {"dtype": "float32"}
  found = rows(step.report(
      step.Work({"mtvit": config}, None, None),
      processes.Found(measured, ready, {})))
  assert found["mtvit"][4] == "?"


def test_the_ratios_of_strategies():
  seconds = {strategies.ALONE: 1.0, "patch_level, 2 tasks": 1.1,
             "patch_level, 3 tasks": 1.25, "separate, 3 tasks": 3.0}
  work = strategies.Work({name: {"batch_size": 4} for name in seconds}, 1, 1)
  measured = {name: {"step": repetitions(s, count=1),
                     "input": repetitions(0.5, count=100)}
              for name, s in seconds.items()}
  ready = {name: {"flops": s * 1e9, "memory_bytes": 3e6}
           for name, s in seconds.items()}
  text = strategies.report(work, measured, ready)
  assert ("patch_level, 3 tasks takes 1.25 (1.25 to 1.25) times that of "
          "contrastive alone") in text
  assert ("separate, 3 tasks takes 2.40 (2.40 to 2.40) times that of "
          "patch_level, 3 tasks") in text
  # 10 CPU ms an image, 4 images a batch, 200 images a second.
  assert rows(text)["separate, 3 tasks"] == [
      "3,000", "3.00 (3.00 to 3.00)", "3.0", "3.00", "3", "5", "40",
      "200 (200 to 200)"]


def test_tasks_are_added_in_order():
  made = strategies.configs(lambda strategy, off: (strategy, off), [2, 3])
  assert made["patch_level, 2 tasks"][1] == list(strategies.ORDER[2:])
  assert made["separate, 3 tasks"] == (
      "separate", ["inpaint", "rotation", "jigsaw", "clustering"])
  assert list(made) == [
      "contrastive", "report, 3 tasks", "patch_level, 2 tasks",
      "patch_level, 3 tasks", "separate, 2 tasks", "separate, 3 tasks"]

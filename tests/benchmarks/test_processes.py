"""Real processes that speak the protocol, take turns, and fail."""

import os
import pathlib
import sys
import threading
import time

import pytest

from mtvit import errors
from mtvit.benchmarks import processes
from mtvit.benchmarks.peers import protocol

PEERS = pathlib.Path(protocol.__file__).parent
# Writes when it begins and ends to a file that all share.
SCRIPT = """
import sys, time
sys.path.insert(0, {peers!r})
import protocol

def start(settings):
  print("a library prints")
  if settings.get("fail") == "start":
    sys.exit("no such thing\\nas this")
  def work():
    if settings.get("fail") == "work":
      raise ValueError("broken here")
    began = time.time()
    end = time.process_time() + 0.05
    while time.process_time() < end:
      pass
    with open(settings["log"], "a") as file:
      print(settings["name"], began, time.time(), file=file)
    return 3
  return {{"versions": {{"x": "1"}}}}, {{
      "work": lambda: protocol.timed(work),
      "warmed": lambda: protocol.timed(work, first=lambda: time.sleep(0.5)),
      "rest": lambda: protocol.timed(lambda: time.sleep(0.1) or 1)}}

protocol.serve(start)
"""


def spec(tmp_path, name, does=("work",), **settings):
  file = tmp_path / "script.py"
  file.write_text(SCRIPT.format(peers=str(PEERS)))
  return processes.Spec(
      name, [sys.executable, str(file)],
      {"name": name, "log": str(tmp_path / "log")} | settings, os.environ,
      does)


def test_contestants_take_turns(tmp_path):
  specs = [spec(tmp_path, "a", ["work", "rest"]), spec(tmp_path, "b")]
  with processes.started(specs) as running:
    assert running[0].ready == {"versions": {"x": "1"}}
    found = processes.interleaved(running, 3)
    alive = [x._process for x in running]
  assert all(x.poll() == 0 for x in alive)
  lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
  assert [name for name, *_ in lines] == ["a", "b", "b", "a", "a", "b"]
  spans = [(float(began), float(ended)) for _, began, ended in lines]
  assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:]))
  assert {name: {what: len(x) for what, x in done.items()}
          for name, done in found.items()} == {
              "a": {"work": 3, "rest": 3}, "b": {"work": 3}}
  for one in found["a"]["work"] + found["b"]["work"]:
    assert one["count"] == 3
    assert 0.05 <= one["cpu_seconds"] <= one["seconds"] + 0.02
    assert 5e6 < one["peak_bytes"] < 1e9
  # Waiting is no work.
  assert all(x["cpu_seconds"] < 0.05 < 0.1 <= x["seconds"]
             for x in found["a"]["rest"])


def test_what_is_done_first_is_not_counted(tmp_path):
  with processes.started([spec(tmp_path, "a", ["warmed"])]) as running:
    began = time.perf_counter()
    found = running[0].repeat("warmed")
    took = time.perf_counter() - began
  assert found["count"] == 3 and took >= 0.5 + found["seconds"]


def test_a_failure_is_shown_with_what_was_said_last(tmp_path):
  with pytest.raises(errors.UserError) as e:
    with processes.started([
        spec(tmp_path, "good"), spec(tmp_path, "bad", fail="start")]):
      pass
  assert str(e.value).splitlines() == [
      "bad ended with exit code 1; it said last:", "  a library prints",
      "  no such thing", "  as this"]


def test_a_failure_in_the_middle(tmp_path):
  with processes.started([spec(tmp_path, "bad", fail="work")]) as running:
    with pytest.raises(errors.UserError, match="ValueError: broken here"):
      running[0].repeat("work")


def test_one_that_can_not_be_started(tmp_path):
  with pytest.raises(errors.UserError, match="/no/such/program can't be star"):
    processes.Contestant(
        spec(tmp_path, "x")._replace(command=["/no/such/program"]))


def test_what_lay_in_the_queue_is_not_counted():
  """A producer of 20 batches a second, that was 8 ahead when it was asked."""
  def batches():
    yield from range(8)
    while True:
      time.sleep(0.05)
      yield 8

  found = protocol.drawn(batches(), images=10, counted=4)
  assert found["count"] == 40
  assert found["seconds"] >= 0.9 * 4 * 0.05


def test_a_pipeline_settles_before_the_next_has_the_word():
  ended = []

  def work():
    end = time.process_time() + 0.5
    while time.process_time() < end:
      pass
    ended.append(time.monotonic())

  threading.Thread(target=work, daemon=True).start()
  protocol.settle()
  assert ended and ended[0] <= time.monotonic()

"""What `gpu_check` does, section by section, within a time that is given."""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Sequence

from mtvit import errors
from mtvit.benchmarks import agreement_process
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.benchmarks import step as step_lib
from mtvit.run import files
from mtvit.run import reading

# Variant and strategy -> a config as plain values.
Variant = Callable[[str, str], dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What is to be done.

  Attributes:
    config: of a contestant.
    sizes: variants, the most important first.
    strategies: likewise, of the table; the last has every task.
    layers: likewise; see `step.LAYERS`.
    batch: a file of `saved_batches` for all strategies.
    compared: images whose losses are compared.
    peer_python: of timm's environment; None without it.
    run: words of a short `pretrain`.
    platforms: JAX_PLATFORMS; None leaves it as it is.
    repeats: of a measurement.
    steps: of a repetition; None for what the device needs.
  """
  config: Variant
  sizes: Sequence[str]
  strategies: Sequence[str]
  layers: Sequence[str]
  batch: str
  compared: int
  peer_python: pathlib.Path | None
  run: Sequence[str]
  platforms: str | None
  repeats: int = 3
  steps: int | None = None


class Report:
  """The results, written as JSON and Markdown whenever there are more.

  Attributes:
    values: all of them, as JSON.
  """

  def __init__(self, output: pathlib.Path, seconds: float):
    self.values: dict[str, Any] = {"machine": show.machine(), "skipped": []}
    self._output, self._texts = output, {"": "# mtvit on this accelerator"}
    self._end = time.monotonic() + seconds
    self._longest = 0.0

  def add(self, key: str, values: Any, text: str) -> None:
    """Writes a section, or writes it anew."""
    self.values[key] = values
    self._texts[key] = text
    if self.values["skipped"]:
      self._texts["skipped"] = "Left out:\n\n" + "\n".join(
          f"- {line}" for line in self.values["skipped"])
    files.write(self._output / "gpu_check.json",
                json.dumps(self.values, indent=1) + "\n")
    files.write(self._output / "gpu_check.md", self.text() + "\n")

  def text(self) -> str:
    """All of it, in Markdown."""
    return "\n\n".join(self._texts.values())

  def attempt(self, name: str, work: Callable[[], Any]) -> Any:
    """What `work` returns; None if time is up, or if it fails, and a note.

    Something is begun if the longest so far would still end in time.
    """
    left = self._end - time.monotonic()
    if left < self._longest:
      self.values["skipped"].append(f"{name}: {max(0, left):.0f} s were left")
      return None
    began = time.monotonic()
    print(f"{name} ({left:.0f} s are left)", file=sys.stderr, flush=True)
    try:
      return work()
    except errors.UserError as e:
      self.values["skipped"].append(f"{name}: {e}".replace("\n", "; "))
      return None
    finally:
      self._longest = max(self._longest, time.monotonic() - began)


def check(plan: Plan, report: Report) -> bool:
  """Does everything; whether the accelerator agrees with the CPU."""
  agrees = _agreement(plan, report)
  _table(plan, plan.sizes[0], report)
  _whole_run(plan, report)
  for size in plan.sizes[1:]:
    _table(plan, size, report)
  report.add("done", True, f"Agreement: {'yes' if agrees else 'NO'}.")
  return agrees


def _agreement(plan: Plan, report: Report) -> bool:
  """The loss and gradient of every task, against the CPU's."""
  values = plan.config(plan.sizes[0], plan.strategies[-1])
  values |= {"batch_size": plan.compared,
             "model": values["model"] | {"unroll": 1}}
  platforms, given = plan.platforms, os.environ.get("JAX_PLATFORMS")
  if platforms is None and given:
    platforms = f"{given},cpu"        # Both are needed.
  spec = processes.ours(
      "comparison with the CPU", "agreement_process",
      {"config": values, "batch": plan.batch}, [], platforms=platforms)
  found: dict[str, Any] = {}

  def compare():
    with processes.started([spec]) as (one,):
      report.values["machine"]["accelerator"] = one.ready["device"]
      report.values["versions"] = one.ready["versions"]
      for dtype in agreement_process.BOUNDS:
        found[dtype] = one.repeat(dtype)["tasks"]
  report.attempt(spec.name, compare)
  rows = [
      [dtype, name, f"{x['value']:.4f}",
       f"{x['loss']:.1e} ({x['loss_bound']:.1e})",
       f"{x['gradient']:.1e} ({x['gradient_bound']:.1e})",
       "yes" if x["agrees"] else "NO"]
      for dtype, tasks in found.items() for name, x in tasks.items()]
  agrees = found.keys() == agreement_process.BOUNDS.keys() and all(
      row[-1] == "yes" for row in rows)
  report.add("agreement", found, "\n\n".join([
      show.machine_text(report.values["machine"]) + "; " + ", ".join(
          f"{k} {v}" for k, v in report.values.get("versions", {}).items()),
      "Differences from the CPU's float32, and what they may be:",
      show.table(["dtype", "task", "loss", "off by", "gradient off by",
                  "agrees"], rows)]))
  return agrees


def _table(plan: Plan, size: str, report: Report) -> None:
  """Steps of one size, each contestant alone."""
  configs = {
      f"mtvit, {strategy}, {layers}": _with_layers(
          plan.config(size, strategy), layers)
      for layers in plan.layers for strategy in plan.strategies}
  work = step_lib.Work(
      configs, plan.steps, plan.peer_python, plan.batch, step_lib.PEER_FORMS,
      require_gpu=plan.platforms is None)
  specs = step_lib.specs(work, plan.platforms)
  # Behind the first strategies, since it is what they are compared with.
  first = len(plan.strategies)
  specs.sort(key=lambda x: (
      first - 0.5 if x.name.startswith(step_lib.PEER)
      else list(configs).index(x.name)))
  found = processes.Found({}, {}, {})
  for spec in specs:
    one = report.attempt(f"{size}: {spec.name}", functools.partial(
        processes.measure, [spec], plan.repeats))
    if one:
      found.measured.update(one.measured)
      found.ready.update(one.ready)
      report.add(size, found._asdict(), _title(size, work) + (
          step_lib.report(work, found)))


def _title(size: str, work: step_lib.Work) -> str:
  first = next(iter(work.configs.values()))
  return (f"**{size}**, {first['model']['image_size']} px, "
          f"{first['views'] * first['batch_size']} views, "
          f"{first['model']['dtype']}:\n\n")


def _with_layers(values: dict[str, Any], layers: str) -> dict[str, Any]:
  return values | {"model": values["model"] | {
      "unroll": step_lib.LAYERS[layers]}}


def _whole_run(plan: Plan, report: Report) -> None:
  """A short run with data, if there is TensorFlow."""
  if importlib.util.find_spec("tensorflow") is None:
    report.values["skipped"].append("a whole run: TensorFlow is not installed")
    return
  spec = processes.ours(
      "a whole run", "", {}, [], platforms=plan.platforms)

  if found := report.attempt(spec.name, lambda: _run(plan, spec)):
    report.add("run", found, (
        f"A whole run, `mtvit pretrain {' '.join(plan.run)}`: "
        f"{found['wall_seconds']:.0f} s, at the end "
        f"{found['images_per_second']:,.0f} images/s with "
        f"{found['data_wait']:.0%} of the time spent waiting for data."))


def _run(plan: Plan, spec: processes.Spec) -> dict[str, Any]:
  """What a run says of itself; raises UserError if it fails."""
  with tempfile.TemporaryDirectory() as folder:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mtvit", "pretrain", *plan.run,
         f"--workdir={folder}/run"], capture_output=True, text=True,
        env=dict(spec.environment))
    if done.returncode:
      raise errors.UserError(
          f"exit code {done.returncode}: " + done.stderr.strip()[-300:])
    lines = pathlib.Path(folder, "run", "metrics.jsonl").read_text()
    last = [x for x in map(json.loads, lines.splitlines())
            if "train/images_per_second" in x][-1]
    return {"wall_seconds": time.monotonic() - began,
            "images_per_second": last["train/images_per_second"],
            "data_wait": last["train/data_wait"], "metrics": last,
            "result": reading.read_json(
                pathlib.Path(folder, "run", "result.json"))}

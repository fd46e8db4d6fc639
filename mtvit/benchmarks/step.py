"""How fast the train step is: beside timm's, and beside the chip's peak."""

import pathlib
from typing import Any, Mapping, NamedTuple, Sequence

from mtvit import config as config_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.models import variants
from mtvit.planning import gpus

PEER = "timm, contrastive"
# How the layers are compiled -> model.unroll.
LAYERS = {"unrolled": 0, "scanned": 1}
PEER_FORMS = ("compiled", "eager")


class Work(NamedTuple):
  """What is measured.

  Attributes:
    configs: contestant's name -> config as plain values; of the last the
      sizes of the contrastive head are timm's too.
    steps: of a repetition; None for what the device needs.
    peer_python: of timm's environment; None without it.
    batch: a file of `saved_batches`; None trains on noise.
    peer_forms: of timm's step, compiled or eager; empty: compiled on a GPU.
    require_gpu: timm's step takes no CPU.
  """
  configs: Mapping[str, Mapping[str, Any]]
  steps: int | None
  peer_python: pathlib.Path | None
  batch: str | None = None
  peer_forms: Sequence[str] = ()
  require_gpu: bool = False


def specs(
    work: Work, platforms: str | None = None
) -> list[processes.Spec]:
  """The contestants; see `processes.ours` on `platforms`."""
  does = ["step", "matmul"]
  made = [
      processes.ours(name, "step_process", {
          "config": config, "steps": work.steps, "batch": work.batch}, does,
          platforms=platforms)
      for name, config in work.configs.items()]
  if work.peer_python:
    *_, config = work.configs.values()
    for form in work.peer_forms or (None,):
      made.append(processes.peer(
          f"{PEER}, {form}" if form else PEER, "timm_step.py",
          work.peer_python,
          peer_settings(config) | {
              "steps": work.steps, "form": form,
              "require_gpu": work.require_gpu}, does))
  return made


def peer_settings(values: Mapping[str, Any]) -> dict[str, Any]:
  """The sizes of timm's model: ours with the contrastive task alone."""
  config = config_lib.parse(values)
  sizes, _ = variants.parse_variant(config.model.variant)
  task = values["tasks"]["contrastive"]
  return dict(
      **sizes, image_size=config.model.image_size,
      patch_size=config.model.patch_size, dtype=config.model.dtype,
      views=config.views * config.batch_size,
      **{key: task[key] for key in (
          "temperature", "num_hidden", "hidden_dim", "out_dim")})


def report(work: Work, found: processes.Found) -> str:
  """The table, in Markdown."""
  config = config_lib.parse(next(iter(work.configs.values())))
  views = config.views * config.batch_size
  accelerator = any(map(processes.on_accelerator, found.ready.values()))
  peer = next((x for x in found.measured if x.startswith(PEER)), None)
  rows = []
  for name, measured in found.measured.items():
    told, rate = found.ready[name], show.rates(measured["step"])
    row = [name, show.spread([views * x for x in rate]).text(),
           f"{1e3 / show.spread(rate).median:,.{int(accelerator)}f}"]
    row += (_on_accelerator if accelerator else _on_cpu)(
        measured, told, config.model.dtype)
    if peer:
      ratios = show.against(measured["step"], found.measured[peer]["step"])
      row += ratios[:1] if accelerator else ratios
    rows.append(row)
  columns = ["", "views/s", "ms a step"]
  columns += ([
      "TFLOP/s", "of a matmul's", "of the chip's peak", "memory, GiB",
      "program's, GiB", "compiled in, s"] if accelerator else [
      "CPU ms a step", "GFLOP/s", "of a matmul's", "peak RSS, MB",
      "compiled in, s"])
  if peer:
    columns += ["against timm"] + ["by CPU time"] * (not accelerator)
  return show.table(columns, rows)


def _on_cpu(
    measured: Mapping[str, list[dict[str, float]]], told: Mapping[str, Any],
    dtype: str
) -> list[str]:
  """Cells of a row."""
  del dtype
  flops, products = _flops(measured, told)
  return [
      f"{show.spread(show.cpu_milliseconds(measured['step'])).median:,.0f}",
      show.spread([x / 1e9 for x in flops]).text(),
      show.ratio(flops, products).text(2), show.memory(measured["step"]),
      _seconds(told)]


def _on_accelerator(
    measured: Mapping[str, list[dict[str, float]]], told: Mapping[str, Any],
    dtype: str
) -> list[str]:
  """Cells of a row; peaks are known in bfloat16 alone."""
  device = told["device"]
  flops, products = _flops(measured, told)
  peak = gpus.peak(device["kind"]) if dtype == "bfloat16" else None
  share = peak and show.spread(flops).median / (peak * device["count"])
  return [
      show.spread([x / 1e12 for x in flops]).text(1),
      show.ratio(flops, [x * device["count"] for x in products]).text(2),
      f"{share:.0%}" if share else "?",
      _gib(measured["step"][-1].get("device_bytes")),
      _gib(told.get("memory_bytes")), _seconds(told)]


def _flops(
    measured: Mapping[str, list[dict[str, float]]], told: Mapping[str, Any]
) -> tuple[list[float], list[float]]:
  """A second, in each repetition: of the step, and of large products."""
  return ([x * told["flops"] for x in show.rates(measured["step"])],
          show.rates(measured["matmul"]))


def _gib(size: float | None) -> str:
  return f"{size / 2**30:,.1f}" if size else ""


def _seconds(told: Mapping[str, Any]) -> str:
  return (f"{told['compile_seconds']:.0f}" if "compile_seconds" in told else "")


def profile_table(shares: Mapping[str, float]) -> str:
  """Where the time goes, in Markdown."""
  return show.table(
      ["instructions", "share of the time"],
      [[kind, f"{share:.0%}"] for kind, share in shares.items()])

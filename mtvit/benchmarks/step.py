"""How fast the train step is: beside timm's, and beside a matrix product."""

import pathlib
from typing import Any, Mapping, NamedTuple

from mtvit import config as config_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.models import variants

PEER = "timm, contrastive"


class Work(NamedTuple):
  """What is measured.

  Attributes:
    configs: contestant's name -> config as plain values; of the last the
      sizes of the contrastive head are timm's too.
    steps: of a repetition.
    peer_python: of timm's environment; None without it.
  """
  configs: Mapping[str, Mapping[str, Any]]
  steps: int
  peer_python: pathlib.Path | None


def specs(work: Work) -> list[processes.Spec]:
  """The contestants."""
  does = ["step", "matmul"]
  made = [
      processes.ours(name, "step_process", {
          "config": config, "steps": work.steps}, does)
      for name, config in work.configs.items()]
  if work.peer_python:
    *_, config = work.configs.values()
    made.append(processes.peer(
        PEER, "timm_step.py", work.peer_python,
        peer_settings(config) | {"steps": work.steps}, does))
  return made


def peer_settings(values: Mapping[str, Any]) -> dict[str, Any]:
  """The sizes of timm's model: ours with the contrastive task alone."""
  config = config_lib.parse(values)
  sizes, _ = variants.parse_variant(config.model.variant)
  task = values["tasks"]["contrastive"]
  return dict(
      **sizes, image_size=config.model.image_size,
      patch_size=config.model.patch_size,
      views=config.views * config.batch_size,
      **{key: task[key] for key in (
          "temperature", "num_hidden", "hidden_dim", "out_dim")})


def report(
    work: Work, measured: processes.Measured,
    ready: Mapping[str, Mapping[str, Any]]
) -> str:
  """The table, in Markdown.

  Args:
    work: what was measured.
    measured: of all contestants.
    ready: contestant -> what it told when it was warm.
  """
  config = config_lib.parse(next(iter(work.configs.values())))
  views = config.views * config.batch_size
  rate = {name: show.rates(x["step"]) for name, x in measured.items()}
  peer = PEER in measured
  rows = []
  for name, found in measured.items():
    flops = [x * ready[name]["flops"] / 1e9 for x in rate[name]]
    most = [x / 1e9 for x in show.rates(found["matmul"])]
    row = [name, show.spread([views * x for x in rate[name]]).text(),
           f"{1e3 / show.spread(rate[name]).median:,.0f}",
           f"{show.spread(show.cpu_milliseconds(found['step'])).median:,.0f}",
           show.spread(flops).text(), show.ratio(flops, most).text(2),
           show.memory(found["step"]), _seconds(ready[name])]
    rows.append(row + (show.against(
        found["step"], measured[PEER]["step"]) if peer else []))
  columns = [
      "", "views/s", "ms a step", "CPU ms a step", "GFLOP/s", "of a matmul's",
      "peak RSS, MB", "compiled in, s"]
  if peer:
    columns += ["against timm", "by CPU time"]
  return show.table(columns, rows)


def _seconds(told: Mapping[str, Any]) -> str:
  return (f"{told['compile_seconds']:.0f}" if "compile_seconds" in told else "")


def profile_table(shares: Mapping[str, float]) -> str:
  """Where the time goes, in Markdown."""
  return show.table(
      ["instructions", "share of the time"],
      [[kind, f"{share:.0%}"] for kind, share in shares.items()])

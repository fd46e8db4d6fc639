"""What a study will take: runs, FLOPs and hours."""

import copy
from typing import Any, Mapping, NamedTuple

from mtvit import config as config_lib
from mtvit.benchmarks import show
from mtvit.checkpoints import fingerprint
from mtvit.study import arms
from mtvit.study import cost
from mtvit.study import rows
from mtvit.training import cost as flops_lib

MEASURED_IMAGES = 64     # At most, of the step that is measured.


class Line(NamedTuple):
  """What the runs of an arm take.

  Attributes:
    arm: its name.
    runs: of it.
    left: those without a row.
    steps: of a run; 0 if a run's length is in epochs.
    flops: of a step.
    seconds: of a run.
  """
  arm: str
  runs: int
  left: int
  steps: int
  flops: float
  seconds: float


def speed(study: arms.Study) -> float:
  """FLOPs a second, of a step that is measured on this machine."""
  arm = study.arm(study.cost_against or study.arms[0].name)
  config = copy.deepcopy(study.resolve(arm))
  config["batch_size"] = min(config["batch_size"], MEASURED_IMAGES)
  found = cost.measure(
      {arm.name: config}, arm.name, cost.Rounds(repeats=3))["arms"][arm.name]
  return found["flops_step"] / found["seconds_step"]


def lines(
    study: arms.Study, table: rows.Table, flops_a_second: float
) -> list[Line]:
  """What each arm takes; by its rows, if it has some."""
  known: dict[str, float] = {}
  result = []
  for arm in study.arms:
    config = study.resolve(arm)
    done = [x for x in table.done().values() if x.arm == arm.name]
    steps = config["total_steps"] if arm.train else 0
    flops = _flops(config, known)
    seconds = (sum(sum(x.seconds.values()) for x in done) / len(done) if done
               else steps * flops / flops_a_second)
    runs = study.num_seeds(arm)
    result.append(Line(
        arm.name, runs, runs - len(done), steps, flops, seconds))
  return result


def _flops(config: Mapping[str, Any], known: dict[str, float]) -> float:
  """Of a step; counted once for arms whose steps are alike."""
  alike = {key: x for key, x in config.items() if key not in (
      "total_steps", "total_epochs", "diagnose_every", "optimizer")}
  key = fingerprint.of_json(alike)
  if key not in known:
    known[key] = flops_lib.flops(config_lib.parse(config))
  return known[key]


def text(found: list[Line], flops_a_second: float) -> str:
  """The plan as Markdown."""
  cells = [[x.arm, str(x.runs), str(x.left), f"{x.steps:,}",
            f"{x.flops / 1e9:,.1f}", f"{x.steps * x.flops / 1e15:,.3f}",
            f"{x.left * x.seconds / 3600:,.2f}"] for x in found]
  total = ["all", str(sum(x.runs for x in found)),
           str(sum(x.left for x in found)), "", "",
           f"{sum(x.runs * x.steps * x.flops for x in found) / 1e15:,.3f}",
           f"{sum(x.left * x.seconds for x in found) / 3600:,.2f}"]
  return show.table(
      ["arm", "runs", "left", "steps", "GFLOPs a step", "PFLOPs a run",
       "hours left"], [*cells, total]) + (
           f"\n\nBy a measured step, {flops_a_second / 1e9:,.1f} GFLOPs a "
           "second. Arms without a row are counted without their evaluation.")

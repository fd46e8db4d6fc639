"""What a run says of itself: its parameters, its table, its JSON files."""

import importlib.metadata
import json
import resource
import sys
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from clu import parameter_overview
from etils import epath
import jax

from mtvit.run import distributed
from mtvit.run import files
from mtvit.run import reading

if TYPE_CHECKING:
  from mtvit.data import datasets
  from mtvit.tasks import base


def save_json(file: epath.Path, value: Any) -> None:
  """Writes JSON for people to read, on the first process."""
  if distributed.is_main():
    files.write(file, json.dumps(value, indent=2) + "\n")


def save_sealed(file: epath.Path, value: Mapping[str, Any]) -> None:
  """The same with a digest: who reads it sees whether it was damaged."""
  save_json(file, reading.sealed(value))


def save_result(
    workdir: epath.Path, scores: Mapping[str, float], steps: int,
    seconds: float
) -> dict[str, Any]:
  """Writes and returns what `result.json` holds."""
  result = dict(scores) | {
      "steps": steps, "seconds": seconds, "peak_memory_bytes": peak_memory(),
      "versions": {name: importlib.metadata.version(name) for name in (
          "jax", "flax", "optax", "orbax-checkpoint")}}
  save_sealed(workdir / "result.json", result)
  return result


def peak_memory() -> int:
  """The most memory of the host that this process has held, bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else 1024 * peak


def overview(
    workdir: epath.Path, train: "datasets.Source", params: Any
) -> str:
  """Writes the parameter table to `parameters.txt`; one line for the log."""
  if distributed.is_main():
    files.write(
        workdir / "parameters.txt",
        parameter_overview.get_parameter_overview(
            params, include_stats=False))
  return (
      f"{workdir}: {train.name}, {train.num_examples} images ({train.kind}), "
      f"{len(train.classes) or 'no'} classes; "
      f"{parameter_overview.count_parameters(params):,} parameters; "
      f"{jax.device_count()} {jax.devices()[0].platform} device(s)")


def summary(
    tasks: "Sequence[base.Task]", scores: Mapping[str, float],
    pictures: Sequence[epath.Path]
) -> str:
  """What ends a run: whether it is good, then its tables."""
  columns = {"loss": "{}/loss", "skill": "{}/skill",
             "held out": "heldout/{}/skill", "accuracy": "{}/accuracy"}
  if not _named("heldout/", scores):
    del columns["held out"]
  lines = ["", *verdicts(scores), "",
           f"{'task':20} " + " ".join(f"{x:>8}" for x in columns)]
  for task in tasks:
    if task.trains:
      lines.append(f"{task.name:20} " + " ".join(
          _cell(scores.get(key.format(task.name)), 8)
          for key in columns.values()))
  for task in tasks:
    key = f"{task.name}/final_accuracy"
    if key in scores:
      lines += ["", f"{task.name}: accuracy on the test images "
                f"{scores[key]:.3f} (95 %: {scores[f'{key}_low']:.3f} to "
                f"{scores[f'{key}_high']:.3f})"]
  lines += _beside_random("kNN accuracy", "knn/", scores)
  lines += _beside_random("finds the other view", "retrieval/", scores)
  if not _named("knn/", scores):
    lines += _beside_random("dimensions (RankMe)", "rankme/", scores)
  return "\n".join(lines + ["", "pictures:"] + [f"  {p}" for p in pictures])


def verdicts(scores: Mapping[str, float]) -> list[str]:
  """How good the features are beside those of random parameters, in words."""
  lines = []
  for key, what in (("knn/accuracy", "kNN accuracy"),
                    ("retrieval/top1", "finds another view of an image")):
    if key in scores and f"{key}_random_init" in scores:
      now, before = scores[key], scores[f"{key}_random_init"]
      gain = round(100 * (now - before), 1)
      than = (f"{abs(gain)} points {'better' if gain > 0 else 'worse'} than"
              if gain else "no better than")
      lines.append(f"Is it good? {what} {now:.3f}, random init {before:.3f} on "
                   f"the same images: {than} random init")
  return lines


def _named(prefix: str, scores: Mapping[str, float]) -> list[str]:
  return [key for key in scores if key.startswith(prefix)]


def _beside_random(
    title: str, prefix: str, scores: Mapping[str, float]
) -> list[str]:
  """A table of what there is for random parameters too."""
  keys = [key for key in _named(prefix, scores)
          if f"{key}_random_init" in scores]
  if not keys:
    return []
  chance = scores.get(f"{prefix}chance")
  return ["", f"{title:20} {'trained':>8} {'random init':>12}"
          + ("" if chance is None else f"   (chance {chance:.4f})")] + [
              f"{key:20} {_cell(scores[key], 8)} "
              f"{_cell(scores[f'{key}_random_init'], 12)}" for key in keys]


def _cell(value: float | None, width: int) -> str:
  return f"{'' if value is None else format(value, '.3f'):>{width}}"

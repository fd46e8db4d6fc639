"""What a run's own files say of its training, and digests of what it made."""

import hashlib
from typing import TYPE_CHECKING, Mapping, Sequence

import jax
import numpy as np

from mtvit import config as config_lib
from mtvit.diagnostics import gradients
from mtvit.models import parameter_names
from mtvit.study.measures import common
from mtvit.tasks import base
from mtvit.training import cost
from mtvit.training import inputs

if TYPE_CHECKING:
  from mtvit.data import datasets

THIRDS = ("early", "middle", "late")       # Of training.


def training(run: common.Run, sizes: common.Measures) -> common.Found:
  """What the run's own metrics say, and what its steps take."""
  del sizes
  found = cosines(run.lines, run.parts.total_steps)
  rates = [line["train/images_per_second"] for line in run.lines
           if "train/images_per_second" in line]
  if rates:
    found["seconds_step"] = run.config.batch_size / float(np.median(rates))
  return found | {
      "steps": int(run.state.step), "skipped": int(run.state.skipped),
      "flops_step": cost.flops(run.config)}


def cosines(
    lines: Sequence[Mapping[str, float]], total_steps: int
) -> common.Found:
  """Means of the cosines of gradients in each third of training.

  Args:
    lines: of `metrics.read`.
    total_steps: of the run.
  """
  seen: dict[str, list[float]] = {}
  for line in lines:
    third = THIRDS[3 * (int(line["step"]) - 1) // total_steps]
    for key, value in line.items():
      group, _, pair = key.removeprefix("gradients/").partition("/cosine/")
      if pair and group in gradients.GROUPS:
        name = f"gradients/{third}/{group}/{pair.replace('/', '~')}"
        seen.setdefault(name, []).append(value)
  return {key: float(np.mean(x)) for key, x in seen.items()}


def digests(run: common.Run, sizes: common.Measures) -> common.Found:
  """Of the pixels of three batches, and of the parameters."""
  del sizes
  params = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(
      jax.device_get(run.state.params)):
    params.update(
        f"{parameter_names.path_name(path)} {x.dtype} {x.shape}".encode())
    params.update(x.tobytes())
  return {"digest": params.hexdigest(), "images_digest": images_digest(
      run.config, run.parts.tasks, run.subject.train, run.parts.total_steps)}


def images_digest(
    config: config_lib.Config, tasks: Sequence[base.Task],
    train: "datasets.Source", total_steps: int
) -> str:
  """SHA-256 of what the encoder sees in the first two steps and the last."""
  digest, last = hashlib.sha256(), total_steps - 1
  for start, stop in ((0, min(2, last)), (last, total_steps)):
    for batch in inputs.global_batches(config, tasks, train, start, stop):
      for _, views in sorted(batch["passes"].items()):
        digest.update(np.asarray(views["image"]).tobytes())
  return digest.hexdigest()

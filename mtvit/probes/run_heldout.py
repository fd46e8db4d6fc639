"""The evaluator `heldout`: what the tasks' own heads can do on other images."""

import dataclasses
from typing import TYPE_CHECKING, Callable

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit import errors
from mtvit.probes import without_labels
from mtvit.run import console
from mtvit.training import assembly
from mtvit.training import evaluation
from mtvit.training import sharding
from mtvit.training import train_state

if TYPE_CHECKING:
  from mtvit.data import datasets


class Skills:
  """What heads say of corrupted views of images that were not trained on.

  They are batches as those that the run trains on, if there are images enough;
  a smaller one makes it easier to tell its images apart. They are the same for
  all seeds. Nothing is updated: neither parameters nor what tasks carry from
  step to step.

  Attributes:
    names: of the tasks that train.
  """

  def __init__(
      self, parts: assembly.Parts, source: "datasets.Source", num_images: int
  ):
    """Prepares the batches.

    Args:
      parts: of the run.
      source: of the images.
      num_images: so many at most.

    Raises:
      ConfigError: there are too few for a batch.
    """
    images = source.num_examples
    size = _batch_size(parts, images)
    if not size:
      raise errors.ConfigError(
          f"{source.name}: {images:,} images make no batch", "more images")
    self._parts = assembly.create(
        dataclasses.replace(parts.config, batch_size=size, seed=0), parts.mesh,
        source, parts.statistics, total_steps=max(
            1, min(num_images, images) // size))
    objective = self._parts.objective
    self.names = [task.name for task in objective.tasks]
    # As a function of its own it is compiled when it is first needed.
    self._metrics = jax.jit(
        lambda state, batch: objective.losses(
            state.params, state, batch, train=False)[1][0],
        out_shardings=NamedSharding(parts.mesh, P()))

  def __call__(
      self, state: train_state.TrainState,
      should_stop: Callable[[], bool] = lambda: False
  ) -> dict[str, float]:
    """`<task>/loss` and `<task>/skill`, means; nothing if it is to stop."""
    found = []
    for batch in self._parts.batches.since(0):
      if should_stop():
        return {}
      found.append(jax.device_get(self._metrics(
          state, sharding.global_batch(batch, self._parts.mesh))))
    return {f"{name}/{what}": float(np.mean([
        metrics[f"{name}/{what}"] for metrics in found]))
            for what in ("loss", "skill") for name in self.names}


class HeldOut(without_labels.WithoutLabels):
  """`heldout/<task>/skill`, of `Skills`."""

  name = "heldout"
  at_end = "run"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    if not self.looks:
      return
    parts, images = context.parts, context.test.num_examples
    if not _batch_size(parts, images):
      console.note(
          f"{context.test.name}: {images:,} images make no batch, so that the "
          "tasks' skills on held-out images are left out")
      self.every, self.at_end = 0, "nothing"
      return
    self._skills = Skills(parts, context.test, self.section.num_images)
    names = self._skills.names
    shown = "contrastive" if "contrastive" in names else names[0]
    self.title, self.headline = f"held out, {shown}", f"heldout/{shown}/skill"

  def run(self, look: evaluation.Look) -> evaluation.Found:
    found = self._skills(look.state, self.context.should_stop)
    return evaluation.Found({
        f"heldout/{key}": x for key, x in found.items()
        if key.endswith("/skill")})


def _batch_size(parts: assembly.Parts, images: int) -> int:
  """The run's, or a half of it, or a quarter, ...; 0 if none can be.

  A half, since a queue is a multiple of the batch.
  """
  size, unit = parts.config.batch_size, assembly.batch_unit(
      parts.config, parts.mesh)
  while size > images:
    if size % (2 * unit) or size < 4:
      return 0
    size //= 2
  return size

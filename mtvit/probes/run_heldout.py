"""The evaluator `heldout`: what the tasks' own heads can do on other images."""

import dataclasses

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit.probes import without_labels
from mtvit.run import console
from mtvit.training import assembly
from mtvit.training import evaluation
from mtvit.training import sharding


class HeldOut(without_labels.WithoutLabels):
  """`heldout/<task>/skill`: on corrupted views of images not trained on.

  They are batches as those that the run trains on, if there are images enough;
  a smaller one makes it easier to tell its images apart. Nothing is updated:
  neither parameters nor what tasks carry from step to step.
  """

  name = "heldout"
  at_end = "run"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    if not self.looks:
      return
    parts, images = context.parts, context.test.num_examples
    size = _batch_size(parts, images)
    if not size:
      console.note(
          f"{context.test.name}: {images:,} images make no batch, so that the "
          "tasks' skills on held-out images are left out")
      self.every, self.at_end = 0, "nothing"
      return
    self._parts = assembly.create(
        dataclasses.replace(parts.config, batch_size=size, seed=0), parts.mesh,
        context.test, parts.statistics, total_steps=max(
            1, min(self.section.num_images, images) // size))
    objective = self._parts.objective
    self._names = [task.name for task in objective.tasks]
    shown = "contrastive" if "contrastive" in self._names else self._names[0]
    self.title, self.headline = f"held out, {shown}", f"heldout/{shown}/skill"
    # As a function of its own it is compiled when it is first needed.
    self._metrics = jax.jit(
        lambda state, batch: objective.losses(
            state.params, state, batch, train=False)[1][0],
        out_shardings=NamedSharding(parts.mesh, P()))

  def run(self, look: evaluation.Look) -> evaluation.Found:
    found: list[dict[str, float]] = []
    for batch in self._parts.batches.since(0):
      if self.context.should_stop():
        return evaluation.Found()
      batch = sharding.global_batch(batch, self._parts.mesh)
      metrics = self._metrics(look.state, batch)
      found.append({
          name: float(metrics[f"{name}/skill"]) for name in self._names})
    return evaluation.Found({
        f"heldout/{name}/skill": float(np.mean([x[name] for x in found]))
        for name in self._names})


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

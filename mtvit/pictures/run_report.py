"""The evaluator `report`: pictures of a run, while it trains and at its end."""

import functools
import pathlib
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit.pictures import choice
from mtvit.pictures import curves
from mtvit.pictures import panels
from mtvit.run import metrics as metrics_lib
from mtvit.training import evaluation
from mtvit.training import inputs
from mtvit.training import train_step

PREDICTED_VIEWS = 256  # Pictures are made from so many views at most.
SHOWN = 6              # Images of them, for each task.
LOOKS = 10             # During training, at most: TensorBoard shows so many.


class Report(evaluation.Evaluator):
  """Curves, cosines of gradients, and each task's predictions.

  The views are the same each time, so that TensorBoard shows them change.
  """

  name = "report"
  at_end = "run"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    every = context.config.knn.every_steps
    # A multiple, so that what is seen at these steps is in the curves.
    self.every = every and every * max(
        1, -(-context.parts.total_steps // (every * LOOKS)))

  def run(self, look: evaluation.Look) -> evaluation.Found:
    parts = self.context.parts
    batch = self._batch
    _, predicted = self._predict(
        {"params": look.state.params}, train_step.model_inputs(batch))

    def draw(folder: pathlib.Path) -> list[pathlib.Path]:
      lines = metrics_lib.read(self.context.workdir / metrics_lib.METRICS)
      file = folder / "curves.png"
      curves.save_curves(lines, file)
      return [
          file,
          *panels.save_gradients(lines, folder / "gradients.png"),
          *panels.save_predictions(
              batch, jax.device_get(predicted), parts.tasks,
              parts.config.model.patch_size, folder, SHOWN,
              f" after step {look.step}")]

    return evaluation.Found(draw=draw)

  @functools.cached_property
  def _batch(self) -> Any:
    """Views of the first training batch, those to be shown first."""
    parts = self.context.parts
    batch = inputs.sample(parts.config, parts.tasks, self.context.train)
    rows = min(len(batch["index"]), PREDICTED_VIEWS)
    batch = jax.tree.map(lambda x: np.asarray(x[:rows]), batch)
    views = next(iter(batch["passes"].values()))["image"]
    chosen = choice.rows(
        choice.order(views, parts.config.views), parts.config.views)
    return jax.tree.map(lambda x: x[chosen], batch)

  @functools.cached_property
  def _predict(self) -> Any:
    parts = self.context.parts
    return jax.jit(
        parts.model.apply, out_shardings=NamedSharding(parts.mesh, P()))

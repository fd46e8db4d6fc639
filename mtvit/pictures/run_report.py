"""The evaluator `report`: the pictures that a run leaves at its end."""

import pathlib

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit.pictures import curves
from mtvit.pictures import panels
from mtvit.run import metrics as metrics_lib
from mtvit.training import evaluation
from mtvit.training import inputs
from mtvit.training import train_step

PREDICTED_VIEWS = 256  # Pictures are made from so many views at most.
SHOWN_VIEWS = 8        # Of them, for each task.


class Report(evaluation.Evaluator):
  """Loss curves, cosines of gradients, and each task's predictions."""

  name = "report"
  at_end = "run"

  def run(self, look: evaluation.Look) -> evaluation.Found:
    parts = self.context.parts
    batch = inputs.sample(parts.config, parts.tasks, self.context.train)
    rows = min(len(batch["index"]), PREDICTED_VIEWS)
    batch = jax.tree.map(lambda x: np.asarray(x[:rows]), batch)
    _, predicted = jax.jit(
        parts.model.apply, out_shardings=NamedSharding(parts.mesh, P()))(
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
              parts.config.model.patch_size, folder, SHOWN_VIEWS)]

    return evaluation.Found(draw=draw)

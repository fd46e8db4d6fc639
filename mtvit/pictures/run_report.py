"""The pictures that a run leaves at its end."""

from typing import Any

from etils import epath
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit.pictures import panels
from mtvit.run import distributed
from mtvit.run import metrics as metrics_lib
from mtvit.run import paths
from mtvit.training import train_step

PREDICTED_VIEWS = 256  # Pictures are made from so many views at most.


def save_report(
    workdir: epath.Path, model: Any, params: Any,
    batch: dict[str, Any], mesh: jax.sharding.Mesh, num_views: int = 8
) -> list[epath.Path]:
  """Draws loss curves and each task's predictions into `report/`.

  Args:
    workdir: of the run.
    model: a `Pretrainer`.
    params: its parameters.
    batch: a corrupted batch, in numpy, from the training pipeline.
    mesh: of the run.
    num_views: so many of its views are shown for each task.
  """
  folder = workdir / "report"
  rows = min(len(batch["index"]), PREDICTED_VIEWS)
  batch = jax.tree.map(lambda x: np.asarray(x[:rows]), batch)
  _, predicted = jax.jit(
      model.apply, out_shardings=NamedSharding(mesh, P()))(
          {"params": params}, train_step.model_inputs(batch))
  if not distributed.is_main():
    return []
  lines = metrics_lib.read(workdir / metrics_lib.METRICS)
  with paths.on_disk(folder) as disk:
    files = [disk / "curves.png"]
    panels.save_curves(lines, files[0])
    files += panels.save_gradients(lines, disk / "gradients.png")
    files += panels.save_predictions(
        batch, jax.device_get(predicted), model.tasks,
        model.config.patch_size, disk, num_views)
  return [folder / file.name for file in files]

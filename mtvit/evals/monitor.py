"""What a run evaluates by itself: kNN during and after, and its pictures."""

import pathlib
from typing import Any, Callable

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np
from etils import epy

from mtvit import config as config_lib
from mtvit import distributed
from mtvit import metrics as metrics_lib
from mtvit import train_step
from mtvit.evals import features as features_lib
from mtvit.evals import knn
from mtvit.evals import pictures

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline

PREDICTED_VIEWS = 256  # Pictures are made from so many views at most.
EVAL_BATCH = 256      # Images at most; a multiple of the devices.


class Knn:
  """kNN accuracy of a run's encoder on its own data."""

  def __init__(
      self, config: config_lib.Config, model: Any, mesh: jax.sharding.Mesh,
      train: "datasets.Source", test: "datasets.Source",
      should_stop: Callable[[], bool]
  ):
    """Binds what does not change.

    Args:
      config: of the run.
      model: a `Pretrainer`.
      mesh: of the run.
      train: whose images are the neighbours.
      test: whose images are classified.
      should_stop: asked before each batch; True ends an evaluation early.
    """
    self._config = config
    self._mesh = mesh
    self._sources = (train, test)
    self._extract = features_lib.extractor(model, mesh)
    self._should_stop = should_stop
    devices = mesh.size
    most = max(source.num_examples for source in self._sources)
    self._batch = -(-min(EVAL_BATCH, most) // devices) * devices

  def during(self, state: Any) -> dict[str, float]:
    """On the limited number of images."""
    knn_config = self._config.knn
    return self._scores(
        state.params, knn_config.num_train, knn_config.num_test)

  def final(self, params: Any) -> dict[str, float]:
    """On the number of images for the end."""
    knn_config = self._config.knn
    return self._scores(
        params, knn_config.final_num_train, knn_config.final_num_test)

  def _scores(
      self, params: Any, num_train: int, num_test: int
  ) -> dict[str, float]:
    """`knn/accuracy` of the chosen readout, and `knn/<readout>` of all.

    Empty if the data have no labels, or if it was told to stop.
    """
    sets = [
        features_lib.extract(
            params, pipeline.eval_batches(
                source, self._config.model.image_size, self._batch,
                limit or None, self._config.input == "gray"),
            self._extract, self._mesh, self._should_stop)
        for source, limit in zip(self._sources, (num_train, num_test))]
    (train, train_labels), (test, test_labels) = sets
    if self._should_stop() or min(train_labels.min(), test_labels.min()) < 0:
      return {}
    scores = {
        f"knn/{name}": knn.accuracy(
            train[name], train_labels, test[name], test_labels,
            k=self._config.knn.k, temperature=self._config.knn.temperature,
            should_stop=self._should_stop)
        for name in train}
    if self._should_stop():
      return {}
    return {
        "knn/accuracy": scores[f"knn/{self._config.knn.readout}"]} | scores


def save_report(
    workdir: pathlib.Path, model: Any, params: Any,
    batch: dict[str, Any], mesh: jax.sharding.Mesh, num_views: int = 8
) -> list[pathlib.Path]:
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
  pictures.save_curves(lines, folder / "curves.png")
  files = [folder / "curves.png"]
  files += pictures.save_gradients(lines, folder / "gradients.png")
  return files + pictures.save_predictions(
      batch, jax.device_get(predicted), model.tasks,
      model.config.patch_size, folder, num_views)

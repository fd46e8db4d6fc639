"""What a run evaluates by itself, during and after."""

from typing import Any, Callable, Iterator

from etils import epy
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit import config as config_lib
from mtvit.diagnostics import rank
from mtvit.models import parameter_names
from mtvit.probes import bootstrap
from mtvit.probes import features as features_lib
from mtvit.probes import knn

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline

RANK_IMAGES = 2048     # Test images at most, evenly spaced, for the ranks.


class Scorer:
  """Scores of a run on its own data: kNN of the encoder, and its classifiers.

  A classifier is a task whose head reads one readout; only such a head answers
  for a clean image.
  """

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
    self._train, self._test = train, test
    self._extract = features_lib.extractor(model, mesh)
    self._should_stop = should_stop
    self._batch = features_lib.batch_size(
        max(train.num_examples, test.num_examples), mesh)
    self._classifiers = {
        task.name: _classifier(model, task, mesh)
        for task in model.tasks if task.trains and task.readout}

  def during(self, state: Any) -> dict[str, float]:
    """On the limited number of images."""
    knn_config = self._config.knn
    scores = self._knn(state.params, knn_config.num_train, knn_config.num_test)
    for name, right in self._right(state.params, knn_config.num_test):
      scores[f"{name}/test_accuracy"] = float(right.mean())
    return {} if self._should_stop() else scores

  def final(self, params: Any, at_random: Any) -> dict[str, float]:
    """On the number of images for the end.

    Args:
      params: of the model.
      at_random: its first ones, for kNN to compare with.

    Returns:
      What `during` returns, kNN at random too as `<key>_random_init`, and
      `<task>/final_accuracy` with a 95 % bootstrap interval, `_low`, `_high`.
    """
    sizes = (self._config.knn.final_num_train, self._config.knn.final_num_test)
    scores = self._knn(params, *sizes)
    first = self._knn(at_random, *sizes)
    scores |= {f"{key}_random_init": x for key, x in first.items()}
    for name, right in self._right(params, sizes[1]):
      low, high = bootstrap.interval(right)
      key = f"{name}/final_accuracy"
      scores |= {key: float(right.mean()), f"{key}_low": low,
                 f"{key}_high": high}
    return {} if self._should_stop() else scores

  def _batches(self, source: "datasets.Source", limit: int) -> Iterator[Any]:
    return pipeline.eval_batches(
        source, self._config.model.image_size, self._batch, limit or None,
        self._config.input == "gray")

  def _knn(
      self, params: Any, num_train: int, num_test: int
  ) -> dict[str, float]:
    """`knn/accuracy` of the chosen readout, `knn/<readout>` of all, and ranks.

    `rankme/<readout>` warns of collapse. No kNN if the data have no labels;
    nothing if it was told to stop.
    """
    if not self._config.knn.k:
      return {}
    sets = [
        features_lib.extract(
            params, self._batches(source, limit), self._extract, self._mesh,
            self._should_stop)
        for source, limit in (
            (self._train, num_train), (self._test, num_test))]
    (train, train_labels), (test, test_labels) = sets
    if self._should_stop():
      return {}
    ranks = {f"rankme/{name}": rank.rankme(x[::-(-len(x) // RANK_IMAGES)])
             for name, x in test.items() if np.isfinite(x).all()}
    if min(train_labels.min(), test_labels.min()) < 0:
      return ranks
    scores = {
        f"knn/{name}": knn.accuracy(
            train[name], train_labels, test[name], test_labels,
            k=self._config.knn.k, temperature=self._config.knn.temperature,
            should_stop=self._should_stop)
        for name in train}
    if self._should_stop():
      return {}
    return {"knn/accuracy": scores[f"knn/{self._config.knn.readout}"],
            **scores, **ranks}

  def _right(
      self, params: Any, limit: int
  ) -> Iterator[tuple[str, np.ndarray]]:
    """Each classifier's name, and for each test image if it is right."""
    for name, classify in self._classifiers.items():
      found, labels = features_lib.extract(
          params, self._batches(self._test, limit), classify, self._mesh,
          self._should_stop)
      if found and labels.min() >= 0:
        yield name, found["class"][:, 0] == labels


def _classifier(
    model: Any, task: Any, mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
  """A jitted (params, image [b, h, w, 3]) -> `class` int32 [b, 1]."""
  encoder, head = model.encoder(), task.head()

  def classify(params, image):
    features = encoder.apply({"params": params["encoder"]}, image)
    logits = head.apply(
        {"params": params[parameter_names.head(task.name)]}, features, {})
    return {"class": logits.argmax(-1)[:, None]}            # [b, 1]

  return jax.jit(classify, out_shardings=NamedSharding(mesh, P()))

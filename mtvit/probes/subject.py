"""What is evaluated: an encoder, the images, and the features of these.

All stages of an evaluation share it, so that nothing is extracted twice.
"""

import dataclasses
import functools
from typing import Any, Callable, NamedTuple

from etils import epath
from etils import epy
import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.models import interface
from mtvit.probes import feature_cache
from mtvit.probes import frozen
from mtvit.probes import options as options_lib
from mtvit.run import distributed

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.run import console


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
  """An encoder, trained or at random init, and the images to test it on.

  Attributes:
    encoder: to evaluate.
    mesh: where it runs.
    train: the training split.
    test: the test split.
    folder: of the cache of features.
    options: of the evaluation, settled.
  """
  encoder: encoder_lib.Encoder
  mesh: jax.sharding.Mesh
  train: "datasets.Source"
  test: "datasets.Source"
  folder: epath.Path
  options: options_lib.Options

  @functools.cached_property
  def params(self) -> interface.Params:
    """The encoder's, on the mesh."""
    return jax.device_put(
        self.encoder.params, NamedSharding(self.mesh, P()))

  @property
  def layer(self) -> int:
    """Whose features are tested."""
    layer, depth = self.options.layer, self.encoder.module.depth
    return depth if layer is None else layer

  @functools.cached_property
  def train_features(self) -> frozen.Split:
    """Of the training split, readouts [n, d]; labels may be shuffled.

    Raises:
      NonFiniteError: features are not finite.
    """
    return self._shuffled(self._of_layer(self.train, self.options.num_train))

  @functools.cached_property
  def test_features(self) -> frozen.Split:
    """Of the test split; raises as `train_features` does."""
    return self._of_layer(self.test, self.options.num_test)

  def extract(self) -> None:
    """Extracts both now."""
    _ = self.train_features, self.test_features

  def layer_features(self) -> frozen.Split:
    """Of some training images, of all layers: readouts [layers, n, d]."""
    wanted, most = self.options.layer_images, self.options.num_train
    count = (wanted or 0) * 6 // 5       # Five sixths to fit, one to validate.
    return self._shuffled(self._extracted(
        self.train, min(most or count, count),
        list(range(self.encoder.module.depth + 1))))

  def _of_layer(self, source: "datasets.Source", limit: int) -> frozen.Split:
    if self.layer == self.encoder.module.depth:
      return self._extracted(source, limit, None)
    split = self._extracted(source, limit, [self.layer])
    return frozen.Split(
        {name: x[0] for name, x in split.features.items()}, split.labels)

  def _extracted(
      self, source: "datasets.Source", limit: int, layers: list[int] | None
  ) -> frozen.Split:
    split = self._cached(source, limit, layers)
    return frozen.Split(
        frozen.with_pairs(split.features, self.encoder.readouts), split.labels)

  def _shuffled(self, split: frozen.Split) -> frozen.Split:
    if not self.options.shuffle_labels:
      return split
    return frozen.Split(split.features, np.random.default_rng(0).permutation(
        split.labels))

  @functools.cached_property
  def _cached(self) -> feature_cache.Extractor:
    return feature_cache.Extractor(
        self.encoder, self.params, self.mesh, self.folder, _say)


def check_labels(subject: Subject) -> None:
  """Raises DataError if images have no label, or no class has two of them."""
  for source, split in ((subject.train, subject.train_features),
                        (subject.test, subject.test_features)):
    if split.labels.min() < 0:
      raise errors.DataError(
          f"{source.name} has images without a label", "use another split")
  if not frozen.validation(subject.train_features.labels).any():
    raise errors.DataError(
        f"{subject.train.name}: no class has two training images, and none can "
        "be kept for validation", "use more images")


class Stage(NamedTuple):
  """One step of an evaluation.

  Attributes:
    name: in the lines that say how far it is.
    place: keys under which what it finds stands in evaluation.json, and again
      under `random_init`.
    run: finds it.
    needs_labels: it is left out where there are none.
    compared: it is done for random init too.
    deepened: --thorough finds more.
  """
  name: str
  place: tuple[str, ...]
  run: Callable[[Subject], Any]
  needs_labels: bool = False
  compared: bool = True
  deepened: bool = False


def _say(text: str) -> None:
  if distributed.is_main():
    console.note(text)

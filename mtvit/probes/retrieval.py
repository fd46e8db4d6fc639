"""Instance retrieval: whether features know an image by another view of it.

Two views of each held-out image are drawn by a run's own augmentation, without
the corruption of patches; then each is to find the other among those of all
images. That is classification by the nearest neighbour in which every image
is a class, the instance discrimination of Wu et al. 2018 (arXiv:1805.01978). It
says how far features have come, and is no measure of how good they are: an
augmentation that is hard to see through makes it hard.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from etils import epy
import jax
import numpy as np

from mtvit import config as config_lib
from mtvit.probes import features
from mtvit.probes import knn
from mtvit.training import inputs

with epy.lazy_imports():
  from mtvit.data import pipeline

if TYPE_CHECKING:
  from mtvit.data import datasets

NUM_IMAGES = 2000


class Views:
  """Two views of some images, the same whenever they are asked for.

  Attributes:
    count: images.
  """

  def __init__(
      self, config: config_lib.Config, source: "datasets.Source",
      mesh: jax.sharding.Mesh, num_images: int = NUM_IMAGES
  ):
    """Chooses the images.

    Args:
      config: of a run; its augmentation and its kind of input.
      source: of the images.
      mesh: which takes the batches.
      num_images: at most.
    """
    self.count = min(num_images, source.num_examples)
    self._rows = features.batch_size(self.count, mesh)
    config = dataclasses.replace(
        config, batch_size=self._rows, views=2, seed=0)
    self._batches = pipeline.Batches(
        source, inputs.pipeline_spec(config, ()), 0,
        -(-self.count // self._rows))

  def batches(self) -> Iterator[dict[str, np.ndarray]]:
    """For `features.extract`, the two views of an image adjacent."""
    for step, batch in enumerate(self._batches.since(0)):
      place = step * self._rows + np.arange(self._rows)
      # What follows the last image is of another epoch.
      valid = np.repeat(place < self.count, 2) & ~batch["replaced"]
      yield {"image": batch["input"], "label": batch["label"],
             "index": batch["index"], "valid": valid}


def scores(found: Mapping[str, Any]) -> dict[str, float]:
  """Readout -> `top1`, from features [2 n, d] of `Views`."""
  return {name: top1(x[::2], x[1::2]) for name, x in found.items()}


def top1(one: np.ndarray, other: np.ndarray) -> float:
  """Share of rows that are nearest to the row of the same number, by cosine.

  Args:
    one: [n, d] features; each row looks among all of `other`, and conversely.
    other: [n, d].
  """
  numbers = np.arange(len(one))
  ways = [(one, other), (other, one)]
  return float(np.mean([
      knn.accuracy(among, numbers, queries, numbers, k=1, temperature=1.0)
      for among, queries in ways]))

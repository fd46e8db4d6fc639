"""The evaluator `retrieval`: whether features know an image by another view.

Two views of each held-out image are drawn by the run's own augmentation,
without the corruption of patches; then each is to find the other among those of
all images. That is classification by the nearest neighbour in which every image
is a class, the instance discrimination of Wu et al. 2018 (arXiv:1805.01978). It
says how far features have come, and is no measure of how good they are: an
augmentation that is hard to see through makes it hard.
"""

import dataclasses
from typing import Iterator

from etils import epy
import numpy as np

from mtvit.probes import features
from mtvit.probes import knn
from mtvit.probes import without_labels
from mtvit.training import evaluation
from mtvit.training import inputs

with epy.lazy_imports():
  from mtvit.data import pipeline


class Retrieval(without_labels.WithoutLabels):
  """`retrieval/top1` of the chosen readout and `retrieval/<readout>` of all.

  Shares of views whose other view is the nearest by cosine. `retrieval/chance`
  is 1 / the number of images. The images and their views are the same in every
  look, and in every run with such data and such an augmentation.
  """

  name = "retrieval"
  title = "retrieval"
  headline = "retrieval/top1"
  at_end = "compare"
  same_images = True

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    if not self.looks:
      return
    mesh, test = context.parts.mesh, context.test
    self._count = min(self.section.num_images, test.num_examples)
    self._rows = features.batch_size(self._count, mesh)
    self._extract = features.extractor(context.parts.model, mesh)
    config = dataclasses.replace(
        context.config, batch_size=self._rows, views=2, seed=0)
    self._batches = pipeline.Batches(
        test, inputs.pipeline_spec(config, ()), 0,
        -(-self._count // self._rows))

  def run(self, look: evaluation.Look) -> evaluation.Found:
    should_stop = self.context.should_stop
    found, _ = features.extract(
        look.state.params, self._views(), self._extract,
        self.context.parts.mesh, should_stop)
    if should_stop():
      return evaluation.Found()
    scores = {f"retrieval/{name}": top1(x[::2], x[1::2])
              for name, x in found.items()}
    readout = self.context.config.knn.readout
    images = len(next(iter(found.values()))) // 2
    return evaluation.Found({
        "retrieval/top1": scores[f"retrieval/{readout}"],
        "retrieval/chance": 1 / images, **scores})

  def _views(self) -> Iterator[dict[str, np.ndarray]]:
    """Batches for `features.extract`, the two views of an image adjacent."""
    for step, batch in enumerate(self._batches.since(0)):
      place = step * self._rows + np.arange(self._rows)
      # What follows the last image is of another epoch.
      valid = np.repeat(place < self._count, 2) & ~batch["replaced"]
      yield {"image": batch["input"], "label": batch["label"], "valid": valid}


def top1(one: np.ndarray, other: np.ndarray) -> float:
  """Share of rows that are nearest to the row of the same number.

  Args:
    one: [n, d] features; each row looks among all of `other`, and conversely.
    other: [n, d].
  """
  numbers = np.arange(len(one))
  ways = [(one, other), (other, one)]
  return float(np.mean([
      knn.accuracy(among, numbers, queries, numbers, k=1, temperature=1.0)
      for among, queries in ways]))

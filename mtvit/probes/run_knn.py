"""The evaluator `knn`: accuracy of k nearest neighbours of a run's own data."""

from typing import TYPE_CHECKING

from mtvit.probes import knn
from mtvit.training import evaluation

if TYPE_CHECKING:
  from mtvit.data import datasets


class WhenKnn(evaluation.Evaluator):
  """Looks when the section `knn` says, at as many images."""

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self._config = context.config.knn
    self.every = self._config.every_steps if self._config.k else 0
    self.at_end = "compare" if self._config.k else "nothing"
    self.same_images = self._same(
        self._config.num_test, self._config.final_num_test, context.test)

  def _same(
      self, limit: int, final: int, source: "datasets.Source"
  ) -> bool:
    """Whether two limits, 0 for all, take the same images of a split."""
    some, last = (min(n or source.num_examples, source.num_examples)
                  for n in (limit, final))
    return some == last

  def num_test(self, look: evaluation.Look) -> int:
    """How many test images; 0 for all."""
    return (self._config.final_num_test if look.final
            else self._config.num_test)


class Knn(WhenKnn):
  """`knn/accuracy` of the chosen readout and `knn/<readout>` of all.

  Its keys are the section `knn`. Nothing if the data have no labels.
  """

  name = "knn"
  title = "kNN"
  headline = "knn/accuracy"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self.same_images &= self._same(
        self._config.num_train, self._config.final_num_train, context.train)

  def run(self, look: evaluation.Look) -> evaluation.Found:
    config, should_stop = self._config, self.context.should_stop
    if not self.context.labelled:
      return evaluation.Found()
    train = look.features(
        "train", config.final_num_train if look.final else config.num_train)
    test = look.features("test", self.num_test(look))
    if should_stop() or min(train.labels.min(), test.labels.min()) < 0:
      return evaluation.Found()
    scores = {
        f"knn/{name}": knn.accuracy(
            x, train.labels, test.readouts[name], test.labels, k=config.k,
            temperature=config.temperature, should_stop=should_stop)
        for name, x in train.readouts.items()}
    return evaluation.Found(
        {"knn/accuracy": scores[f"knn/{config.readout}"], **scores})

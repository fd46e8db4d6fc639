"""The evaluator `knn`: accuracy of k nearest neighbours of a run's own data."""

from mtvit.probes import knn
from mtvit.training import evaluation


class Knn(evaluation.Evaluator):
  """`knn/accuracy` of the chosen readout and `knn/<readout>` of all.

  Its keys are the section `knn`. Nothing if the data have no labels.
  """

  name = "knn"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self._config = context.config.knn
    self.every = self._config.every_steps if self._config.k else 0
    self.at_end = "compare" if self._config.k else "nothing"

  def run(self, look: evaluation.Look) -> evaluation.Found:
    config, should_stop = self._config, self.context.should_stop
    num_train, num_test = (
        (config.final_num_train, config.final_num_test) if look.final
        else (config.num_train, config.num_test))
    train = look.features("train", num_train)
    test = look.features("test", num_test)
    if should_stop() or min(train.labels.min(), test.labels.min()) < 0:
      return evaluation.Found()
    scores = {
        f"knn/{name}": knn.accuracy(
            x, train.labels, test.readouts[name], test.labels, k=config.k,
            temperature=config.temperature, should_stop=should_stop)
        for name, x in train.readouts.items()}
    return evaluation.Found(
        {"knn/accuracy": scores[f"knn/{config.readout}"], **scores})

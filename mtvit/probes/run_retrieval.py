"""The evaluator `retrieval`: instance retrieval among held-out images."""

from mtvit.probes import features
from mtvit.probes import retrieval
from mtvit.probes import without_labels
from mtvit.training import evaluation


class Retrieval(without_labels.WithoutLabels):
  """`retrieval/top1` of the chosen readout and `retrieval/<readout>` of all.

  `retrieval/chance` is 1 / the number of images. These and their views are the
  same in every look, and in every run with such data and such an augmentation.
  """

  name = "retrieval"
  title = "retrieval"
  headline = "retrieval/top1"
  at_end = "compare"
  same_images = True

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    if self.looks:
      mesh = context.parts.mesh
      self._extract = features.extractor(context.parts.model, mesh)
      self._views = retrieval.Views(
          context.config, context.test, mesh, self.section.num_images)

  def run(self, look: evaluation.Look) -> evaluation.Found:
    should_stop = self.context.should_stop
    found, labels = features.extract(
        look.state.params, self._views.batches(), self._extract,
        self.context.parts.mesh, should_stop)
    if should_stop():
      return evaluation.Found()
    scores = retrieval.scores(found)
    return evaluation.Found({
        "retrieval/top1": scores[self.context.config.knn.readout],
        "retrieval/chance": 2 / len(labels),
        **{f"retrieval/{name}": x for name, x in scores.items()}})

"""The evaluator `rankme`: warns of features that collapse; needs no labels."""

from absl import logging
import numpy as np

from mtvit.diagnostics import rank
from mtvit.probes import run_knn
from mtvit.training import evaluation

RANK_IMAGES = 2048     # Test images at most, evenly spaced, for the ranks.
# Features whose RankMe is less are as good as a number.
COLLAPSE_RANK = 1.5


class Collapse(run_knn.WhenKnn):
  """`rankme/<readout>`, when the section `knn` has it look at features."""

  name = "rankme"
  title = "RankMe"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self.headline = f"rankme/{context.config.knn.readout}"

  def run(self, look: evaluation.Look) -> evaluation.Found:
    limit = self.num_test(look)
    if not self.context.labelled:      # Then nothing else needs more of them.
      limit = min(limit or RANK_IMAGES, RANK_IMAGES)
    test = look.features("test", limit)
    if self.context.should_stop():
      return evaluation.Found()
    ranks = {name: rank.rankme(x[::-(-len(x) // RANK_IMAGES)])
             for name, x in test.readouts.items() if np.isfinite(x).all()}
    for name, value in ranks.items():
      if value < COLLAPSE_RANK and look.step and not look.final:
        logging.warning(
            "step %d: the features of %s have collapsed to %.1f dimensions",
            look.step, name, value)
    return evaluation.Found({f"rankme/{name}": x for name, x in ranks.items()})

"""The evaluator `rankme`: warns of features that collapse; needs no labels."""

from absl import logging
import numpy as np

from mtvit.diagnostics import rank
from mtvit.training import evaluation

RANK_IMAGES = 2048     # Test images at most, evenly spaced, for the ranks.
# Features whose RankMe is less are as good as a number.
COLLAPSE_RANK = 1.5


class Collapse(evaluation.Evaluator):
  """`rankme/<readout>`, when the section `knn` has it look at features."""

  name = "rankme"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self._config = context.config.knn
    self.every = self._config.every_steps if self._config.k else 0
    self.at_end = "compare" if self._config.k else "nothing"

  def run(self, look: evaluation.Look) -> evaluation.Found:
    limit = (self._config.final_num_test if look.final
             else self._config.num_test)
    test = look.features("test", limit)
    if self.context.should_stop():
      return evaluation.Found()
    ranks = {name: rank.rankme(x[::-(-len(x) // RANK_IMAGES)])
             for name, x in test.readouts.items() if np.isfinite(x).all()}
    for name, value in ranks.items():
      if value < COLLAPSE_RANK and not look.final:
        logging.warning(
            "step %d: the features of %s have collapsed to %.1f dimensions",
            look.step, name, value)
    return evaluation.Found({f"rankme/{name}": x for name, x in ranks.items()})

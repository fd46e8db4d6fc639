"""Does relative position need more weight beside the six other tasks?

  mtvit study run configs/study_weights.py --data=folder:PATH
  mtvit study show configs/study_weights.py

With one seed, of the report's study, it did: at a weight of 1 it has hardly
begun after 300 steps. All settings are those of that study's tier `cpu`. The
rule, fixed before the first row: 3 becomes the weight of strategy `patch_level`
if the linear probe of `ct+gap` is better on validation images by the general
rule, and kNN of `ct+gap` is not worse there by a point.

Hardware: 2 CPU cores, an hour. Expect: the table in mtvit/study/README.md.
"""

import dataclasses

from mtvit.configs import study_report
from mtvit.study import arms


def get_study() -> arms.Study:
  """All seven tasks, with relative position at a weight of 1, and of 3."""
  report = study_report.get_study("cpu")
  one, three = "all", "weight_relative_position_times_3"
  ask = lambda measure, margin: arms.Comparison(three, one, (measure,), margin)
  return dataclasses.replace(
      report, claims="", cost_against=one,
      arms=tuple(dataclasses.replace(report.arm(name), seeds=None)
                 for name in (one, three)),
      comparisons=(ask("linear_val/ct+gap", 1.0), ask("knn_val/ct+gap", 1.0),
                   ask("skill/relative_position", 0.1)))

"""How sure a mean over test images is."""

from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
  """A confidence interval."""
  low: float
  high: float


def interval(
    values: np.ndarray, *, seed: int = 0, resamples: int = 1000,
    level: float = 0.95
) -> Interval:
  """The percentile bootstrap interval of a mean (Efron 1979).

  Args:
    values: [m], one for each independent unit, such as whether an image was
      classified right.
    seed: of the resampling.
    resamples: how many.
    level: how likely the interval is to hold the truth.
  """
  values = np.asarray(values, np.float64)
  m, rng = len(values), np.random.default_rng(seed)
  means = [values[rng.integers(0, m, m)].mean() for _ in range(resamples)]
  tail = (1 - level) / 2
  return Interval(*np.quantile(means, [tail, 1 - tail]).tolist())

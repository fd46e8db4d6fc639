"""Intervals and tests of paired differences, over seeds and over images."""

import math
from typing import NamedTuple, Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95                # Of every interval.
RESAMPLES = 10_000


class Interval(NamedTuple):
  """A mean and its interval; nan where there are too few numbers.

  Attributes:
    mean: of the numbers.
    low: end of the two-sided interval by Student's t.
    high: its other end.
    p: one-sided, of a t test of whether the mean is above 0.
    n: numbers.
  """
  mean: float
  low: float
  high: float
  p: float
  n: int


def interval(values: Sequence[float]) -> Interval:
  """The mean of numbers that are independent, as those of seeds are.

  One number has no interval. Equal ones have one without width.
  """
  x = np.asarray(values, np.float64)
  if not len(x):
    return Interval(math.nan, math.nan, math.nan, math.nan, 0)
  mean = float(x.mean())
  if len(x) == 1:
    return Interval(mean, math.nan, math.nan, math.nan, 1)
  if np.ptp(x) <= 1e-9 * max(1, abs(mean)):      # Rounding: t is ±inf or 0/0.
    return Interval(mean, mean, mean, 0.0 if mean > 0 else 1.0, len(x))
  tested = stats.ttest_1samp(x, 0, alternative="greater")
  low, high = stats.t.interval(
      LEVEL, len(x) - 1, loc=mean, scale=stats.sem(x))
  return Interval(mean, float(low), float(high), float(tested.pvalue), len(x))


def holm(p: Sequence[float]) -> list[float]:
  """P-values after Holm's correction, in their order; nan counts as 1."""
  raw = np.nan_to_num(np.asarray(p, np.float64), nan=1.0)
  order = np.argsort(raw, kind="stable")
  scaled = raw[order] * np.arange(len(raw), 0, -1)
  adjusted = np.empty_like(raw)
  adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
  return adjusted.tolist()


def bootstrap(
    ours: np.ndarray, theirs: np.ndarray, seed: int = 0
) -> tuple[float, float]:
  """Percentile interval of a difference of accuracies over test images.

  The images are drawn again, not the seeds: it says what other test images
  would change, and nothing of other runs.

  Args:
    ours: bool [seeds, images], whether an image is right.
    theirs: likewise, of the same seeds and images.
    seed: of the draws.

  Returns:
    Both ends, in percentage points.
  """
  wins = ours.astype(np.int64) - theirs                  # [s, n] -1, 0 or 1
  # An image counts by its sum over seeds, which has few values; to draw images
  # is to draw how often each of these comes.
  values, counts = np.unique(wins.sum(0), return_counts=True)
  n = wins.shape[1]
  drawn = np.random.default_rng(seed).multinomial(
      n, counts / n, size=RESAMPLES)                     # [resamples, values]
  means = 100 * drawn @ values / (n * len(wins))
  low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
  return float(low), float(high)

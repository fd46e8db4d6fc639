"""The bootstrap against the binomial."""

import numpy as np
import pytest

from mtvit.probes import bootstrap


def test_accuracy_has_the_binomial_interval():
  # Resampled right answers are binomial: of 1000 with p = 0.3 the deviation is
  # sqrt(0.3 * 0.7 / 1000) = 0.0145, and 95 % lie within 1.96 of it.
  right = np.arange(1000) % 10 < 3
  low, high = bootstrap.interval(right, resamples=4000)
  assert low == pytest.approx(0.3 - 1.96 * 0.0145, abs=0.003)
  assert high == pytest.approx(0.3 + 1.96 * 0.0145, abs=0.003)
  narrow = bootstrap.interval(right, resamples=4000, level=0.5)
  assert narrow.high - narrow.low == pytest.approx(
      2 * 0.674 * 0.0145, abs=0.003)


def test_units_of_any_value():
  values = np.array([0.0, 0.5, 1.0] * 300)      # The deviation is 0.408.
  low, high = bootstrap.interval(values)
  assert high - low == pytest.approx(2 * 1.96 * 0.408 / 30, rel=0.1)


def test_the_seed_decides():
  right = np.arange(50) % 3 == 0
  assert bootstrap.interval(right) == bootstrap.interval(right, seed=0)
  assert bootstrap.interval(right) != bootstrap.interval(right, seed=1)


def test_all_right():
  assert bootstrap.interval(np.ones(5, bool)) == (1, 1)

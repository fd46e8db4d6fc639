"""Intervals, Holm and the bootstrap, against recomputations of their own."""

import math

import numpy as np
import pytest

from mtvit.study import statistics

# Student's t with 4 degrees of freedom, from printed tables.
T_975 = 2.776445


def test_the_interval_is_that_of_the_textbook():
  x = [1.2, 0.4, 2.2, 1.7, 0.9]
  found = statistics.interval(x)
  mean = sum(x) / 5
  error = math.sqrt(sum((y - mean) ** 2 for y in x) / 4 / 5)
  assert found.mean == pytest.approx(mean)
  assert found.low == pytest.approx(mean - T_975 * error, abs=1e-6)
  assert found.high == pytest.approx(mean + T_975 * error, abs=1e-6)
  # P(T > t) by integrating the density 3/8 (1 + t²/4)^-5/2 numerically.
  t = np.linspace(mean / error, 400, 2_000_001)
  density = 3 / 8 * (1 + t**2 / 4) ** -2.5
  p = float(((density[1:] + density[:-1]) / 2).sum() * (t[1] - t[0]))
  assert found.p == pytest.approx(p, rel=1e-4)
  assert statistics.interval([-y for y in x]).p == pytest.approx(1 - found.p)


def test_few_and_equal_numbers():
  assert all(map(math.isnan, statistics.interval([])[:4]))
  one = statistics.interval([2.0])
  assert one.mean == 2 and math.isnan(one.low) and math.isnan(one.p)
  same = statistics.interval([0.1, 0.1, 0.3 - 0.2])
  assert same == pytest.approx((0.1, 0.1, 0.1, 0, 3))
  assert statistics.interval([0.0] * 3).p == 1


def test_holm_is_the_step_down_of_its_definition():
  rng = np.random.default_rng(0)
  for _ in range(50):
    p = rng.uniform(size=6) ** 4
    adjusted = statistics.holm(p)
    for alpha in (0.01, 0.05, 0.2):
      rejected, rest = set(), list(np.argsort(p))
      while rest and p[rest[0]] < alpha / len(rest):
        rejected.add(rest.pop(0))
      assert {i for i, x in enumerate(adjusted) if x < alpha} == rejected
  assert statistics.holm([math.nan, 0.01]) == [1, 0.02]


def test_the_bootstrap_is_that_of_drawing_images():
  rng = np.random.default_rng(1)
  ours = rng.uniform(size=(3, 300)) < 0.6
  theirs = rng.uniform(size=(3, 300)) < 0.5
  low, high = statistics.bootstrap(ours, theirs)
  d = (ours.mean(0) - theirs.mean(0)) * 100
  means = [d[rng.integers(300, size=300)].mean() for _ in range(4000)]
  expected = np.quantile(means, [0.025, 0.975])
  np.testing.assert_allclose([low, high], expected, atol=0.3)
  assert low < d.mean() < high

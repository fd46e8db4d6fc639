"""Rank and spread, from spectra worked out by hand."""

import math

import numpy as np
import pytest

from mtvit.diagnostics import rank


def orthonormal(rows, columns, seed=0):
  x = np.random.default_rng(seed).standard_normal((columns, columns))
  return np.linalg.qr(x)[0][:rows]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_equal_singular_values_count(k):
  values = np.concatenate([np.full(k, 2.5), np.zeros(5)])
  assert rank.effective_rank(values) == pytest.approx(k)
  assert rank.rankme(orthonormal(k, 16)) == pytest.approx(k, rel=1e-6)


def test_unequal_singular_values():
  # Shares 1/2, 1/4, 1/4: the entropy is 1.5 log 2.
  assert rank.effective_rank(np.array([2.0, 1, 1])) == pytest.approx(2**1.5)
  assert rank.effective_rank(np.zeros(4)) == 0


def test_rankme_does_not_centre():
  # All rows alike: rank 1, with nothing around the mean.
  assert rank.rankme(np.ones((20, 4), np.float32)) == pytest.approx(1, abs=1e-5)


def test_spread_of_isotropic_and_of_collapsed_features():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((5000, 32)).astype(np.float32)
  assert rank.spread_per_dimension(x) == pytest.approx(1, abs=0.01)
  assert rank.spread_per_dimension(7 * x) == pytest.approx(
      rank.spread_per_dimension(x), rel=1e-5)
  # One direction, whatever the length.
  line = np.outer(rng.uniform(1, 5, 50), x[0])
  assert rank.spread_per_dimension(line) == pytest.approx(0, abs=1e-6)
  # Two opposite ones: each dimension has deviation |v_j|.
  v = x[0] / np.linalg.norm(x[0])
  assert rank.spread_per_dimension(np.stack([v, -v])) == pytest.approx(
      np.abs(v).mean() * math.sqrt(32), rel=1e-5)


def test_a_row_for_each_readout():
  rows = rank.describe({"ct": np.eye(4), "gap": np.ones((4, 4))})
  assert [row["readout"] for row in rows] == ["ct", "gap"]
  assert rows[0]["rankme"] == pytest.approx(4)
  assert rows[1]["spread_per_dimension"] == pytest.approx(0)

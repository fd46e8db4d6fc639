"""Position embeddings: known ones, and scikit-learn as the oracle."""

import numpy as np
import pytest
import scipy.stats
import sklearn.linear_model

from mtvit.diagnostics import positions
from mtvit.models import positions as positions_lib


def one_hot(rows, columns):
  row, column = np.divmod(np.arange(rows * columns), columns)
  return np.concatenate([np.eye(rows)[row], np.eye(columns)[column]], axis=1)


def random(n, d, seed=0):
  return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("n, d", [(16, 40), (30, 5)])
def test_equals_refitting_without_each_patch(n, d):
  x = random(n, d)
  y = x[:, 0] + 0.5 * random(n, 1, seed=1)[:, 0] + 3
  got = positions.leave_one_out_r2(x, y)
  x = (x - x.mean(0)) / x.std(0)
  # The mean eigenvalue of x xT / d is trace / n = 1.
  errors, baseline = [], []
  for i in range(n):
    rest = np.arange(n) != i
    ridge = sklearn.linear_model.Ridge(alpha=0.1 * d).fit(x[rest], y[rest])
    errors.append(y[i] - ridge.predict(x[i:i + 1])[0])
    baseline.append(y[i] - y[rest].mean())
  want = 1 - np.sum(np.square(errors)) / np.sum(np.square(baseline))
  assert got == pytest.approx(want, abs=1e-9)
  assert abs(got) > 0.01


@pytest.mark.parametrize("embedding, grid", [
    (positions_lib.sincos_positions(4, 4, 128), (4, 4)),
    (positions_lib.sincos_positions(8, 6, 64), (8, 6)),
    (one_hot(4, 4), (4, 4)), (one_hot(7, 5), (7, 5))])
def test_embeddings_of_row_and_column(embedding, grid):
  found = positions.describe(embedding, grid)
  assert found["r2_row"] > 0.95 and found["r2_column"] > 0.95
  assert found["distance_correlation"] > 0.3
  assert found["grid"] == list(grid)


@pytest.mark.parametrize("side, d", [(4, 128), (8, 64), (14, 384)])
def test_random_embeddings_know_nothing(side, d):
  for seed in range(3):
    found = positions.describe(random(side**2, d, seed), (side, side))
    assert found["r2_row"] < 0.02 and found["r2_column"] < 0.02
    assert abs(found["distance_correlation"]) < 0.25


def test_a_row_is_not_a_column():
  row_only = one_hot(5, 5)[:, :5]
  found = positions.describe(row_only, (5, 5))
  assert found["r2_row"] > 0.95 and found["r2_column"] < 0.02


def test_correlation_is_spearmans_with_nearness():
  x = random(6, 3)
  found = positions.describe(x, (2, 3))
  similarity, nearness = [], []
  for i in range(6):
    for j in range(i):
      similarity.append(
          x[i] @ x[j] / np.sqrt((x[i] @ x[i]) * (x[j] @ x[j])))
      nearness.append(-np.hypot(i // 3 - j // 3, i % 3 - j % 3))
      assert found["similarity"][i][j] == pytest.approx(
          similarity[-1], abs=1e-4)
  assert found["distance_correlation"] == pytest.approx(
      scipy.stats.spearmanr(similarity, nearness).statistic)


@pytest.mark.parametrize("embedding", [np.zeros((4, 8)), np.ones((4, 8))])
def test_embeddings_that_are_all_the_same(embedding):
  found = positions.describe(embedding, (2, 2))
  assert found["r2_row"] == pytest.approx(0)
  assert found["distance_correlation"] == 0


def test_shuffled_and_zeroed():
  x = random(16, 3).astype(np.float32)
  found = positions.changed(x)
  assert not np.array_equal(found["shuffled"], x)
  np.testing.assert_array_equal(
      np.sort(found["shuffled"], axis=0), np.sort(x, axis=0))
  assert {tuple(row) for row in found["shuffled"]} == {tuple(row) for row in x}
  assert not found["zeroed"].any() and found["zeroed"].shape == x.shape
  np.testing.assert_array_equal(
      positions.changed(x)["shuffled"], found["shuffled"])


def test_a_single_patch_has_nothing_to_predict():
  assert positions.leave_one_out_r2(np.ones((1, 4)), np.zeros(1)) == 0

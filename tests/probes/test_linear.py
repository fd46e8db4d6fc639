"""The linear probe against scikit-learn."""

import numpy as np
import pytest
import scipy.special
import sklearn.linear_model
import threadpoolctl

from mtvit.probes import blas
from mtvit.probes import linear


def features(n, seed=0, noise=1.5, d=12, classes=4):
  """Correlated, on very different scales, and with one constant dimension."""
  make = np.random.default_rng(99)
  centres = make.standard_normal((classes, d))
  mix = make.standard_normal((d, d)) * np.logspace(0, -2, d)[:, None]
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, classes, n)
  x = (centres[labels] + noise * rng.standard_normal((n, d))) @ mix
  x = np.concatenate([100 * x + 7, np.full((n, 1), 3.0)], axis=1)
  return x.astype(np.float32), labels


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_equals_scikit_learn(l2):
  x, labels = features(400)
  x_test, _ = features(300, seed=1)
  mean, scale = x.mean(0, np.float64), x.std(0, dtype=np.float64)
  scale[-1] = 1
  oracle = sklearn.linear_model.LogisticRegression(
      C=1 / (len(x) * l2), tol=1e-8, max_iter=10_000
  ).fit((x - mean) / scale, labels)
  want = oracle.predict_proba((x_test - mean) / scale)
  probe = linear.fit(x, labels, 4, l2)
  got = scipy.special.softmax(probe.logits(x_test), axis=1)
  np.testing.assert_allclose(got, want, atol=2e-3)
  assert (probe.predict(x_test) == want.argmax(1)).mean() > 0.99
  np.testing.assert_allclose(
      probe.weights - probe.weights.mean(1, keepdims=True), oracle.coef_.T
      - oracle.coef_.T.mean(1, keepdims=True),
      atol=0.02 * np.abs(oracle.coef_).max())


def test_fewer_rows_than_dimensions():
  rng = np.random.default_rng(0)
  x, labels = rng.standard_normal((12, 40), np.float32), np.arange(12) % 3
  probe = linear.fit(x, labels, 3, 1e-3)
  np.testing.assert_array_equal(probe.predict(x), labels)


def test_where_it_starts_does_not_matter():
  x, labels = features(400)
  other = linear.fit(x[:50], labels[:50], 4, 1.0)
  cold, warm = (linear.fit(x, labels, 4, 1e-2, s) for s in (None, other))
  np.testing.assert_allclose(cold.logits(x), warm.logits(x), atol=0.02)


def test_a_warm_start_is_where_the_other_ended():
  x, labels = features(400)
  fitted = linear.fit(x, labels, 4, 1e-3)
  # It makes one step, from the minimum a tiny one.
  still, cold = (linear.fit(
      x, labels, 4, 1e-3, start, tolerance=1e9) for start in (fitted, None))
  np.testing.assert_allclose(still.logits(x), fitted.logits(x), atol=0.02)
  assert np.abs(cold.logits(x) - fitted.logits(x)).max() > 0.5


def test_validation_chooses_the_penalty():
  x, labels = features(60, noise=3)
  x_val, labels_val = features(500, seed=1, noise=3)
  grid = (10.0, 1.0, 1e-1, 1e-2)
  accuracy = [
      (linear.fit(x, labels, 4, l2).predict(x_val) == labels_val).mean()
      for l2 in grid]
  got = linear.select(x, labels, x_val, labels_val, 4, grid)
  assert got.l2 == grid[int(np.argmax(accuracy))]
  assert got.accuracy == pytest.approx(max(accuracy), abs=0.005)
  assert (got.probe.predict(x_val) == labels_val).mean() == got.accuracy
  assert min(accuracy) < got.accuracy - 0.01


def test_weaker_penalties_are_not_tried_once_two_are_no_better(monkeypatch):
  tried, fit = [], linear.fit
  monkeypatch.setattr(
      linear, "fit", lambda *args: tried.append(args[3]) or fit(*args))
  x = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
  got = linear.select(x, np.arange(40) % 4, x, np.arange(40) % 4, 4)
  assert got.accuracy == 1 and got.l2 == linear.GRID[0]
  assert tried == list(linear.GRID[:3])


def test_small_matrices_get_one_thread():
  threads = lambda: {x["num_threads"] for x in threadpoolctl.threadpool_info()
                     if x["user_api"] == "blas"}
  before = threads()
  with blas.one_thread():
    assert threads() == {1}
  assert threads() == before


def test_shuffled_labels_give_chance():
  x, labels = features(2000)
  x_test, test_labels = features(1000, seed=1)
  shuffled = np.random.default_rng(0).permutation(labels)
  right = lambda y: (
      linear.fit(x, y, 4, 1e-2).predict(x_test) == test_labels).mean()
  assert right(labels) > 0.6
  assert abs(right(shuffled) - 0.25) < 0.08

"""kNN against scikit-learn."""

import numpy as np
import pytest
import sklearn.neighbors

from mtvit.diagnostics import rank
from mtvit.diagnostics import smoothing
from mtvit.pictures import plots
from mtvit.probes import knn
from mtvit.probes import linear

SETTINGS = [knn.Setting(20, 0.07), knn.Setting(200, 0.1)]


def clusters(seed, n=600, m=700):
  rng = np.random.default_rng(seed)
  centres = rng.standard_normal((5, 16))
  labels, test_labels = rng.integers(0, 5, n), rng.integers(0, 5, m)
  make = lambda y: (centres[y] + 2.0 * rng.standard_normal((len(y), 16))
                    ).astype(np.float32)
  return make(labels), labels, make(test_labels), test_labels


def oracle(train, labels, k, temperature):
  return sklearn.neighbors.KNeighborsClassifier(
      k, metric="cosine", algorithm="brute",
      weights=lambda distance: np.exp(-distance / temperature)
  ).fit(train, labels)


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (20, 0.07), (60, 0.5)])
def test_equals_scikit_learn(k, temperature):
  train, labels, test, test_labels = clusters(k)
  want = oracle(train, labels, k, temperature).score(test, test_labels)
  got = knn.accuracy(
      train, labels, test, test_labels, k=k, temperature=temperature)
  assert got == pytest.approx(want, abs=2 / 700)
  assert 0.3 < got < 0.99


def test_one_search_serves_all_settings():
  train, labels, test, _ = clusters(0)
  got = knn.predict(train, labels, test, SETTINGS)
  assert got.shape == (2, 700)
  for setting, guesses in zip(SETTINGS, got):
    want = oracle(
        train, labels, setting.k, setting.temperature).predict(test)
    assert (guesses == want).mean() > 0.998      # Ties and rounding.
  assert (got[0] != got[1]).any()


def test_large_sets_are_searched_in_blocks(monkeypatch):
  train, labels, test, _ = clusters(1)
  want = knn.predict(train, labels, test, SETTINGS)
  monkeypatch.setattr(knn, "_SIMILARITIES", 600 * 33)
  np.testing.assert_array_equal(
      knn.predict(train, labels, test, SETTINGS), want)


def test_it_can_be_told_to_stop():
  train, labels, test, _ = clusters(2)
  answers = iter([False, True])
  got = knn.predict(train, labels, test, SETTINGS, lambda: next(answers))
  assert (got[:, :500] >= 0).all() and (got[:, 500:] == -1).all()


def test_shuffled_labels_give_chance():
  rng = np.random.default_rng(0)
  x, y = rng.standard_normal((2000, 8), np.float32), rng.integers(0, 4, 2000)
  got = knn.accuracy(
      x[:1000], y[:1000], x[1000:], y[1000:], k=20, temperature=0.07)
  assert abs(got - 0.25) < 0.05


def test_more_neighbours_than_rows():
  x = np.eye(3, dtype=np.float32)
  assert knn.accuracy(x, np.arange(3), x, np.arange(3), k=20,
                      temperature=0.07) == 1


@pytest.mark.parametrize("scale", [1e-30, 1, 1e25, 3e37])
def test_features_of_any_length(scale):
  """Whatever compares by cosine, or standardises, squares no large number."""
  scale = np.float32(scale)
  x = np.array([[3, 4], [4, 3], [-3, 4], [-4, 3]], np.float32) * scale
  labels = np.array([0, 0, 1, 1])
  assert knn.accuracy(x, labels, x[::-1], labels[::-1], k=2,
                      temperature=0.07) == 1
  near = plots.neighbours(x, x[:1], 3)
  np.testing.assert_array_equal(near.ids, [[0, 1, 2]])
  np.testing.assert_allclose(
      near.cosines, [[1, 24 / 25, 7 / 25]], rtol=1e-6)
  assert float(smoothing.pairwise_cosine(x[:2])) == pytest.approx(24 / 25)
  # Unit rows (+-.6, .8), (+-.8, .6): deviations sqrt(.5) and .1.
  assert rank.spread_per_dimension(x) == pytest.approx(
      (0.5**0.5 + 0.1) / 2 * 2**0.5, rel=1e-5)
  mean, deviation = linear.standard(x)
  np.testing.assert_allclose(mean / scale, [0, 3.5], atol=1e-6)
  np.testing.assert_allclose(deviation / scale, [12.5**0.5, 0.5], rtol=1e-6)

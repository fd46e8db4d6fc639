"""kNN against scikit-learn."""

import numpy as np
import pytest
import sklearn.neighbors

from mtvit.evals import knn


@pytest.mark.parametrize("k, temperature", [(1, 0.07), (20, 0.07), (60, 0.5)])
def test_equals_scikit_learn(k, temperature):
  rng = np.random.default_rng(k)
  centres = rng.standard_normal((5, 16))
  labels, test_labels = rng.integers(0, 5, 600), rng.integers(0, 5, 700)
  make = lambda y: (centres[y] + 2.0 * rng.standard_normal((len(y), 16))
                    ).astype(np.float32)
  train, test = make(labels), make(test_labels)
  oracle = sklearn.neighbors.KNeighborsClassifier(
      k, metric="cosine", algorithm="brute",
      weights=lambda distance: np.exp(-distance / temperature))
  want = oracle.fit(train, labels).score(test, test_labels)
  got = knn.accuracy(
      train, labels, test, test_labels, k=k, temperature=temperature)
  assert got == pytest.approx(want, abs=2 / 700)
  assert 0.3 < got < 0.99


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

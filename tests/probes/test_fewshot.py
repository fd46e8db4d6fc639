"""Few-shot: ridge against scikit-learn, draws, and what is chosen."""

import numpy as np
import pytest
import sklearn.linear_model

from mtvit.probes import fewshot

LABELS = np.repeat([0, 1, 2], [100, 400, 7])


def clusters(n, seed, d=20, noise=2.0):
  centres = np.random.default_rng(9).standard_normal((3, d))
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % 3
  x = centres[labels] + noise * rng.standard_normal((n, d))
  return (5 * x + 3).astype(np.float32), labels


@pytest.mark.parametrize("n", [9, 20, 60])       # Below, at and above d.
def test_equals_scikit_learn(n):
  x, labels = clusters(n, 0)
  x_test, _ = clusters(50, 1)
  mean, scale = x.mean(0, np.float64), x.std(0, dtype=np.float64)
  penalties = (0.1, 10.0)
  for penalty, got in zip(
      penalties, fewshot.ridges(x, labels, 3, penalties), strict=True):
    oracle = sklearn.linear_model.Ridge(alpha=penalty).fit(
        (x - mean) / scale, np.eye(3)[labels])
    want = oracle.predict((x_test - mean) / scale)
    np.testing.assert_allclose(got.logits(x_test), want, atol=1e-4)
    np.testing.assert_array_equal(got.predict(x_test), want.argmax(1))


@pytest.mark.parametrize("shots, counts, short", [
    (1, [1, 1, 1], 0), (5, [5, 5, 5], 0), (10, [10, 10, 7], 1),
    ("1%", [1, 4, 1], 0), ("10%", [10, 40, 1], 0)])
def test_draws_are_stratified_and_differ(shots, counts, short):
  everything = np.ones(len(LABELS), bool)
  drawn = fewshot.draw(LABELS, everything, shots, 5)
  assert len(drawn.ids) == 5 and drawn.short_classes == short
  for ids in drawn.ids:
    assert np.bincount(LABELS[ids]).tolist() == counts
    assert len(set(ids.tolist())) == len(ids)
  assert len({tuple(sorted(ids.tolist())) for ids in drawn.ids}) == 5
  again = fewshot.draw(LABELS, everything, shots, 5)
  for a, b in zip(drawn.ids, again.ids):
    np.testing.assert_array_equal(a, b)


def test_only_usable_rows_are_drawn():
  usable = np.arange(len(LABELS)) % 2 == 0
  drawn = fewshot.draw(LABELS, usable, "10%", 4)
  for ids in drawn.ids:
    assert usable[ids].all()
    # A tenth of all its rows, not of the usable ones.
    assert np.bincount(LABELS[ids]).tolist() == [10, 40, 1]


def evaluated(test_labels=None, shots=5, draws=4, penalties=(0.1, 1e4, 1e6)):
  train, val, test = (
      fewshot.Rows(*clusters(n, seed))
      for seed, n in enumerate((300, 200, 200)))
  if test_labels:
    test = test._replace(labels=test_labels(test.labels))
  drawn = fewshot.draw(train.labels, np.ones(300, bool), shots, draws)
  return drawn, fewshot.evaluate(train, drawn, val, test, 3, penalties)


def test_accuracy_and_its_interval_over_draws():
  drawn, got = evaluated(penalties=(50.0,))
  x, labels = clusters(300, 0)
  x_test, test = clusters(200, 2)
  scores = []
  for ids in drawn.ids:
    mean, scale = x[ids].mean(0), x[ids].std(0)
    oracle = sklearn.linear_model.Ridge(alpha=50.0).fit(
        (x[ids] - mean) / scale, np.eye(3)[labels[ids]])
    scores.append(
        (oracle.predict((x_test - mean) / scale).argmax(1) == test).mean())
  assert got.accuracy == pytest.approx(np.mean(scores), abs=1e-6)
  # Of 4 draws: t(0.975, 3) = 3.182.
  half = 3.182 * np.std(scores, ddof=1) / 2
  assert got.high - got.accuracy == pytest.approx(half, rel=1e-3)
  assert got.accuracy - got.low == pytest.approx(half, rel=1e-3)
  assert half > 0.005 and 0.5 < got.accuracy < 1


def test_validation_alone_chooses_the_penalty():
  x, labels = clusters(300, 0)
  x_val, val = clusters(200, 1)
  drawn, got = evaluated()
  on_val = {
      penalty: np.mean([
          (next(fewshot.ridges(x[ids], labels[ids], 3, [penalty])
                ).predict(x_val) == val).mean() for ids in drawn.ids])
      for penalty in (0.1, 1e4, 1e6)}
  assert got.val_accuracy == pytest.approx(max(on_val.values()))
  assert on_val[got.penalty] == max(on_val.values())
  assert min(on_val.values()) < max(on_val.values())
  _, other = evaluated(np.random.default_rng(0).permutation)
  assert (other.penalty, other.val_accuracy) == (got.penalty, got.val_accuracy)
  assert abs(other.accuracy - 1 / 3) < 0.1 < got.accuracy - 1 / 3


def test_more_shots_are_better():
  assert evaluated(shots=1)[1].accuracy < evaluated(shots="10%")[1].accuracy

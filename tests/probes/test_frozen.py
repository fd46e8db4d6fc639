"""Probes: what is chosen, by what, and what the table says."""

import numpy as np
import pytest

from mtvit.probes import fewshot
from mtvit.probes import frozen
from mtvit.probes import knn
from mtvit.probes import linear

CLASSES = 3


def split(n, seed, noise=(3.0, 1.0)):
  """Two readouts, the second the better one, and both together."""
  rng = np.random.default_rng(seed)
  labels = np.arange(n) % CLASSES
  centres = np.random.default_rng(9).standard_normal((CLASSES, 8))
  make = lambda s: (centres[labels] + s * rng.standard_normal((n, 8))
                    ).astype(np.float32)
  features = dict(zip(("ct", "gap"), map(make, noise)))
  return frozen.Split(
      frozen.with_pairs(features, ("ct", "gap", "ct+gap")), labels)


@pytest.fixture(scope="module")
def measured():
  return frozen.probe(split(300, 0), split(240, 1), 6, CLASSES, draws=3)


def row_of(found, readout, probe):
  row, = (r for r in found["test"]
          if (r["readout"], r["probe"]) == (readout, probe))
  return row


def test_pairs_are_put_side_by_side():
  ct, gap = np.ones((4, 2)), 5 * np.ones((4, 3))
  got = frozen.with_pairs(
      {"cls": ct, "ct": ct, "gap": gap}, ("cls", "ct", "gap", "ct+gap"))
  assert list(got) == ["cls", "ct", "gap", "ct+gap"]
  np.testing.assert_array_equal(got["ct+gap"], [[1, 1, 5, 5, 5]] * 4)
  by_layer = frozen.with_pairs(
      {"ct": np.zeros((7, 4, 2)), "gap": np.zeros((7, 4, 2))}, ("ct+gap",))
  assert by_layer["ct+gap"].shape == (7, 4, 4)


def test_validation_is_a_stratified_tenth():
  labels = np.repeat([0, 1, 2, 3], [100, 38, 2, 1])
  got = frozen.validation(labels)
  assert np.bincount(labels[got], minlength=4).tolist() == [10, 4, 1, 0]
  np.testing.assert_array_equal(got, frozen.validation(labels.copy()))
  # Not the first of each class: folders are sorted.
  assert np.flatnonzero(got).tolist()[:10] != list(range(10))
  share = frozen.validation(labels, 0.5)
  assert np.bincount(labels[share], minlength=4).tolist() == [50, 19, 1, 0]


def test_all_probes_of_all_readouts(measured):
  assert {(r["readout"], r["probe"]) for r in measured["test"]} == {
      (readout, probe) for readout in ("ct", "gap", "ct+gap")
      for probe in ("knn_k20", "knn_k200", "linear", "fewshot_1", "fewshot_5",
                    "fewshot_10", "fewshot_1%", "fewshot_10%")}
  for r in measured["test"]:
    assert r["layer"] == 6
    assert r["low"] <= r["accuracy"] <= r["high"]
  assert row_of(measured, "gap", "linear")["accuracy"] > 0.75
  assert row_of(measured, "ct", "linear")["accuracy"] < 0.7


def test_numbers_are_those_of_all_training_rows(measured):
  train, test = split(300, 0), split(240, 1)
  x, x_test = train.features["gap"], test.features["gap"]
  want = knn.accuracy(
      x, train.labels, x_test, test.labels, k=20, temperature=0.07)
  assert row_of(measured, "gap", "knn_k20")["accuracy"] == want
  row = row_of(measured, "gap", "linear")
  right = linear.fit(
      x, train.labels, CLASSES, row["l2"]).predict(x_test) == test.labels
  assert row["accuracy"] == pytest.approx(right.mean(), abs=0.009)
  val = frozen.validation(train.labels)
  row = row_of(measured, "ct", "fewshot_5")
  want = fewshot.evaluate(
      fewshot.Rows(train.features["ct"], train.labels),
      fewshot.draw(train.labels, ~val, 5, 3),
      fewshot.Rows(train.features["ct"][val], train.labels[val]),
      fewshot.Rows(test.features["ct"], test.labels), CLASSES)
  assert (row["accuracy"], row["val_accuracy"], row["penalty"]) == (
      want.accuracy, want.val_accuracy, want.penalty)


def test_validation_numbers_are_of_held_out_rows(measured):
  train = split(300, 0)
  val = frozen.validation(train.labels)
  x = train.features["gap"]
  want = knn.accuracy(x[~val], train.labels[~val], x[val], train.labels[val],
                      k=20, temperature=0.07)
  assert row_of(measured, "gap", "knn_k20")["val_accuracy"] == want
  got = linear.select(
      x[~val], train.labels[~val], x[val], train.labels[val], CLASSES)
  row = row_of(measured, "gap", "linear")
  assert (row["val_accuracy"], row["l2"]) == (got.accuracy, got.l2)


def test_test_labels_change_nothing_that_is_chosen(measured):
  test = split(240, 1)
  shuffled = frozen.Split(
      test.features, np.random.default_rng(0).permutation(test.labels))
  other = frozen.probe(split(300, 0), shuffled, 6, CLASSES, draws=3)
  assert other["chosen"] == measured["chosen"]
  for a, b in zip(measured["test"], other["test"], strict=True):
    for key in ("val_accuracy", "l2", "penalty"):
      assert a.get(key) == b.get(key)
  assert abs(row_of(other, "gap", "linear")["accuracy"] - 1 / 3) < 0.1


def test_the_best_on_validation_is_chosen():
  rows = [
      {"readout": readout, "probe": probe, "val_accuracy": val,
       "accuracy": 1 - val}
      for readout, probe, val in (
          ("cls", "linear", 0.5), ("gap", "linear", 0.7), ("ct", "linear", 0.7),
          ("cls", "knn_k20", 0.9), ("gap", "knn_k20", 0.1))]
  assert frozen.choose(rows) == {"linear": "gap", "knn_k20": "cls"}


def test_shuffled_training_labels_give_chance():
  train = split(600, 0)
  shuffled = frozen.Split(
      train.features, np.random.default_rng(0).permutation(train.labels))
  found = frozen.probe(shuffled, split(240, 1), 6, CLASSES, draws=3)
  for probe in ("knn_k20", "linear", "fewshot_10"):
    assert abs(row_of(found, "gap", probe)["accuracy"] - 1 / 3) < 0.12, probe


def test_by_layer():
  worse, better = split(300, 0, (3.0, 3.0)), split(300, 0, (1.0, 1.0))
  stacked = frozen.Split(
      {name: np.stack([worse.features[name], x])
       for name, x in better.features.items()}, better.labels)
  rows = frozen.by_layer(stacked, [0, 1], CLASSES, share=0.2)
  assert len(rows) == 2 * 3 * 2
  found = {(r["layer"], r["readout"], r["probe"]): r["val_accuracy"]
           for r in rows}
  val = frozen.validation(better.labels, 0.2)
  x, y = stacked.features["gap"][1], better.labels
  assert found[1, "gap", "knn_k20"] == knn.accuracy(
      x[~val], y[~val], x[val], y[val], k=20, temperature=0.07)
  for probe in ("knn_k20", "linear"):
    assert found[1, "ct+gap", probe] > found[0, "ct+gap", probe]


def test_no_rows_where_no_class_has_two():
  lone = frozen.Split({"gap": np.zeros((1, 3, 4), np.float32)}, np.arange(3))
  assert frozen.by_layer(lone, [0], 3, share=0.2) == []

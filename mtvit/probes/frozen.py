"""Probes of frozen features: kNN, linear and few-shot, for every readout.

Everything that is chosen, the readout of each probe and the regularisation, is
chosen on a part of the training split. Each classifier sees the test split
once.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import numpy as np

from mtvit.probes import bootstrap
from mtvit.probes import fewshot
from mtvit.probes import knn
from mtvit.probes import linear

KNN = {"knn_k20": knn.Setting(20, 0.07), "knn_k200": knn.Setting(200, 0.1)}
LINEAR = "linear"
FEWSHOT = {f"fewshot_{shots}": shots for shots in fewshot.SHOTS}
LAYER_PROBES = ("knn_k20", LINEAR)
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Split:
  """Features of one split.

  Attributes:
    features: readout -> float32 [n, d], or [layers, n, d].
    labels: int [n].
  """
  features: Mapping[str, np.ndarray]
  labels: np.ndarray


def with_pairs(
    features: Mapping[str, np.ndarray], readouts: Sequence[str]
) -> dict[str, np.ndarray]:
  """Adds readouts such as "ct+gap": two side by side, as they are.

  So the numbers are those of what `Encoder.features` gives. Linear and few-shot
  probes standardise; in kNN the longer one counts more.

  Args:
    features: readout -> [..., d].
    readouts: wanted, in order.
  """
  return {
      name: features[name] if "+" not in name else np.concatenate(
          [features[part] for part in name.split("+")], axis=-1)
      for name in readouts}


def validation(labels: np.ndarray, share: float = 0.1) -> np.ndarray:
  """Which training rows are for validation: bool [n].

  A share of each class, always the same rows. Of a class with two or more rows
  at least one is taken, and a class of one has none.

  Args:
    labels: int [n].
    share: of each class.
  """
  taken, rng = np.zeros(len(labels), bool), np.random.default_rng(0)
  for c in np.unique(labels):
    ids = np.flatnonzero(labels == c)
    count = max(1, round(share * len(ids))) if len(ids) > 1 else 0
    taken[rng.permutation(ids)[:count]] = True
  return taken


def by_layer(
    split: Split, layers: Sequence[int], num_classes: int, share: float
) -> list[Row]:
  """Validation accuracy of every layer and readout.

  Args:
    split: of the training split, readouts [layers, n, d].
    layers: their numbers.
    num_classes: labels lie below it.
    share: of the rows that are for validation.
  """
  val = validation(split.labels, share)                     # [n]
  if not val.any():
    return []
  rows = []
  for i, layer in enumerate(layers):
    for readout, x in split.features.items():
      found = validate(x[i], split.labels, val, num_classes)
      rows += [{"layer": layer, "readout": readout, "probe": probe,
                "val_accuracy": found.accuracy[probe]}
               for probe in LAYER_PROBES]
  return rows


def probe(
    train: Split, test: Split, layer: int, num_classes: int, draws: int
) -> dict[str, Any]:
  """All probes of all readouts of one layer.

  Args:
    train: of the training split, readouts [n, d].
    test: of the test split.
    layer: whose features they are.
    num_classes: labels lie below it.
    draws: of the few-shot images.

  Returns:
    `chosen`, probe -> the readout that is best on validation, and `test`, one
    row for each readout and probe.
  """
  val = validation(train.labels)                            # [n]
  drawn = {name: fewshot.draw(train.labels, ~val, shots, draws)
           for name, shots in FEWSHOT.items()}
  rows = []
  for readout, x in train.features.items():
    x_test = test.features[readout]
    validated = validate(x, train.labels, val, num_classes)
    found = _test(
        x, train.labels, x_test, test.labels, validated.selected, num_classes)
    for name in FEWSHOT:
      found[name] = dataclasses.asdict(fewshot.evaluate(
          fewshot.Rows(x, train.labels), drawn[name],
          fewshot.Rows(x[val], train.labels[val]),
          fewshot.Rows(x_test, test.labels), num_classes))
    for name, accuracy in validated.accuracy.items():
      found[name]["val_accuracy"] = accuracy
    rows += [{"readout": readout, "layer": layer, "probe": name} | row
             for name, row in found.items()]
  return {"chosen": choose(rows), "test": rows}


def nothing() -> dict[str, Any]:
  """What `probe` gives where there are no labels."""
  return {"chosen": {}, "test": [], "layers": []}


def choose(rows: Sequence[Row]) -> dict[str, str]:
  """Probe -> the readout with the highest `val_accuracy`, or the first."""
  best: dict[str, Row] = {}
  for row in rows:
    held = best.setdefault(row["probe"], row)
    if row["val_accuracy"] > held["val_accuracy"]:
      best[row["probe"]] = row
  return {probe: row["readout"] for probe, row in best.items()}


@dataclasses.dataclass(frozen=True)
class Validated:
  """What validation says of a readout.

  Attributes:
    accuracy: of kNN and of the best linear probe, by name.
    selected: that probe.
  """
  accuracy: dict[str, float]
  selected: linear.Selected


def validate(
    x: np.ndarray, labels: np.ndarray, val: np.ndarray, num_classes: int
) -> Validated:
  """kNN and linear probes of the training rows [n, d], `val` held out."""
  guesses = knn.predict(x[~val], labels[~val], x[val], list(KNN.values()))
  accuracy = {name: float((guess == labels[val]).mean())
              for name, guess in zip(KNN, guesses)}
  selected = linear.select(
      x[~val], labels[~val], x[val], labels[val], num_classes)
  return Validated(accuracy | {LINEAR: selected.accuracy}, selected)


def guesses(
    x: np.ndarray, labels: np.ndarray, x_test: np.ndarray,
    selected: linear.Selected, num_classes: int
) -> dict[str, np.ndarray]:
  """What kNN and linear probes of all training rows [n, d] say of others.

  Args:
    x: float32 [n, d], training rows.
    labels: int [n].
    x_test: float32 [m, d].
    selected: the linear probe that validation chose.
    num_classes: labels lie below it.

  Returns:
    Probe -> classes, int [m].
  """
  neighbours = knn.predict(x, labels, x_test, list(KNN.values()))
  fitted = linear.fit(x, labels, num_classes, selected.l2, selected.probe)
  return dict(zip(KNN, neighbours)) | {LINEAR: fitted.predict(x_test)}


def _test(
    x: np.ndarray, labels: np.ndarray, x_test: np.ndarray,
    labels_test: np.ndarray, selected: linear.Selected, num_classes: int
) -> dict[str, Row]:
  """kNN and linear probes of all training rows on the test split."""
  found: dict[str, Row] = {}
  for name, guess in guesses(
      x, labels, x_test, selected, num_classes).items():
    right = guess == labels_test                            # [m]
    low, high = bootstrap.interval(right)
    found[name] = {"accuracy": float(right.mean()), "low": low, "high": high}
  found[LINEAR]["l2"] = selected.l2
  return found

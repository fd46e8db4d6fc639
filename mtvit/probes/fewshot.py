"""Few-shot classification: ridge regression to one-hot targets.

As big_vision's few-shot evaluator (Dosovitskiy et al. 2021, section 4.1):
closed form, features standardised by the few images themselves, the bias left
free. The penalty is chosen on images that are neither fitted nor tested.
"""

import dataclasses
from typing import Iterator, NamedTuple, Sequence

import numpy as np
from scipy import stats

from mtvit.probes import blas
from mtvit.probes import linear

# For each class so many images, or so large a share of its images.
SHOTS = (1, 5, 10, "1%", "10%")
PENALTIES = tuple(4.0**i for i in range(-5, 11))
_MOST_VALIDATION = 5000      # More images don't change which penalty is best.


@dataclasses.dataclass(frozen=True)
class Result:
  """Accuracy over draws of the few images.

  Attributes:
    accuracy: mean over draws, on the test rows.
    low: lower end of its 95 % t interval over draws.
    high: upper end.
    val_accuracy: mean over draws, on the validation rows.
    penalty: the best on the validation rows.
    short_classes: so many classes have fewer images than asked for; all they
      have was taken.
  """
  accuracy: float
  low: float
  high: float
  val_accuracy: float
  penalty: float
  short_classes: int


@dataclasses.dataclass(frozen=True)
class Draws:
  """The images of each draw.

  Attributes:
    ids: of the training rows, one int array for each draw.
    short_classes: see `Result`.
  """
  ids: tuple[np.ndarray, ...]
  short_classes: int


def draw(
    labels: np.ndarray, usable: np.ndarray, shots: int | str, draws: int
) -> Draws:
  """Draws a few rows of each class, again and again.

  Args:
    labels: int [n].
    usable: bool [n], the rows that may be drawn: those not of validation.
    shots: rows of each class, or "1%": that share of all its rows, at least
      one.
    draws: how many times; the d-th depends on d alone.
  """
  classes, counts = np.unique(labels, return_counts=True)
  members = [np.flatnonzero(usable & (labels == c)) for c in classes]
  if isinstance(shots, str):
    share = float(shots.removesuffix("%")) / 100
    wanted = [max(1, round(share * count)) for count in counts.tolist()]
  else:
    wanted = [shots] * len(classes)
  found = []
  for i in range(draws):
    rng = np.random.default_rng(i)
    found.append(np.concatenate([
        rng.permutation(ids)[:count] for ids, count in zip(members, wanted)]))
  short = sum(len(ids) < count for ids, count in zip(members, wanted))
  return Draws(tuple(found), short)


def ridges(
    x: np.ndarray, labels: np.ndarray, num_classes: int,
    penalties: Sequence[float]
) -> Iterator[linear.Probe]:
  """Fits one map for each penalty, from one eigendecomposition.

  Minimised is |scores - onehot|^2 + penalty * |weights|^2, of standardised
  features: scikit-learn's Ridge(alpha=penalty).

  Args:
    x: [n, d].
    labels: int [n].
    num_classes: labels lie below it.
    penalties: above 0.
  """
  x = np.asarray(x, np.float64)
  mean, scale = linear.standard(x)                          # [d], [d]
  x = (x - mean) / scale                                    # [n, d]
  targets = np.eye(num_classes)[labels]                     # [n, classes]
  bias = targets.mean(0)          # [classes]; right, as the mean of x is 0.
  if len(x) < x.shape[1]:         # The smaller of the two square matrices.
    values, vectors = np.linalg.eigh(x @ x.T)               # [n], [n, n]
    left, right = x.T @ vectors, vectors.T @ targets
  else:
    values, vectors = np.linalg.eigh(x.T @ x)               # [d], [d, d]
    left, right = vectors, vectors.T @ (x.T @ targets)
  for penalty in penalties:
    inverse = 1 / (np.maximum(values, 0) + penalty)
    yield linear.Probe(
        mean, scale, left @ (inverse[:, None] * right), bias)


class Rows(NamedTuple):
  """Features of some images [n, d], and their labels int [n]."""
  x: np.ndarray
  labels: np.ndarray


def evaluate(
    train: Rows, drawn: Draws, validation: Rows, test: Rows, num_classes: int,
    penalties: Sequence[float] = PENALTIES
) -> Result:
  """Fits each draw; the penalty that is best on validation is tested.

  Args:
    train: to draw from.
    drawn: of `draw`.
    validation: to choose the penalty by.
    test: only the chosen maps see it.
    num_classes: labels lie below it.
    penalties: to choose from.
  """
  some = np.random.default_rng(0).permutation(
      len(validation.x))[:_MOST_VALIDATION]
  validation = Rows(validation.x[some], validation.labels[some])

  def scores(seen, penalties):
    """Accuracies, [draws, penalties]."""
    return np.array([[
        (ridge.predict(seen.x) == seen.labels).mean()
        for ridge in ridges(
            train.x[ids], train.labels[ids], num_classes, penalties)]
        for ids in drawn.ids])

  with blas.one_thread():
    on_val = scores(validation, penalties).mean(0)   # [penalties]
    best = int(on_val.argmax())
    # Fitted again: all maps of all draws might not fit into memory.
    on_test = scores(test, penalties[best:best + 1])[:, 0]
  half = float(stats.t.ppf(0.975, len(on_test) - 1)
               * on_test.std(ddof=1) / np.sqrt(len(on_test)))
  mean = float(on_test.mean())
  return Result(mean, mean - half, mean + half, float(on_val[best]),
                penalties[best], drawn.short_classes)

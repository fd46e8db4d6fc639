"""Weighted k-nearest-neighbour classification (Wu et al. 2018, 1805.01978)."""

import dataclasses
import functools
from typing import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

_SIMILARITIES = 2**25     # So many are held at a time: 128 MB.


@dataclasses.dataclass(frozen=True)
class Setting:
  """How neighbours vote.

  Attributes:
    k: neighbours; all training rows if there are fewer.
    temperature: a neighbour votes with exp(cosine / temperature).
  """
  k: int
  temperature: float


@functools.partial(jax.jit, static_argnames="k")
def _search(queries, train, *, k):
  """The k largest cosines, falling, and whose: [m, d], [n, d] -> [m, k]."""
  # Alone in its function: XLA sorts all n where the result is cut as well.
  return jax.lax.top_k(jnp.matmul(
      queries, train.T, precision=jax.lax.Precision.HIGHEST), k)


@functools.partial(jax.jit, static_argnames=("setting", "num_classes"))
def _vote(top, labels, *, setting, num_classes):
  """The class with most votes: cosines and labels [m, k] -> int [m]."""
  weights = jnp.exp((top - 1) / setting.temperature)        # [m, k]
  rows = jnp.arange(len(top))[:, None]                      # [m, 1]
  votes = jnp.zeros((len(top), num_classes)).at[
      rows, labels].add(weights)                            # [m, classes]
  return votes.argmax(-1)


def predict(
    train: np.ndarray, train_labels: np.ndarray, queries: np.ndarray,
    settings: Sequence[Setting],
    should_stop: Callable[[], bool] = lambda: False
) -> np.ndarray:
  """What the neighbours of each row vote for, from one search for them.

  Args:
    train: [n, d] features; compared by cosine.
    train_labels: int [n].
    queries: [m, d].
    settings: s ways to vote.
    should_stop: asked before each block of rows; True ends early.

  Returns:
    int [s, m]; -1 for rows that were not reached.
  """
  bank = jnp.asarray(normalised(train), jnp.float32)    # [n, d]
  queries = normalised(queries).astype(np.float32)          # [m, d]
  labels = jnp.asarray(train_labels)
  num_classes = int(train_labels.max()) + 1
  guesses = np.full((len(settings), len(queries)), -1)
  most = min(max(s.k for s in settings), len(train))
  rows = max(1, min(500, _SIMILARITIES // len(train)))
  for start in range(0, len(queries), rows):
    if should_stop():
      break
    block = slice(start, start + rows)
    top, ids = _search(queries[block], bank, k=most)        # [rows, most]
    for guess, setting in zip(guesses, settings):
      guess[block] = _vote(
          top[:, :setting.k], labels[ids[:, :setting.k]], setting=setting,
          num_classes=num_classes)
  return guesses


def accuracy(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray,
    test_labels: np.ndarray, *, k: int, temperature: float,
    should_stop: Callable[[], bool] = lambda: False
) -> float:
  """Share of test rows that their neighbours' vote classifies right.

  Args:
    train: [n, d] features; compared by cosine.
    train_labels: int [n].
    test: [m, d].
    test_labels: int [m].
    k: neighbours, at most n are used.
    temperature: a neighbour votes with exp(cosine / temperature).
    should_stop: asked before each block of test rows; True ends early.
  """
  guesses = predict(
      train, train_labels, test, [Setting(k, temperature)], should_stop)
  return float((guesses[0] == test_labels).mean())


def normalised(x: np.ndarray) -> np.ndarray:
  """Rows of length 1, in the dtype of x; rows of zeros stay.

  As in `heads.normalise`, nothing is squared before it is scaled.
  """
  largest = np.maximum(x.max(-1, keepdims=True), -x.min(-1, keepdims=True))
  x = x / np.where(largest > 0, largest, 1)
  length = np.linalg.norm(x, axis=-1, keepdims=True)
  x /= np.where(length > 0, length, 1)
  return x

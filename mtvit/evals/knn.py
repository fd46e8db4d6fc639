"""Weighted k-nearest-neighbour classification (Wu et al. 2018, 1805.01978)."""

import functools
from typing import Callable

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.jit, static_argnames=("k", "num_classes"))
def _vote(queries, train, labels, *, k, temperature, num_classes):
  """Votes for each class: queries [m, d], train [n, d] -> [m, classes]."""
  similarity = queries @ train.T                            # [m, n]
  top, ids = jax.lax.top_k(similarity, k)                   # [m, k]
  weights = jnp.exp((top - 1) / temperature)                # [m, k]
  onehot = jax.nn.one_hot(labels[ids], num_classes)         # [m, k, classes]
  return jnp.einsum("mk,mkc->mc", weights, onehot)


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
    should_stop: asked before each 500 test rows; True ends early.
  """
  normalise = lambda x: x / np.maximum(
      np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  train, test = jnp.asarray(normalise(train)), normalise(test)
  num_classes = int(max(train_labels.max(), test_labels.max())) + 1
  labels = jnp.asarray(train_labels)
  correct, rows = 0, 500
  for start in range(0, len(test), rows):
    if should_stop():
      break
    votes = _vote(
        test[start:start + rows], train, labels, k=min(k, len(train)),
        temperature=temperature, num_classes=num_classes)
    guesses = np.asarray(votes).argmax(-1)
    correct += int((guesses == test_labels[start:start + rows]).sum())
  return correct / len(test)

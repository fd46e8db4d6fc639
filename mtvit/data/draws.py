"""Stateless randomness: a draw is a pure function of (seed, step, name).

Values are drawn for the global batch and cut to this host's rows, so the number
of hosts never changes them.
"""

import dataclasses
import zlib
from typing import Any

import tensorflow as tf


def name_hash(name: str) -> int:
  """A number that is the same for a name in every process and release."""
  return zlib.crc32(name.encode()) & 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class Draw:
  """Random numbers for the views of one batch.

  Attributes:
    seed: int64 [2].
    num_rows: rows of the global batch.
    start: the first row of this host.
    count: how many rows this host has.
  """
  seed: Any
  num_rows: int
  start: int
  count: int

  def fold(self, name: str) -> "Draw":
    """An independent source of randomness, keyed by a name."""
    # As int64: what is folded in says how many bits of the seed are kept.
    seed = tf.random.experimental.stateless_fold_in(
        self.seed, tf.constant(name_hash(name), tf.int64))
    return dataclasses.replace(self, seed=seed)

  def uniform(
      self, name: str, shape: tuple[int, ...] = (), low: float = 0.0,
      high: float = 1.0
  ) -> Any:
    """float32 [count, *shape] in [low, high)."""
    values = tf.random.stateless_uniform(
        (self.num_rows, *shape), self.fold(name).seed, low, high, alg="philox")
    return values[self.start:self.start + self.count]

  def integers(self, name: str, shape: tuple[int, ...], high: int) -> Any:
    """int32 [count, *shape] in 0 .. high - 1."""
    values = tf.random.stateless_uniform(
        (self.num_rows, *shape), self.fold(name).seed, 0, high, tf.int32,
        alg="philox")
    return values[self.start:self.start + self.count]


def for_step(
    seed: int, step: Any, num_rows: int, start: int, count: int
) -> Draw:
  """The randomness of one training step.

  Args:
    seed: of the run.
    step: int64 scalar, counted from 0.
    num_rows: rows of the global batch.
    start: the first row of this host.
    count: rows of this host.
  """
  pair = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
  return Draw(pair, num_rows, start, count)

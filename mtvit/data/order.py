"""The order of images: a shuffle of each epoch that is as random as numpy's.

It is stateless, so that any place of the endless stream is found without those
before it. Up to `SORTED` images are sorted by random numbers. More would cost
too much for each batch; they go through TensorFlow's cipher on indices, which
needs eight rounds: with four, images that shared a batch in one epoch meet
again in the next up to 29 times as often as chance has it. On a handful of
images the cipher is poor, and slow.
"""

from typing import Any

import tensorflow as tf

from mtvit.data import draws

SORTED = 4096
ROUNDS = 8


def ids(seed: int, start: Any, count: int, num_examples: int) -> Any:
  """The images at places start .. start + count - 1: int64 [count].

  Args:
    seed: of the run.
    start: int64 scalar, from 0.
    count: how many.
    num_examples: n; place i is place i mod n of the shuffle of epoch i // n.
  """
  place = start + tf.range(count, dtype=tf.int64)           # [count]
  first = start // num_examples
  most = 1 + (count + num_examples - 2) // num_examples     # Epochs, at most.
  epoch = place // num_examples - first                     # [count]
  place %= num_examples
  seeds = [epoch_seed(seed, first + e) for e in range(most)]
  if num_examples <= SORTED:
    orders = tf.stack([permutation(s, num_examples) for s in seeds])
    return tf.gather_nd(orders, tf.stack([epoch, place], axis=1))
  # It takes 32 bits of each of three numbers.
  keys = tf.stack([tf.random.stateless_uniform(
      [3], s, None, None, tf.uint32, alg="philox") for s in seeds])
  # The op itself: its wrapper tf.random.experimental.index_shuffle wrongly pads
  # a batch of seeds.
  return tf.raw_ops.RandomIndexShuffle(
      index=place, seed=tf.gather(keys, epoch),
      max_index=tf.constant(num_examples - 1, tf.int64), rounds=ROUNDS)


def epoch_seed(seed: int, epoch: Any) -> Any:
  """int64 [2], for all that is random about the order of one epoch."""
  return draws.for_step(seed, epoch, 0, 0, 0).fold("epoch").seed


def permutation(seed: Any, n: int) -> Any:
  """0 .. n - 1 in random order: int64 [n]."""
  return tf.cast(tf.argsort(tf.random.stateless_uniform(
      [n], seed, None, None, tf.int64, alg="philox")), tf.int64)

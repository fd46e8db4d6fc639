"""Corrupting a batch with tasks, eagerly or inside tf.data."""

import numpy as np
import tensorflow as tf

from mtvit.data import corruption
from mtvit.data import draws


def views(seed, b=6, size=48):
  return np.random.default_rng(seed).integers(
      0, 256, (b, size, size, 3), np.uint8)


def corrupt(
    images, tasks, patch, seed=0, step=0, gray=None, label=None,
    gray_input=False, in_dataset=False):
  """The corrupted batch in numpy."""
  b = len(images)
  gray = np.zeros(b, bool) if gray is None else gray
  label = np.full(b, -1, np.int32) if label is None else label

  def run(x, g, y):
    x = tf.ensure_shape(x, images.shape)
    g, y = tf.ensure_shape(g, [b]), tf.ensure_shape(y, [b])
    return corruption.corrupt(
        x, g, y, tasks, patch, draws.for_step(seed, step, b, 0, b), gray_input)

  if in_dataset:
    ds = tf.data.Dataset.from_tensors((images, gray, label)).map(run)
    return next(ds.as_numpy_iterator())
  return tf.nest.map_structure(
      lambda x: x.numpy(),
      run(tf.constant(images), tf.constant(gray), tf.constant(label)))


def cut(images, p):
  """[b, h, w, 3] -> [b, n, p, p, 3], by slicing."""
  b, h, w, _ = images.shape
  return np.stack([
      images[:, y:y + p, x:x + p]
      for y in range(0, h, p) for x in range(0, w, p)], axis=1)


def changed(before, after, p):
  """bool [b, n]: which patches differ."""
  return (cut(before, p) != cut(after, p)).any((2, 3, 4))

"""Cutting views into patches, and operations on batches of patches."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from mtvit.data import srgb
from mtvit.data import views


def patchify(images: Any, p: int) -> Any:
  """[b, h, w, 3] -> [b, n, p, p, 3], patches in reading order."""
  _, h, w, c = images.shape
  x = tf.reshape(images, [-1, h // p, p, w // p, p, c])
  x = tf.transpose(x, [0, 1, 3, 2, 4, 5])                   # [b,gh,gw,p,p,c]
  return tf.reshape(x, [-1, (h // p) * (w // p), p, p, c])


def unpatchify(patches: Any, grid: tuple[int, int]) -> Any:
  """The inverse of `patchify`: [b, n, p, p, 3] -> [b, h, w, 3]."""
  gh, gw = grid
  _, _, p, _, c = patches.shape
  x = tf.reshape(patches, [-1, gh, gw, p, p, c])
  x = tf.transpose(x, [0, 1, 3, 2, 4, 5])                   # [b,gh,p,gw,p,c]
  return tf.reshape(x, [-1, gh * p, gw * p, c])


def scatter(values: Any, ids: Any, new: Any) -> Any:
  """Replaces values[i, ids[i, j]] by new[i, j].

  Args:
    values: [b, n, ...].
    ids: int32 [b, k], no id twice in a row.
    new: [b, k, ...].
  """
  b, n = tf.shape(values)[0], values.shape[1]
  places = tf.reshape(tf.range(b * n), [b, n])              # [b, n]
  new_places = ids + n * tf.range(b)[:, None]               # [b, k]
  # Later ones win. Half the time of tensor_scatter_nd_update.
  x = tf.dynamic_stitch([places, new_places], [values, new])
  return tf.ensure_shape(tf.reshape(x, tf.shape(values)), values.shape)


def mark(mask: Any, ids: Any) -> Any:
  """Sets mask[i, ids[i, j]] in a bool mask [b, n]."""
  return scatter(mask, ids, tf.ones_like(ids, tf.bool))


def luminance(pixels: Any) -> Any:
  """The gray of equal luminance, repeated over the channels.

  Y is taken in linear light, so the L of CIE Lab stays what it was.

  Args:
    pixels: uint8 [..., 3].
  """
  table = _gray_of_rgb()
  gray = tf.numpy_function(
      lambda x: views.look_up(x, table), [pixels], tf.uint8, stateful=False)
  return tf.ensure_shape(gray, pixels.shape)


@functools.cache
def _gray_of_rgb() -> np.ndarray:
  """The gray of red + 256 green + 65536 blue: uint8 [2^24].

  Two powers for each pixel of each view would be half of the input pipeline's
  work; the table takes half a second, once.
  """
  with tf.init_scope():
    linear = srgb.to_linear(
        tf.range(256, dtype=tf.float32) / 255, tf.where)    # [256]
    red, green, blue = (linear * weight for weight in srgb.LUMINANCE)
    red_green = green[:, None] + red                        # [256, 256]

    def encode(y):
      gray = srgb.from_linear(y, tf.where)
      return tf.cast(tf.round(tf.clip_by_value(gray, 0, 1) * 255), tf.uint8)

    return np.stack([encode(red_green + b) for b in blue]).reshape(-1)

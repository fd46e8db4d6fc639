"""Cutting views into patches, and operations on batches of patches."""

from typing import Any

import tensorflow as tf

# Luminance Y of linear sRGB, the middle row of the sRGB to XYZ matrix.
_LUMINANCE = (0.212671, 0.715160, 0.072169)


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
  b, k = tf.shape(ids)[0], ids.shape[1]
  rows = tf.broadcast_to(tf.range(b)[:, None], [b, k])
  indices = tf.stack([rows, ids], axis=-1)                  # [b, k, 2]
  return tf.ensure_shape(
      tf.tensor_scatter_nd_update(values, indices, new), values.shape)


def mark(mask: Any, ids: Any) -> Any:
  """Sets mask[i, ids[i, j]] in a bool mask [b, n]."""
  return scatter(mask, ids, tf.ones_like(ids, tf.bool))


def luminance(pixels: Any) -> Any:
  """The gray of equal luminance, repeated over the channels.

  Y is taken in linear light, so the L of CIE Lab stays what it was.

  Args:
    pixels: uint8 [..., 3].
  """
  x = tf.cast(pixels, tf.float32) / 255
  linear = tf.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
  y = tf.reduce_sum(linear * _LUMINANCE, axis=-1, keepdims=True)
  gray = tf.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y)
  gray = tf.cast(tf.round(tf.clip_by_value(gray, 0, 1) * 255), tf.uint8)
  return tf.broadcast_to(gray, tf.shape(pixels))

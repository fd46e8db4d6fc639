"""Patches of views: cutting out some, putting them back, their sums.

Whole batches in numpy: each is one pass over the bytes that it needs, where
TensorFlow would cast, transpose and copy the whole batch.
"""

import functools
import math
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from mtvit.data import image_ops
from mtvit.data import srgb
from mtvit.data import views


# Bytes of an array's start that TensorFlow takes without a copy.
_ALIGNED = 64
# Multiplications in one product: OpenBLAS gives no more than these to a single
# thread, and here batches are what is done in parallel.
_MOST = 2**18
_PATCHES = 128      # That are worked on at once, and stay in a core's cache.


def cut(images: Any, ids: Any, p: int, rows: Any = None) -> Any:
  """Some patches of views.

  Args:
    images: uint8 [b, h, w, 3].
    ids: int32 [b, k], patches in reading order.
    p: side of a patch, pixels.
    rows: int32 [b], of which view; None for each its own.

  Returns:
    uint8 [b, k, p, p, 3].
  """
  rows = tf.range(tf.shape(ids)[0]) if rows is None else rows
  x = tf.numpy_function(
      functools.partial(_cut, p), [images, ids, rows], tf.uint8,
      stateful=False)
  return tf.ensure_shape(x, [*ids.shape, p, p, 3])


def paste(images: Any, ids: Any, patches: Any) -> Any:
  """Views with other patches; `cut` would give these.

  Args:
    images: uint8 [b, h, w, 3].
    ids: int32 [b, k], no id twice in a row.
    patches: uint8 [b, k, p, p, 3].

  Returns:
    uint8 [b, h, w, 3].
  """
  x = tf.numpy_function(
      _paste, [images, ids, patches], tf.uint8, stateful=False)
  return tf.ensure_shape(x, images.shape)


def sums(images: Any, p: int) -> Any:
  """The sum of the colours of each patch.

  Args:
    images: uint8 [b, h, w, 3].
    p: side of a patch, at most 257 pixels.

  Returns:
    float32 [b, h / p, w / p, 3], exact.
  """
  x = tf.numpy_function(
      functools.partial(_sums, p), [images], tf.float32, stateful=False)
  _, h, w, _ = images.shape
  return tf.ensure_shape(x, [images.shape[0], h // p, w // p, 3])


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
  """An empty uint8 array that TensorFlow takes without a copy."""
  size = math.prod(shape)
  x = np.empty(size + _ALIGNED, np.uint8)
  return x[-x.ctypes.data % _ALIGNED:][:size].reshape(shape)


def _places(
    shape: tuple[int, ...], ids: np.ndarray, rows: np.ndarray, p: int
) -> np.ndarray:
  """Where the rows of patches are among those of views: int64 [b, k, p].

  Each row of a view is gw rows of patches.
  """
  _, h, w, _ = shape
  y, x = np.divmod(ids, w // p)                             # [b, k]
  first = (rows[:, None] * h + y * p) * (w // p) + x
  return first[..., None] + np.arange(p) * (w // p)


def _strips(x: np.ndarray, p: int) -> np.ndarray:
  """The rows of patches in a contiguous array, each as one value."""
  return x.reshape(-1).view(f"V{3 * p}")


def _cut(
    p: int, images: np.ndarray, ids: np.ndarray, rows: np.ndarray
) -> np.ndarray:
  out = _aligned((*ids.shape, p, p, 3))
  # Without the mode it would be written twice, for the case of an error.
  np.take(_strips(images, p), _places(images.shape, ids, rows, p).reshape(-1),
          out=_strips(out, p), mode="clip")
  return out


def _paste(
    images: np.ndarray, ids: np.ndarray, patches: np.ndarray
) -> np.ndarray:
  p = patches.shape[2]
  out = _aligned(images.shape)
  out[...] = images
  places = _places(images.shape, ids, np.arange(len(ids)), p)
  _strips(out, p)[places.reshape(-1)] = _strips(patches, p)
  return out


def _sums(p: int, images: np.ndarray) -> np.ndarray:
  b, h, w, _ = images.shape
  columns = images.reshape(-1, p, 3 * w).sum(1, dtype=np.uint16)
  columns = columns.reshape(-1, 3 * p)                      # [b * n, 3 p]
  # Exact, since these are integers below 2^24.
  colors = np.tile(np.eye(3, dtype=np.float32), [p, 1])     # [3 p, 3]
  out = np.empty([len(columns), 3], np.float32)
  step = max(1, _MOST // colors.size)
  for i in range(0, len(columns), step):
    np.matmul(columns[i:i + step].astype(np.float32), colors,
              out=out[i:i + step])
  return out.reshape(b, h // p, w // p, 3)


def recrop(patches: Any, corner: Any, side: int, matrix: Any) -> Any:
  """Crops patches, resizes the crops back and colours them, each on its own.

  Rounded once, at the end.

  Args:
    patches: uint8 [b, k, p, p, 3].
    corner: int32 [b, k, 2], top and left of the crops.
    side: of the crops, pixels.
    matrix: float32 [b, k, 3, 4], see `views.recolor`.

  Returns:
    uint8 [b, k, p, p, 3].
  """
  p = patches.shape[2]
  starts = tf.range(p - side + 1.0)
  crops = image_ops.crop_matrices(starts, side, p, p)       # [starts, p, p]
  x = tf.numpy_function(
      _recrop, [patches, corner, crops, matrix], tf.uint8, stateful=False)
  return tf.ensure_shape(x, patches.shape)


def _recrop(
    patches: np.ndarray, corner: np.ndarray, crops: np.ndarray,
    matrix: np.ndarray
) -> np.ndarray:
  cv2.setNumThreads(0)        # Batches are what is done in parallel.
  out = _aligned(patches.shape)
  p = patches.shape[2]
  x, result = (v.reshape(-1, p, p, 3) for v in (patches, out))  # [m, p, p, 3]
  corner, matrix = corner.reshape(-1, 2), matrix.reshape(-1, 3, 4)
  for i in range(0, len(x), _PATCHES):
    part = slice(i, i + _PATCHES)
    result[part] = _recropped(
        x[part], crops[corner[part, 0]], crops[corner[part, 1]], matrix[part])
  return out


def _recropped(
    x: np.ndarray, rows: np.ndarray, columns: np.ndarray, matrix: np.ndarray
) -> np.ndarray:
  """uint8 [m, p, p, 3], matrices [m, p, p] and colours [m, 3, 4] -> uint8."""
  m, p, _, c = x.shape
  # Channels first: products of few and long rows are fast.
  planes = cv2.split(x.reshape(m * p, p, c))                # c of [m * p, p]
  x = np.stack([v.reshape(m, p, p) for v in planes], 1).astype(np.float32)
  x = x.reshape(m, c * p, p) @ columns.transpose(0, 2, 1)   # [m, c * p, p]
  x = rows[:, None] @ x.reshape(m, c, p, p)                 # [m, c, p, p]
  x = x.reshape(m, c, p * p)
  gray = x.mean(2) @ np.array(srgb.LUMA, np.float32)        # [m]
  x = matrix[..., :3] @ x + matrix[..., 3:] * gray[:, None, None]
  # Rounds, and saturates.
  x = cv2.convertScaleAbs(np.maximum(x, 0, out=x).reshape(m * c, p * p))
  x = x.reshape(m, c, p * p)
  return cv2.merge([np.ascontiguousarray(x[:, i]) for i in range(c)]).reshape(
      m, p, p, c)


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

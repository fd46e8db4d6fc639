"""Augmentations of whole batches of views.

Crop, resize, flip and blur are linear along each axis, so they are one matrix
for the rows and one for the columns; brightness, contrast, saturation, hue and
gray are linear in RGB, so they are one affine map of each pixel. A view is then
clip(colour(rows · image · columns)), and solarised. Unlike a chain of separate
operations, the values are clipped and rounded once, at the end.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

_GRAY = np.array([0.299, 0.587, 0.114], np.float32)     # ITU-R BT.601 luma
_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114],
     [0.5959, -0.2746, -0.3213],
     [0.2115, -0.5227, 0.3112]], np.float32)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def crop_boxes(
    u: Any, height: Any, width: Any, scale: tuple[float, float]
) -> tuple[Any, Any, Any, Any]:
  """Boxes of random resized crops, in pixels.

  The area is uniform in `scale`, the log of the aspect ratio in log 3/4 to
  log 4/3, as in Inception. A box that would leave the image is cut to fit
  (torchvision draws up to ten times instead).

  Args:
    u: float32 [b, 4] uniform in [0, 1).
    height: of the images, int, or float32 [b].
    width: likewise.
    scale: least and largest share of the area.

  Returns:
    top, left, box height and box width, float32 [b] with integral values.
  """
  height = tf.cast(height, tf.float32)
  width = tf.cast(width, tf.float32)
  area = (scale[0] + u[:, 0] * (scale[1] - scale[0])) * height * width
  ratio = tf.exp((2 * u[:, 1] - 1) * math.log(4 / 3))
  fit = lambda side, most: tf.clip_by_value(tf.round(side), 1.0, most)
  h = fit(tf.sqrt(area / ratio), height)
  w = fit(tf.sqrt(area * ratio), width)
  top = tf.floor(u[:, 2] * (height - h + 1))
  left = tf.floor(u[:, 3] * (width - w + 1))
  return top, left, h, w


def crop_matrices(start: Any, length: Any, size: int, out: int) -> Any:
  """Matrices that crop [start, start + length) and resize it to `out`.

  Triangle filter, widened when shrinking: what tf.image.resize does to the crop
  with method bilinear and antialias=True.

  Args:
    start: float32 [b], integral.
    length: float32 [b] or a number, integral.
    size: pixels of the input along this axis.
    out: pixels of the output.

  Returns:
    float32 [b, out, size]; each row sums to 1.
  """
  length = tf.broadcast_to(tf.cast(length, tf.float32), tf.shape(start))
  step = length[:, None, None] / out                        # [b, 1, 1]
  centre = start[:, None, None] + (
      tf.range(out, dtype=tf.float32)[None, :, None] + 0.5) * step
  pixel = tf.range(size, dtype=tf.float32)[None, None, :] + 0.5
  weight = 1 - tf.abs(pixel - centre) / tf.maximum(step, 1)  # [b, out, size]
  inside = (pixel > start[:, None, None]) & (
      pixel < (start + length)[:, None, None])
  weight = tf.where(inside, tf.maximum(weight, 0), 0)
  return weight / tf.reduce_sum(weight, axis=-1, keepdims=True)


def flip_matrices(columns: Any, flip: Any) -> Any:
  """Mirrors the outputs of column matrices [b, out, size] where `flip` [b]."""
  return tf.where(flip[:, None, None], columns[:, ::-1], columns)


def blur_matrices(sigma: Any, apply: Any, size: int) -> Any:
  """Gaussian blur along one axis; the kernel is normalised at the borders.

  Args:
    sigma: float32 [b], pixels.
    apply: bool [b]; False gives the identity.
    size: pixels along the axis.

  Returns:
    float32 [b, size, size].
  """
  at = tf.range(size, dtype=tf.float32)
  distance = at[:, None] - at[None, :]
  kernel = tf.exp(-0.5 * tf.square(distance / sigma[:, None, None]))
  radius = max(1, size // 20)             # SimCLR: a kernel of size // 10.
  kernel = tf.where(tf.abs(distance) <= radius, kernel, 0)
  kernel /= tf.reduce_sum(kernel, axis=-1, keepdims=True)
  return tf.where(apply[:, None, None], kernel, tf.eye(size))


def resample(images: Any, rows: Any, columns: Any) -> Any:
  """Applies row and column matrices.

  Args:
    images: float32 [b, h, w, 3].
    rows: float32 [b, out_h, h].
    columns: float32 [b, out_w, w].

  Returns:
    float32 [b, out_h, out_w, 3].
  """
  _, h, w, _ = images.shape
  x = tf.matmul(rows, tf.reshape(images, [-1, h, w * 3]))   # [b, oh, w*3]
  x = tf.reshape(x, [-1, rows.shape[1], w, 3])
  return tf.matmul(columns[:, None], x)                     # [b, oh, ow, 3]


def color_matrices(
    *, jitter: Any, gray: Any, amounts: Any, strength: float, mean: Any
) -> Any:
  """Affine maps of RGB for colour jitter and random gray.

  SimCLR's ranges: brightness, contrast and saturation are scaled by factors in
  1 ± 0.8 s, hue is turned by up to 0.2 s of the circle. Applied in this order;
  hue turns in YIQ, which is linear, rather than in HSV.

  Args:
    jitter: bool [b], which views are jittered.
    gray: bool [b], which views turn gray.
    amounts: float32 [b, 4] in [-1, 1), for each of the four.
    strength: s, at most 1.
    mean: float32 [b, 3], mean colour of each view before the jitter.

  Returns:
    float32 [b, 3, 4], for `apply_color`.
  """
  b = tf.shape(amounts)[0]
  eye = tf.eye(3, batch_shape=[b])                          # [b, 3, 3]
  luma = tf.tile(tf.constant(_GRAY)[None, None, :], [b, 3, 1])
  factors = 1 + 0.8 * strength * amounts[:, :3]
  brightness, contrast, saturation = (
      f[:, None, None] for f in tf.unstack(factors, axis=1))  # [b, 1, 1]
  angle = 2 * math.pi * 0.2 * strength * amounts[:, 3]
  cos, sin = tf.cos(angle), tf.sin(angle)
  zero, one = tf.zeros_like(cos), tf.ones_like(cos)
  turn = tf.reshape(
      tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1),
      [-1, 3, 3])
  hue = tf.matmul(_YIQ_TO_RGB, tf.matmul(turn, _RGB_TO_YIQ))
  after = tf.matmul(hue, saturation * eye + (1 - saturation) * luma)
  # Contrast blends with the mean gray of the brightened view.
  level = brightness * tf.reduce_sum(mean * _GRAY, -1)[:, None, None]
  shift = tf.matmul(after, tf.tile((1 - contrast) * level, [1, 3, 1]))
  matrix = tf.concat([after * (contrast * brightness), shift], axis=-1)
  identity = tf.concat([eye, tf.zeros([b, 3, 1])], axis=-1)
  matrix = tf.where(jitter[:, None, None], matrix, identity)  # [b, 3, 4]
  return tf.where(gray[:, None, None], tf.matmul(luma, matrix), matrix)


def apply_color(images: Any, matrix: Any) -> Any:
  """Applies affine maps [b, 3, 4] to the pixels of [b, h, w, 3]."""
  _, h, w, _ = images.shape
  x = tf.reshape(images, [-1, h * w, 3])
  x = tf.matmul(x, matrix[:, :, :3], transpose_b=True) + matrix[:, None, :, 3]
  return tf.reshape(x, [-1, h, w, 3])


def solarize(images: Any, apply: Any) -> Any:
  """Inverts the values from 128 up of the views where `apply` [b] (BYOL)."""
  chosen = apply[:, None, None, None] & (images >= 128)
  return tf.where(chosen, 255 - images, images)


def to_uint8(images: Any) -> Any:
  """Clips to 0 .. 255 and rounds."""
  return tf.cast(tf.round(tf.clip_by_value(images, 0, 255)), tf.uint8)


def centre(image: Any, size: int) -> Any:
  """Resizes the shorter side to `size` and cuts out the centre square.

  uint8 [h, w, 3] -> uint8 [size, size, 3].
  """
  if image.shape[0] == size and image.shape[1] == size:
    return image
  shape = tf.shape(image)
  side = tf.minimum(shape[0], shape[1])
  top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
  image = image[top:top + side, left:left + side]
  image = tf.image.resize(image, [size, size], antialias=True)
  return tf.ensure_shape(to_uint8(image), [size, size, 3])

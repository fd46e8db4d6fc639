"""Augmentations of whole batches of views.

Crop, resize, flip and blur are linear along each axis, so they are one matrix
for the rows and one for the columns; brightness, contrast, saturation, hue and
gray are linear in RGB, so they are one affine map of each pixel. A view is then
clip(colour(rows · image · columns)), and solarised. Unlike a chain of separate
operations, the values are clipped and rounded once, at the end; so it makes no
difference that SimCLR blurs after the colour and not before it.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from mtvit.data import srgb

_LUMA = np.array(srgb.LUMA, np.float32)
_RGB_TO_YIQ = np.array(
    [srgb.LUMA,
     [0.5959, -0.2746, -0.3213],
     [0.2115, -0.5227, 0.3112]], np.float32)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)
_GRAY = np.tile(_LUMA, [3, 1])                              # [3, 3]
_QUARTER = _YIQ_TO_RGB @ np.array(
    [[0, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32) @ _RGB_TO_YIQ
# Of which jitter is a sum: gray, what differs from it, and this turned by 90
# degrees of hue.
_PARTS = np.stack([_GRAY, np.eye(3, dtype=np.float32) - _GRAY, _QUARTER])


def crop_sides(u: Any, scale: tuple[float, float]) -> Any:
  """Sides of random resized crops, as shares of the side of a square image.

  The area is uniform in `scale`, the log of the aspect ratio in log 3/4 to
  log 4/3, as in Inception.

  Args:
    u: float32 [..., 2] uniform in [0, 1).
    scale: least and largest share of the area.

  Returns:
    Height and width, float32 [..., 2].
  """
  area = scale[0] + u[..., 0] * (scale[1] - scale[0])
  ratio = tf.exp((2 * u[..., 1] - 1) * math.log(4 / 3))
  return tf.sqrt(tf.stack([area / ratio, area * ratio], -1))


def crop_boxes(sides: Any, place: Any, height: Any, width: Any) -> Any:
  """Boxes of random resized crops: those of torchvision's RandomResizedCrop.

  The first of the tries that fits into the image; if none does, as much of its
  centre as has a ratio of 3/4 to 4/3.

  Args:
    sides: float32 [b, tries, 2], see `crop_sides`.
    place: float32 [b, 2] uniform in [0, 1), of top and left.
    height: of the images, int.
    width: likewise.

  Returns:
    Top, left, height and width, float32 [b, 4] with integral values.
  """
  size = tf.stack([tf.cast(height, tf.float32), tf.cast(width, tf.float32)])
  tries = tf.round(sides * tf.sqrt(size[0] * size[1]))      # [b, tries, 2]
  # The last one always fits.
  centre = tf.minimum(size, tf.round(size[::-1] * 4 / 3))   # [2]
  last = tf.broadcast_to(centre, tf.shape(tries[:, :1]))    # [b, 1, 2]
  tries = tf.concat([tries, last], 1)                       # [b, tries + 1, 2]
  fits = tf.reduce_all((tries >= 1) & (tries <= size), -1)  # [b, tries + 1]
  count = sides.shape[1]
  first = tf.reduce_min(
      tf.where(fits, tf.range(count + 1), count), -1)       # [b]
  box = tf.gather(tries, first, batch_dims=1)               # [b, 2]
  start = tf.where(
      (first == count)[:, None], (size - box) / 2, place * (size - box + 1))
  return tf.concat([tf.floor(start), box], -1)


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


def blur_radius(size: int) -> int:
  """SimCLR's kernel has a tenth of the image's side: 2 radius + 1 pixels."""
  return max(1, size // 20)


def blur_matrices(sigma: Any, apply: Any, size: int) -> Any:
  """Gaussian blur along one axis: torchvision's, mirrored at the borders.

  The pixel at the border is not repeated (numpy's "reflect").

  Args:
    sigma: float32 [b], pixels.
    apply: bool [b]; False gives the identity.
    size: pixels along the axis.

  Returns:
    float32 [b, size, size].
  """
  radius = blur_radius(size)
  offset = np.arange(-radius, radius + 1, dtype=np.float32)
  kernel = tf.exp(-0.5 * tf.square(offset / sigma[:, None]))  # [b, taps]
  kernel /= tf.reduce_sum(kernel, axis=-1, keepdims=True)
  kernel = tf.where(apply[:, None], kernel, np.float32(offset == 0))
  # Which pixel tap t of output i reads, and that as a matrix for each tap.
  reads = np.lib.stride_tricks.sliding_window_view(
      np.pad(np.arange(size), radius, mode="reflect"), size)  # [taps, size]
  place = np.eye(size, dtype=np.float32)[reads]             # [taps, i, size]
  return tf.reshape(
      kernel @ place.reshape(2 * radius + 1, -1), [-1, size, size])


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
  1 ± 0.8 s, hue is turned by up to 0.2 s of the circle, all uniform as in
  torchvision's ColorJitter. What it does with them differs. It applies them in
  a random order, here it is this one; it clips after each, here once, at the
  end; and it turns hue at the same value (HSV), here it turns at the same
  luma (YIQ), which is linear. At s = 0.5 its jitter changes a photograph by
  23.6 levels in the mean and this one by 23.9. With the same amounts the two
  are 1.7 levels apart without hue, 10.7 with it (hue alone changes 7.5 there
  and 10.6 here); another order is worth 2.4. Gray is torchvision's, rounded.

  Args:
    jitter: bool [b], which views are jittered.
    gray: bool [b], which views turn gray.
    amounts: float32 [b, 4] in [-1, 1), for each of the four.
    strength: s, at most 1.
    mean: float32 [b, 3], mean colour of each view before the jitter.

  Returns:
    float32 [b, 3, 4], for `apply_color`.
  """
  at = lambda value, where: tf.where(jitter, value, where)  # [b]
  brightness, contrast, saturation = (
      at(f, 1) for f in tf.unstack(1 + 0.8 * strength * amounts[:, :3], axis=1))
  angle = at(2 * math.pi * 0.2 * strength * amounts[:, 3], 0)
  saturation = tf.where(gray, 0.0, saturation)              # [b]
  # Hue and saturation change what differs from gray alone, so all is a sum of
  # three matrices.
  parts = tf.stack(                                         # [b, 3]
      [tf.ones_like(angle), saturation * tf.cos(angle),
       saturation * tf.sin(angle)], axis=1)
  scale = contrast * brightness
  after = tf.reshape(tf.matmul(
      parts * scale[:, None], _PARTS.reshape(3, 9)), [-1, 3, 3])
  # Contrast blends with the mean gray of the brightened view.
  level = tf.reduce_sum(mean * _LUMA, -1)                   # [b]
  shift = (1 - contrast) * brightness * level
  return tf.concat(
      [after, tf.tile(shift[:, None, None], [1, 3, 1])], axis=-1)


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

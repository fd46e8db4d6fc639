"""Augmentation: what is drawn for each view, and the two ways to do it.

Images held in memory are small and of one size: a batch of them is augmented at
once, by matrices (`image_ops`). Others are decoded and augmented one by one
(`views`). Both do what the same draws say: crops, resizes and blurs are within
two levels of each other, half a level in the mean.
"""

from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import numpy as np
import tensorflow as tf

from mtvit.data import draws as draw_lib
from mtvit.data import image_ops
from mtvit.data import views as views_lib

if TYPE_CHECKING:
  from mtvit import config as config_lib


_TRIES = 10       # torchvision's; then it takes the centre.


class Drawn(NamedTuple):
  """What is to happen to each view.

  Attributes:
    sides: float32 [b, tries, 2], see `image_ops.crop_sides`.
    place: float32 [b, 2] in [0, 1), see `image_ops.crop_boxes`.
    flip: bool [b].
    sigma: float32 [b], of the blur, pixels; None if no view is blurred.
    blur: bool [b].
    jitter: bool [b].
    gray: bool [b].
    amounts: float32 [b, 4], see `image_ops.color_matrices`.
    solarize: bool [b].
  """
  sides: Any
  place: Any
  flip: Any
  sigma: Any
  blur: Any
  jitter: Any
  gray: Any
  amounts: Any
  solarize: Any


class Rows(NamedTuple):
  """`views.Drawn`, with boxes still to be cut: [b, ...] each."""
  sides: Any
  place: Any
  flip: Any
  sigma: Any
  matrix: Any
  solarize: Any


def draw_all(
    section: "config_lib.Augment", draw: draw_lib.Draw, views: int
) -> Drawn:
  """Draws for each view of a batch.

  Args:
    section: the `augment` section.
    draw: the randomness of a step.
    views: of each image.
  """
  fold, crop = draw.fold("augment"), draw.fold("crop")
  chance = fold.uniform("chance", (5,))                     # [b, 5]

  def hits(column, p):      # A probability, or one for each view of an image.
    if not np.any(p):
      return tf.zeros([draw.count], tf.bool)                # [b]
    p = tf.broadcast_to(tf.constant(p, tf.float32), [views])
    return chance[:, column] < tf.tile(p, [draw.count // views])  # [b]

  return Drawn(
      sides=image_ops.crop_sides(
          crop.uniform("sides", (_TRIES, 2)), section.crop_scale),
      place=crop.uniform("place", (2,)),
      flip=hits(0, section.flip),
      sigma=(fold.uniform("sigma", (), 0.1, 2.0) if np.any(section.blur)
             else None),
      blur=hits(3, section.blur), jitter=hits(1, section.jitter),
      gray=hits(2, section.gray), amounts=fold.uniform("amounts", (4,), -1, 1),
      solarize=hits(4, section.solarize))


def batch(
    images: Any, drawn: Drawn, section: "config_lib.Augment", size: int
) -> Any:
  """The views of a batch of images of one size, by matrices.

  Args:
    images: uint8 [b, h, w, 3], once for each view.
    drawn: what happens to each.
    section: the `augment` section.
    size: side of a view, pixels.

  Returns:
    uint8 [b, size, size, 3].
  """
  _, height, width, _ = images.shape
  top, left, h, w = tf.unstack(image_ops.crop_boxes(
      drawn.sides, drawn.place, height, width), axis=1)     # [b] each
  rows = image_ops.crop_matrices(top, h, height, size)      # [b, size, height]
  columns = image_ops.crop_matrices(left, w, width, size)   # [b, size, width]
  columns = image_ops.flip_matrices(columns, drawn.flip)
  if drawn.sigma is not None:
    blur = image_ops.blur_matrices(drawn.sigma, drawn.blur, size)
    rows, columns = tf.matmul(blur, rows), tf.matmul(blur, columns)
  x = image_ops.resample(
      tf.cast(images, tf.float32), rows, columns)           # [b, size, size, 3]
  x = image_ops.apply_color(
      x, _matrices(drawn, section, tf.reduce_mean(x, axis=(1, 2))))
  if np.any(section.solarize):
    x = image_ops.solarize(tf.clip_by_value(x, 0, 255), drawn.solarize)
  return image_ops.to_uint8(x)


def rows(drawn: Drawn, section: "config_lib.Augment") -> Rows:
  """What `one` needs of the draws of a batch."""
  off = tf.zeros_like(drawn.amounts[:, 0])                  # [b]
  return Rows(
      drawn.sides, drawn.place, drawn.flip,
      off if drawn.sigma is None else tf.where(drawn.blur, drawn.sigma, off),
      _matrices(drawn, section, tf.ones_like(drawn.amounts[:, :3])),
      drawn.solarize)


def one(image: Any, full: Any, its: Rows, size: int) -> Any:
  """The views of one image.

  If it was decoded at a part of its size, its crops stay where they are in the
  full image, and views differ from those of the full one by a level in the
  mean: on photographs by 4 in the worst view, and at edges by up to 80.

  Args:
    image: uint8 [h, w, 3], maybe decoded at a part of its size.
    full: int32 [2], its height and width.
    its: [views, ...] each.
    size: side of a view, pixels.

  Returns:
    uint8 [views, size, size, 3].
  """
  boxes = image_ops.crop_boxes(its.sides, its.place, full[0], full[1])
  x = tf.numpy_function(
      lambda image, full, *drawn: views_lib.make(
          image, full, views_lib.Drawn(*drawn), size),
      [image, full, boxes, *its[2:]], tf.uint8, stateful=False)
  return tf.ensure_shape(x, [its.place.shape[0], size, size, 3])


def shrink(its: Rows, size: int) -> Callable[[Any, Any], Any]:
  """By how much an image may shrink: (height, width) -> float32.

  Until the shortest side of its crops is `size`.
  """
  def most(height, width):
    boxes = image_ops.crop_boxes(its.sides, its.place, height, width)
    return tf.reduce_min(boxes[:, 2:]) / size

  return most


def _matrices(drawn: Drawn, section: "config_lib.Augment", mean: Any) -> Any:
  """Colour jitter and gray of views of mean colours [b, 3]: [b, 3, 4]."""
  return image_ops.color_matrices(
      jitter=drawn.jitter, gray=drawn.gray, amounts=drawn.amounts,
      strength=section.jitter_strength, mean=mean)

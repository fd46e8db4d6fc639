"""Pictures that a program gives, as an encoder sees them; no TensorFlow."""

from typing import Any

from PIL import Image
import numpy as np

from mtvit import errors
from mtvit.data import images
from mtvit.data import srgb


def square(given: Any, name: str, size: int, gray: bool) -> np.ndarray:
  """One picture as a model wants it: uint8 [s, s, 3].

  EXIF rotation is undone, and transparency shows white, as in training. The
  centre square is cut out and resized, as the evaluations do (Pillow's
  bilinear filter in the place of TensorFlow's: values may differ by 1 of 255).
  Gray pictures are repeated over the channels.

  Args:
    given: uint8 [h, w], [h, w, 3] or [h, w, 4], or a PIL image.
    name: of it, for an error.
    size: side of the result, pixels.
    gray: whether the model sees gray.

  Raises:
    ConfigError: it is nothing of that.
  """
  if not isinstance(given, Image.Image):
    array = np.asarray(given)
    if array.dtype != np.uint8 or not array.size or not (
        array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)):
      raise errors.ConfigError(
          f"{name} is {array.dtype} {array.shape}",
          "give uint8 [h, w, 3], or a PIL image")
    given = Image.fromarray(array)
  given.load()
  pixels = images.upright_rgb(given)                        # [h, w, 3]
  if pixels.shape[:2] != (size, size):
    side = min(pixels.shape[:2])
    top, left = ((x - side) // 2 for x in pixels.shape[:2])
    pixels = np.asarray(Image.fromarray(np.ascontiguousarray(
        pixels[top:top + side, left:left + side])).resize(
            (size, size), Image.Resampling.BILINEAR))       # [s, s, 3]
  return _gray(pixels) if gray else pixels


def _gray(pixels: np.ndarray) -> np.ndarray:
  """Gray of equal luminance, as `patch_ops.luminance` makes it."""
  linear = srgb.to_linear(pixels.astype(np.float32) / 255, np.where)
  gray = srgb.from_linear(linear @ srgb.LUMINANCE, np.where)  # [s, s]
  gray = np.round(np.clip(gray, 0, 1) * 255).astype(np.uint8)
  return np.repeat(gray[..., None], 3, axis=-1)

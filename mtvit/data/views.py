"""The views of one image, and what else OpenCV does faster than TensorFlow.

Everything random is drawn before: an image becomes its views by numbers that
are given. `image_ops` does the same to batches of small images; here images
come one by one, in any size. Values are rounded after each step, not once at
the end, so that the two differ by a level or two.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from mtvit.data import image_ops
from mtvit.data import resizing
from mtvit.data import srgb

_SOLARIZED = np.where(
    np.arange(256) < 128, np.arange(256), 255 - np.arange(256)).astype(np.uint8)


class Drawn(NamedTuple):
  """What was drawn for v views.

  Attributes:
    boxes: float32 [v, 4]: top, left, height and width of each view's crop from
      the full image.
    flip: bool [v].
    sigma: float32 [v], of the blur, pixels of the view; 0 for none.
    matrix: float32 [v, 3, 4], see `recolor`.
    solarized: bool [v].
  """
  boxes: np.ndarray
  flip: np.ndarray
  sigma: np.ndarray
  matrix: np.ndarray
  solarized: np.ndarray


def make(
    image: np.ndarray, full: np.ndarray, drawn: Drawn, size: int
) -> np.ndarray:
  """Crops, resizes, flips, blurs, colours and solarises, in this order.

  Args:
    image: uint8 [h, w, 3], decoded at 1, 1/2, 1/4 or 1/8 of its size.
    full: int32 [2], its height and width.
    drawn: for its views.
    size: side of a view, pixels.

  Returns:
    uint8 [v, size, size, 3].
  """
  # The images of a batch are what is done in parallel.
  cv2.setNumThreads(0)
  ratio = next(r for r in (1, 2, 4, 8) if r * image.shape[0] >= full[0])
  views = np.empty((len(drawn.boxes), size, size, 3), np.uint8)
  for i, box in enumerate((drawn.boxes / ratio).tolist()):
    x = resizing.resize(image, box, size)
    if drawn.flip[i]:
      x = cv2.flip(x, 1)
    if drawn.sigma[i]:
      x = blur(x, float(drawn.sigma[i]))
    x = recolor(x, drawn.matrix[i])
    views[i] = cv2.LUT(x, _SOLARIZED) if drawn.solarized[i] else x
  return views


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
  """Gaussian blur of uint8 [s, s, 3], as `image_ops.blur_matrices` has it.

  What lies more than 3 sigma away, 0.3 % of the weight, is left out.
  """
  radius = min(math.ceil(3 * sigma), image_ops.blur_radius(image.shape[0]))
  kernel = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
  # Not GaussianBlur: of uint8 it rounds the kernel too, and takes longer.
  blurred = cv2.sepFilter2D(
      image, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
  return cv2.convertScaleAbs(blurred)     # Rounds; nothing is negative.


def recolor(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """Applies an affine map of RGB whose shift is for a mean gray of 1.

  Args:
    image: uint8 [h, w, 3].
    matrix: float32 [3, 4], `image_ops.color_matrices` of the mean (1, 1, 1):
      the shift is proportional to the image's mean gray.

  Returns:
    uint8 [h, w, 3].
  """
  gray = np.dot(cv2.mean(image)[:3], srgb.LUMA)
  return cv2.transform(image, matrix * np.array([1, 1, 1, gray], np.float32))


def rotate(images: np.ndarray, turns: np.ndarray) -> np.ndarray:
  """Turns each of uint8 [b, s, s, 3] by `turns` [b] quarters, as np.rot90."""
  codes = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180,
           3: cv2.ROTATE_90_CLOCKWISE}
  turned = images.copy()
  for image, out, quarters in zip(images, turned, turns.tolist()):
    if quarters:
      cv2.rotate(image, codes[quarters], dst=out)
  return turned


def look_up(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Replaces each colour by a gray.

  Args:
    pixels: uint8 [..., 3].
    table: uint8 [2^24], of red + 256 green + 65536 blue.

  Returns:
    uint8 [..., 3].
  """
  cv2.setNumThreads(0)
  rgba = cv2.cvtColor(pixels.reshape(1, -1, 3), cv2.COLOR_RGB2RGBA)
  # With an alpha of 255 on top it is a negative index, from the table's end.
  gray = table.take(rgba.view("<i4"))                       # [1, pixels, 1]
  return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB).reshape(pixels.shape)

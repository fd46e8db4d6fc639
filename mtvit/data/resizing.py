"""Resizing one image: bilinear, without aliasing.

Every pixel of the result is the mean of the pixels around its centre, weighted
by a triangle that is as wide as a pixel of the result, and two pixels of the
image at least; what lies outside of the box does not count. This is the filter
of Pillow's BILINEAR, of torchvision and of tf.image.resize with antialias=True,
which other parts use; all round to within one level of it.
"""

import functools

import cv2
import numpy as np

_ROWS = 8         # Of the result, made by one matrix product.
# Multiplications in one product: OpenBLAS gives no more than these to a single
# thread, and here the images of a batch are what is done in parallel.
_MOST = 2**18


def resize(
    image: np.ndarray, box: tuple[float, float, float, float], size: int
) -> np.ndarray:
  """Cuts out a box and resizes it to a square.

  Args:
    image: uint8 [h, w, 3].
    box: top, left, height and width, pixels; fractions count where it shrinks.
    size: side, pixels.

  Returns:
    uint8 [size, size, 3].
  """
  top, left, height, width = box
  y, x = int(top), int(left)
  crop = image[y:int(np.ceil(top + height)), x:int(np.ceil(left + width))]
  h, w, _ = crop.shape
  if (y, x, h, w) == tuple(box) and max(h, w) <= size:
    # Where nothing shrinks OpenCV's filter is the same, and faster.
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
  rows = _resample(crop.reshape(h, w * 3), top - y, height, size)
  turned = cv2.transpose(rows.reshape(size, w, 3))          # [w, size, 3]
  square = _resample(turned.reshape(w, size * 3), left - x, width, size)
  # Rounds; nothing is negative.
  square = cv2.convertScaleAbs(square.reshape(size, size, 3))
  return cv2.transpose(square)


def _resample(
    x: np.ndarray, start: float, length: float, size: int
) -> np.ndarray:
  """Resizes the rows [start, start + length) of [h, n]: float32 [size, n]."""
  make = _kept if length <= 4 * size else _weights
  index, weight = make(start, length, size)
  blocks, rows, taps = weight.shape
  n = x.shape[1]
  out = np.empty([blocks, rows, n], np.float32)
  stripe = max(64, _MOST // (rows * taps))
  for i in range(0, n, stripe):
    part = x[:, i:i + stripe][index].astype(np.float32)     # [blocks, taps, ·]
    np.matmul(weight, part, out=out[..., i:i + stripe])
  return out.reshape(-1, n)[:size]


def _weights(
    start: float, length: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """The matrices of `_resample`: rows that lie side by side share a few inputs.

  Args:
    start: where the box begins, in [0, 1).
    length: of it, pixels.
    size: pixels of the result.

  Returns:
    Which inputs the rows of a block need, int64 [blocks, taps], and the weight
    of each for each, float32 [blocks, rows, taps].
  """
  step = length / size
  wide = max(step, 1.0)
  blocks = -(-size // _ROWS)
  taps = int(np.ceil((_ROWS - 1) * step + 2 * wide)) + 1
  row = np.minimum(np.arange(blocks * _ROWS), size - 1)   # The last one again.
  centre = (start + (row + 0.5) * step).reshape(blocks, _ROWS, 1)
  first = np.floor(centre[:, :1] - wide).astype(np.int64)   # [blocks, 1, 1]
  index = first + np.arange(taps)                           # [blocks, 1, taps]
  weight = np.maximum(1 - np.abs(index + 0.5 - centre) / wide, 0)
  weight *= (index + 0.5 > start) & (index + 0.5 < start + length)
  weight /= weight.sum(-1, keepdims=True)
  index = np.clip(index[:, 0], 0, int(np.ceil(start + length)) - 1)
  return index, weight.astype(np.float32)


_kept = functools.lru_cache(512)(_weights)

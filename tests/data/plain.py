"""Augmentations written down plainly, in float64, one after the other."""

import math

import numpy as np
from PIL import Image
import scipy.ndimage


def color(x, amounts, strength, gray):
  """Brightness, contrast, saturation, hue, gray: one after the other."""
  luma = np.array([0.299, 0.587, 0.114])
  mean_gray = lambda x: (x @ luma)
  factors = 1 + 0.8 * strength * amounts[:3]
  x = x * factors[0]
  x = factors[1] * x + (1 - factors[1]) * mean_gray(x).mean()
  x = factors[2] * x + (1 - factors[2]) * mean_gray(x)[..., None]
  to_yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213],
                     [0.2115, -0.5227, 0.3112]])
  y, i, q = np.moveaxis(x @ to_yiq.T, -1, 0)
  turned = (i + 1j * q) * np.exp(2j * np.pi * 0.2 * strength * amounts[3])
  x = np.stack([y, turned.real, turned.imag], -1) @ np.linalg.inv(to_yiq).T
  return np.repeat((x @ luma)[..., None], 3, -1) if gray else x


def resize(image, box, size):
  """Crops and resizes: each pixel by its weights, float64 [size, size, 3].

  The box may have fractions: of what it cuts, pixels count whose centre is in
  it.
  """
  x = np.asarray(image, np.float64)
  for axis in (0, 1):
    start, length = box[axis], box[axis + 2]
    pixels = np.arange(image.shape[axis]) + 0.5
    inside = (start < pixels) & (pixels < start + length)
    rows = []
    for i in range(size):
      centre = start + (i + 0.5) * length / size
      distance = np.abs(pixels - centre) / max(1, length / size)
      row = np.where(inside & (distance < 1), 1 - distance, 0)
      rows.append(row / row.sum())
    x = np.moveaxis(np.tensordot(np.array(rows), x, (1, axis)), 0, axis)
  return x


def pillow(image, box, size):
  """The same by Pillow, of whole pixels: uint8 -> float64 [size, size, 3]."""
  top, left, h, w = map(int, box)
  crop = Image.fromarray(image[top:top + h, left:left + w])
  return np.asarray(crop.resize(
      (size, size), Image.Resampling.BILINEAR)).astype(np.float64)


def crop(rng, height, width, scale):
  """A box of a random resized crop, as torchvision draws it."""
  ratios = (3 / 4, 4 / 3)
  for _ in range(10):
    area = height * width * rng.uniform(*scale)
    ratio = math.exp(rng.uniform(*map(math.log, ratios)))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      return (int(rng.integers(0, height - h + 1)),
              int(rng.integers(0, width - w + 1)), h, w)
  h, w = height, width
  if width / height < ratios[0]:
    h = round(width / ratios[0])
  elif width / height > ratios[1]:
    w = round(height * ratios[1])
  return (height - h) // 2, (width - w) // 2, h, w


def blur(x, sigma, radius):
  """Gaussian blur, mirrored at the borders as torchvision's."""
  return scipy.ndimage.gaussian_filter(
      x, (sigma, sigma, 0), radius=(radius, radius, 0), mode="mirror")


def solarize(x):
  return np.where(x >= 128, 255 - x, x)


def rounded(x):
  return np.round(np.clip(x, 0, 255))

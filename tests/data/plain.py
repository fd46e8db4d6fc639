"""Augmentations written down plainly, in float64, one after the other."""

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
  """Crops and resizes as Pillow does: uint8 -> float64 [size, size, 3]."""
  top, left, h, w = map(int, box)
  crop = Image.fromarray(image[top:top + h, left:left + w])
  return np.asarray(crop.resize(
      (size, size), Image.Resampling.BILINEAR)).astype(np.float64)


def blur(x, sigma, radius):
  """Gaussian blur, mirrored at the borders."""
  return scipy.ndimage.gaussian_filter(
      x, (sigma, sigma, 0), radius=(radius, radius, 0))


def solarize(x):
  return np.where(x >= 128, 255 - x, x)


def rounded(x):
  return np.round(np.clip(x, 0, 255))

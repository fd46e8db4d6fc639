"""What the numbers of an sRGB picture mean: the only place of these constants.

NumPy alone, so that TensorFlow's input, JAX's losses and a loaded encoder all
take them from here. The two functions work on the arrays of any of the three
and are given its `where`.

Source: IEC 61966-2-1 for the curve and the primaries, CIE 15 for the white,
ITU-R BT.601 for luma.
"""

from typing import Any, Callable

import numpy as np

RGB_TO_XYZ = np.array([                 # Of linear light.
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
], np.float32)
WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)       # D65, 2 degrees
# Y of linear light: what the eye takes for brightness, and Lab's L is made of.
LUMINANCE = RGB_TO_XYZ[1]
# Y' of the numbers in a file, which is what torchvision and OpenCV call gray.
LUMA = (0.299, 0.587, 0.114)


def to_linear(values: Any, where: Callable[..., Any]) -> Any:
  """sRGB in [0, 1] -> linear light in [0, 1], an array of the same kind."""
  return where(
      values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


def from_linear(light: Any, where: Callable[..., Any]) -> Any:
  """The inverse of `to_linear`; `light` is not negative."""
  return where(
      light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)

"""Statistics of the data as they come back from a checkpoint."""

from typing import Any

import numpy as np


def numbers(value: Any, *shape: int | None) -> np.ndarray:
  """Statistics as float32 of a shape, in which None is any size.

  Raises:
    ValueError: they have another shape, or are not finite.
    TypeError: they are no numbers.
  """
  with np.errstate(over="ignore"):
    array = np.asarray(value, np.float32)
  if len(array.shape) != len(shape) or any(
      want not in (None, size) for want, size in zip(shape, array.shape)):
    raise ValueError(f"shape {array.shape} instead of {shape}")
  if not np.isfinite(array).all():
    raise ValueError("not finite")
  return array

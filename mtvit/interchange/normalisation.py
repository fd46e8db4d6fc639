"""What other libraries subtract from pixels, and divide them by.

Our encoder sees pixels / 127.5 - 1, mean and deviation 0.5. Another mean and
deviation go into the patch projection, which is exact: it is linear.
"""

import pathlib
from typing import Any, Mapping

import numpy as np

from mtvit import errors

OURS = ((0.5,) * 3, (0.5,) * 3)
_LARGEST = 1e4                     # Of a mean, a deviation, or its inverse.


def check(
    path: pathlib.Path, told: Mapping[str, Any], mean: str, std: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
  """The mean and the deviation of pixels in 0 .. 1; None if nothing tells.

  Args:
    path: of the file of weights, for messages.
    told: what describes it.
    mean: the key of the mean.
    std: the key of the deviation.

  Raises:
    CheckpointError: they are not three numbers each, or no deviation.
  """
  if mean not in told or std not in told:
    return None
  values = (told[mean], told[std])
  sound = all(
      isinstance(x, list) and len(x) == 3
      and all(type(v) in (int, float) and abs(v) <= _LARGEST for v in x)
      for x in values)
  if not sound or min(told[std]) < 1 / _LARGEST:
    raise errors.CheckpointError(
        f"{path}: its pixels are said to have mean and deviation "
        f"{repr(values)[:80]}", "repair the JSON beside it")
  return tuple(told[mean]), tuple(told[std])


def fold(
    ours: dict[str, np.ndarray], mean: tuple[float, ...],
    std: tuple[float, ...]
) -> None:
  """Changes the patch projection so that it takes our pixels.

  (p - mean) / std, of p = (x + 1) / 2, is x / (2 std) + (0.5 - mean) / std.

  Args:
    ours: path -> array; `embed/kernel` [p p 3, d] and `embed/bias` [d] change.
    mean: of each channel.
    std: of each channel.
  """
  if (mean, std) == OURS:
    return                         # To the last bit.
  kernel = np.asarray(ours["embed/kernel"], np.float64)
  kernel = kernel.reshape(-1, 3, kernel.shape[-1])          # [p p, 3, d]
  scale = np.array(std)[:, None]                            # [3, 1]
  offset = (0.5 - np.array(mean)[:, None]) / scale          # [3, 1]
  ours["embed/bias"][...] = ours["embed/bias"] + (
      kernel * offset).sum((0, 1))
  ours["embed/kernel"][...] = (kernel / (2 * scale)).reshape(
      ours["embed/kernel"].shape)

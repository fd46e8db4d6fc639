"""What a task shows of a view, in numpy."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Panel:
  """A picture of one view with marks on its patches.

  Attributes:
    title: what it shows.
    image: uint8 [h, w, 3].
    boxes: (patch id, colour) of the patches to frame.
    arrows: (patch id, (rows, columns), colour), in it and in that direction.
  """
  title: str
  image: np.ndarray
  boxes: tuple[tuple[int, str], ...] = ()
  arrows: tuple[tuple[int, tuple[int, int], str], ...] = ()


def paste(image: np.ndarray, ids: np.ndarray, patches: np.ndarray
          ) -> np.ndarray:
  """Returns a copy of a view with some patches replaced.

  Args:
    image: uint8 [h, w, 3].
    ids: int [k] patch ids in reading order.
    patches: uint8 [k, p, p, 3].
  """
  image = image.copy()
  p = patches.shape[1]
  columns = image.shape[1] // p
  for i, patch in zip(ids, patches):
    y, x = (i // columns) * p, (i % columns) * p
    image[y:y + p, x:x + p] = patch
  return image

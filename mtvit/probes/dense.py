"""A dense probe without dense labels: which class lies under this patch?

A mosaic is 2x2 images, each shrunk to half the side. The label of a patch is
the class of the image in its quadrant; patches that lie in two are left out. A
place says nothing, since the classes of the quadrants are random.
"""

import dataclasses

import numpy as np

from mtvit.probes import bootstrap

QUADRANTS = 4


@dataclasses.dataclass(frozen=True)
class Mosaics:
  """Mosaics and what is in them.

  Attributes:
    images: uint8 [m, s, s, 3].
    classes: int [m, 4], of the quadrants in reading order.
  """
  images: np.ndarray
  classes: np.ndarray


def shrink(images: np.ndarray) -> np.ndarray:
  """Halves the side by means of 2x2 pixels: uint8 [m, s, s, 3], s even."""
  m, s, _, c = images.shape
  x = images.reshape(m, s // 2, 2, s // 2, 2, c)
  total = x.sum(axis=(2, 4), dtype=np.uint16)               # [m, s/2, s/2, c]
  return ((total + 2) // 4).astype(np.uint8)


def mosaics(
    small: np.ndarray, labels: np.ndarray, seed: int = 0
) -> Mosaics:
  """Puts shrunk images together, four at a time, each into one mosaic.

  Args:
    small: uint8 [m, s/2, s/2, 3].
    labels: int [m].
    seed: of the order; images that do not fill a mosaic are left over.

  Returns:
    m // 4 mosaics.
  """
  count, h = len(small) // QUADRANTS, small.shape[1]
  order = np.random.default_rng(seed).permutation(len(small))
  order = order[:count * QUADRANTS].reshape(count, 2, 2)    # [count, 2, 2]
  x = small[order].swapaxes(2, 3)                # [count, 2, h, 2, h, 3]
  return Mosaics(
      x.reshape(count, 2 * h, 2 * h, 3),
      labels[order].reshape(count, QUADRANTS))


def quadrants(grid: tuple[int, int]) -> np.ndarray:
  """The quadrant of each patch: int [n], 0 .. 3, or -1 if it lies in two."""
  def half(size):
    at = np.arange(size)
    return np.where(2 * (at + 1) <= size, 0, np.where(2 * at >= size, 1, -1))

  row, column = half(grid[0])[:, None], half(grid[1])[None]
  found = np.where((row < 0) | (column < 0), -1, 2 * row + column)
  return found.ravel()


def pick(grid: tuple[int, int], most: int) -> np.ndarray:
  """Patches that lie in one quadrant: ascending, at most so many, random."""
  ids = np.flatnonzero(quadrants(grid) >= 0)
  if len(ids) > most:
    ids = np.random.default_rng(0).choice(ids, most, replace=False)
  return np.sort(ids)


def patch_labels(
    classes: np.ndarray, grid: tuple[int, int], ids: np.ndarray
) -> np.ndarray:
  """The class under each patch: int [m, 4] and ids [k] -> int [m, k]."""
  return classes[:, quadrants(grid)[ids]]


def score(guesses: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Accuracy over patches, and how sure it is.

  Args:
    guesses: int [m, k].
    labels: int [m, k].

  Returns:
    `accuracy`; `low` and `high`, the 95 % bootstrap interval over mosaics, not
    over patches, which are not independent; `chance`, the share of the largest
    class.
  """
  right = (guesses == labels).mean(axis=1)                  # [m]
  sure = bootstrap.interval(right)
  return {"accuracy": float(right.mean()), "low": sure.low, "high": sure.high,
          "chance": float(np.bincount(labels.ravel()).max() / labels.size)}

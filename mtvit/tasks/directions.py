"""The eight directions between patches, and what slots alone give away."""

import functools

import numpy as np

# Rows and columns to each of the eight neighbours, in reading order.
OFFSETS = tuple(
    (dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def direction_table(grid: tuple[int, int]) -> np.ndarray:
  """The nearest of the eight directions for each offset between two patches.

  tan(22.5 degrees) is irrational, so no offset lies between two directions.

  Args:
    grid: patches per column and per row, gh and gw.

  Returns:
    int32 [2 gh - 1, 2 gw - 1], 0 to 7 in reading order, the offset (dy, dx) at
    (dy + gh - 1, dx + gw - 1). The offset (0, 0) has -1.
  """
  gh, gw = grid
  dy, dx = np.mgrid[1 - gh:gh, 1 - gw:gw]
  least = np.tan(np.pi / 8)
  row = np.sign(dy) * (np.abs(dy) > least * np.abs(dx))     # -1, 0 or 1
  column = np.sign(dx) * (np.abs(dx) > least * np.abs(dy))
  place = 3 * (row + 1) + column + 1                        # In a 3x3 block.
  label = np.where(place == 4, -1, place - (place > 4))
  return label.astype(np.int32)                             # [2gh-1, 2gw-1]


def direction_shares(grid: tuple[int, int]) -> np.ndarray:
  """How often each direction occurs among all ordered pairs of patches: [8]."""
  (gh, gw), table = grid, direction_table(grid)
  # An offset fits into the grid as often as its rectangle does.
  times = np.outer(
      gh - np.abs(np.arange(1 - gh, gh)), gw - np.abs(np.arange(1 - gw, gw)))
  counts = np.bincount(table[table >= 0], times[table >= 0], minlength=8)
  return counts / counts.sum()


@functools.cache
def any_slot_bound(num_pairs: int, grid: tuple[int, int]) -> float:
  """Accuracy of an ideal reader of slots if any two may form a pair.

  It knows the set of 2m slots that lack an embedding. Each ordered pair of
  them is equally likely to be asked for, so the best guess is the commonest
  direction among them: E[max count of directions] / (2m (2m - 1)), estimated
  from 20,000 sets.
  """
  (gh, gw), k = grid, 2 * num_pairs
  table, rng = direction_table(grid), np.random.default_rng(0)
  # Both orders of a pair lie on one axis and add one to either direction.
  first, second = np.triu_indices(k, 1)
  rounds, sets, total = 200, 100, 0
  for _ in range(rounds):
    order = rng.random((sets, gh * gw)).argpartition(k - 1, axis=1)
    y, x = np.divmod(order[:, :k], gw)                      # [sets, k]
    label = table[y[:, second] - y[:, first] + gh - 1,
                  x[:, second] - x[:, first] + gw - 1]
    axis = np.minimum(label, 7 - label)                     # 0, 1, 2 or 3
    counts = [np.count_nonzero(axis == a, axis=1) for a in range(4)]
    total += np.max(counts, axis=0).sum()
  return float(total / (rounds * sets * k * (k - 1)))

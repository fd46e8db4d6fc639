"""Whether the grid has patches enough for all tasks."""

from typing import Sequence

from mtvit import errors
from mtvit.tasks import base


def check(tasks: Sequence[base.Task], grid: tuple[int, int]) -> None:
  """Raises ConfigError if disjoint patches can't be found for all tasks."""
  gh, gw = grid
  names = lambda field: " + ".join(
      task.name for task in tasks if getattr(task, field))
  blocks = sum(task.num_blocks for task in tasks)
  have = (gh // 3) * (gw // 3)
  if blocks > have:
    raise errors.ConfigError(
        f"{names('num_blocks')} need {blocks} blocks of 3x3 patches; the "
        f"{gh}x{gw} grid has {have}",
        "take fewer, or a larger image_size or a smaller patch")
  counts = {task.name: 9 * task.num_blocks + 2 * task.num_neighbours
            + task.num_patches for task in tasks}
  patches = sum(counts.values())
  if patches > gh * gw:
    claimants = " + ".join(name for name, count in counts.items() if count)
    raise errors.ConfigError(
        f"{claimants} need {patches} patches; the {gh}x{gw} grid has "
        f"{gh * gw}", "take fewer, or a larger image_size or a smaller patch")
  taken = 0
  for task in tasks:
    # Pairs come from a matching of all patches: one taken breaks up one pair.
    least = max(0, gh * gw // 2 - taken)
    if task.num_neighbours > least:
      raise errors.ConfigError(
          f"{task.name} needs {task.num_neighbours} pairs of neighbours; the "
          f"{taken} patches of other tasks may leave {least} on the "
          f"{gh}x{gw} grid",
          "take fewer, or a larger image_size or a smaller patch")
    taken += counts[task.name]

"""The pretext tasks. Adding one is a file here and a line in `TASKS`."""

import dataclasses
from typing import Any, Mapping

from mtvit import errors
from mtvit.tasks import base
from mtvit.tasks import colorize
from mtvit.tasks import contrastive
from mtvit.tasks import relative_position

# In the order in which tasks claim patches: those that take whole blocks come
# first, since single patches can be found in what they leave, not conversely.
TASKS: dict[str, type[base.Task]] = {
    task.name: task for task in (
        contrastive.Contrastive,
        relative_position.RelativePosition,
        colorize.Colorize,
    )
}


def create(
    config: Mapping[str, Mapping[str, Any]], geometry: base.Geometry
) -> tuple[base.Task, ...]:
  """Makes the tasks of a config that are not off, in claiming order.

  Args:
    config: the `tasks` section, task name -> fields.
    geometry: the views that the tasks will see.

  Raises:
    ConfigError: an unknown task or field, or too few patches for the tasks.
  """
  for name in config:
    if name not in TASKS:
      raise errors.ConfigError(
          f"tasks.{name}: no such task",
          f"choose among {', '.join(TASKS)}")
  tasks = []
  for name, task in TASKS.items():
    if name not in config:
      continue
    fields = dict(config[name])
    known = task.config_fields()
    for key in fields:
      if key not in known:
        raise errors.ConfigError(
            f"tasks.{name}.{key}: no such key" + errors.suggest(key, known))
    try:
      bound = dataclasses.replace(task(**fields), geometry=geometry)
    except ValueError as e:
      raise errors.ConfigError(f"tasks.{name}: {e}") from e
    if bound.mode != "off":
      tasks.append(bound)
  if not any(task.trains for task in tasks):
    raise errors.ConfigError(
        "no task trains", "set tasks.NAME.mode=train for one at least")
  _check_capacity(tasks, geometry)
  return tuple(tasks)


def _check_capacity(
    tasks: list[base.Task], geometry: base.Geometry
) -> None:
  """Raises ConfigError if disjoint patches can't be found for all tasks."""
  gh, gw = geometry.grid
  names = lambda field: " + ".join(
      task.name for task in tasks if getattr(task, field))
  blocks = sum(task.num_blocks for task in tasks)
  have = (gh // 3) * (gw // 3)
  if blocks > have:
    raise errors.ConfigError(
        f"{names('num_blocks')} need {blocks} blocks of 3x3 patches; the "
        f"{gh}x{gw} grid has {have}",
        "take fewer, or a larger image_size or a smaller patch")
  patches = 9 * blocks + sum(task.num_patches for task in tasks)
  if patches > gh * gw:
    claimants = " + ".join(
        task.name for task in tasks if task.num_blocks or task.num_patches)
    raise errors.ConfigError(
        f"{claimants} need {patches} patches; the {gh}x{gw} grid has "
        f"{gh * gw}", "take fewer, or a larger image_size or a smaller patch")


def with_statistics(
    tasks: tuple[base.Task, ...], statistics: Mapping[str, Any]
) -> tuple[base.Task, ...]:
  """Binds to each task what `Task.measure` found in the training data."""
  return tuple(
      dataclasses.replace(task, statistics=statistics.get(task.name, {}))
      for task in tasks)

"""The pretext tasks. Adding one is a file here and a line in `TASKS`."""

import dataclasses
from typing import Any, Mapping, Sequence

from mtvit import errors
from mtvit.models import interface
from mtvit.tasks import base
from mtvit.tasks import checks
from mtvit.tasks import clustering
from mtvit.tasks import colorize
from mtvit.tasks import contrastive
from mtvit.tasks import inpaint
from mtvit.tasks import jigsaw
from mtvit.tasks import relative_position
from mtvit.tasks import rotation
from mtvit.tasks import supervised


class Table(dict[str, type[base.Task]]):
  """Tasks by name; listing one checks its declaration."""

  def __init__(self, *tasks: type[base.Task]):
    super().__init__()
    for task in tasks:
      self[getattr(task, "name", "")] = task

  def __setitem__(self, name: str, task: type[base.Task]) -> None:
    checks.declaration(name, task, self)
    super().__setitem__(name, task)


# In the order in which tasks corrupt views and claim patches.
TASKS = Table(
    contrastive.Contrastive,
    rotation.Rotation,
    clustering.Clustering,
    relative_position.RelativePosition,
    jigsaw.Jigsaw,
    inpaint.Inpaint,
    colorize.Colorize,
    supervised.Supervised,
)


def create(
    config: Mapping[str, Mapping[str, Any]], geometry: base.Geometry
) -> tuple[base.Task, ...]:
  """Makes the tasks of a config that are not off, in claiming order.

  Args:
    config: the `tasks` section, task name -> fields.
    geometry: the views that the tasks will see.

  Raises:
    ConfigError: an unknown task or field, a missing one without a default, or
      no task trains.
  """
  for name in config:
    if name not in TASKS:
      raise errors.ConfigError(
          f"tasks.{name}: no such task" + errors.suggest(name, TASKS))
  tasks = []
  for name, task in TASKS.items():
    if name not in config:
      continue
    if not isinstance(config[name], Mapping):
      raise errors.ConfigError(f"tasks.{name} must be a section")
    fields = dict(config[name])
    known = task.config_fields()
    for key in fields:
      if key not in known:
        raise errors.ConfigError(
            f"tasks.{name}.{key}: no such key" + errors.suggest(key, known))
    missing = [key for key in known
               if key not in fields and key not in task.defaults()]
    if missing and fields.get("mode", "off") == "off":
      continue
    if missing:
      raise errors.ConfigError(
          f"tasks.{name}.{missing[0]} is missing",
          f"--config.tasks.{name}.{missing[0]}=VALUE, or give the field a "
          "default")
    try:
      bound = task(**fields, geometry=geometry)
    except ValueError as e:
      raise errors.ConfigError(f"tasks.{name}: {e}") from e
    except TypeError as e:
      raise errors.ConfigError(f"tasks.{name}: a value's type: {e}") from e
    if bound.mode != "off":
      tasks.append(bound)
  if not any(task.trains for task in tasks):
    raise errors.ConfigError(
        "no task trains", "set tasks.NAME.mode=train for one at least")
  # Whole blocks are claimed first, then pairs: single patches can be found in
  # what they leave, not conversely.
  return tuple(sorted(tasks, key=lambda task: (
      task.num_blocks == 0, task.num_neighbours == 0)))


def with_statistics(
    tasks: tuple[base.Task, ...], statistics: Mapping[str, Any]
) -> tuple[base.Task, ...]:
  """Binds to each task what `Task.statistics_of` found in the training data.

  Raises:
    CheckpointError: it found something else; they are from a checkpoint.
  """
  bound = tuple(
      dataclasses.replace(task, statistics=statistics.get(task.name, {}))
      for task in tasks)
  for task in bound:
    try:
      task.check_statistics()
    except (KeyError, TypeError, ValueError) as e:
      raise errors.CheckpointError(
          f"statistics of {task.name}: {type(e).__name__}: {e}",
          "use the mtvit that wrote the checkpoint, or another --workdir"
      ) from e
  return bound


def check_foreign(
    tasks: Sequence[base.Task], encoder: interface.Encoder
) -> None:
  """Raises ConfigError if a task of another package does anything wrong."""
  for task in tasks:
    if not type(task).__module__.startswith(__name__ + "."):
      checks.behaviour(task, encoder)

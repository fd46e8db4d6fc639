"""The tasks of a run, and the forward passes that they share."""

from typing import Sequence

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.models import pretrainer
from mtvit.tasks import base
from mtvit.tasks import capacity


def geometry(config: config_lib.Config) -> base.Geometry:
  """The views of a run."""
  return base.Geometry(
      config.model.image_size, config.model.patch_size,
      config.views * config.batch_size, config.views)


def create(config: config_lib.Config) -> tuple[base.Task, ...]:
  """The tasks that are not off, checked against each other and the readout.

  Raises:
    ConfigError: they need more patches than there are, contradict each other,
      or have no such readout.
  """
  created = tasks_lib.create(config.tasks, geometry(config))
  for pass_tasks in passes(config, created).values():
    capacity.check(pass_tasks, geometry(config).grid)
    mixing = [t.name for t in pass_tasks if t.mixes]
    if mixing and len(pass_tasks) > 1:
      raise errors.ConfigError(
          f"mixup or cutmix of {mixing[0]} would mix the images of the other "
          "tasks too", "both 0, or forward=separate")
  corrupting = [t.name for t in created if not t.trains]
  if config.forward == "separate" and corrupting:
    raise errors.ConfigError(
        f"mode=corrupt of {' and '.join(corrupting)} with forward=separate: a "
        "task without a loss has no forward pass", "use off, or forward=shared")
  _check_positions(created)
  momenta = {t.teacher_momentum for t in created
             if t.trains and t.teacher_momentum is not None}
  if len(momenta) > 1:
    raise errors.ConfigError(
        f"the tasks want momentum encoders of {sorted(momenta)}",
        "there is one; use one momentum")
  pairs = [t.name for t in created if not t.single_views]
  if config.views == 1 and pairs:
    raise errors.ConfigError(
        f"views=1: {' and '.join(pairs)} compare or count two views of an "
        "image", "views=2")
  model = pretrainer.Pretrainer(config.model, created)
  readouts = {*model.encoder().token_names, "gap"}
  asked = {"knn.readout": config.knn.readout} | {
      f"tasks.{t.name}.readout": t.readout for t in created if t.readout}
  for key, readout in asked.items():
    if readout not in readouts:
      raise errors.ConfigError(
          f"{key}={readout}: the tasks that train give no such readout",
          f"choose one of {', '.join(sorted(readouts))}")
  return created


def _check_positions(tasks: Sequence[base.Task]) -> None:
  """Raises ConfigError if one encoder can't follow all position policies."""
  policies = {t.position_policy: t.name for t in tasks if t.position_policy}
  both = lambda a, b: (
      f"{policies[a]}.position={a} and {policies[b]}.position={b}: ")
  if "drop" in policies and "mask_token" in policies:
    raise errors.ConfigError(
        both("drop", "mask_token") + "a hidden embedding is either dropped or "
        "masked", "use the same for both")
  others = policies.keys() - {"drop_all"}
  if "drop_all" in policies and others:
    raise errors.ConfigError(
        both("drop_all", min(others)) + "the model has no embeddings at all",
        "use drop_all for both")


def passes(
    config: config_lib.Config, tasks: Sequence[base.Task]
) -> dict[str, tuple[base.Task, ...]]:
  """Which tasks share a forward pass, and so the patches of a view."""
  if config.forward == "shared":
    return {pretrainer.SHARED: tuple(tasks)}
  return {task.name: (task,) for task in tasks if task.trains}

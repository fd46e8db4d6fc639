"""A run as its checkpoints hold it: its config, and its trained model."""

import dataclasses
import pathlib
from typing import Any, Mapping, NamedTuple, Sequence

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.models import pretrainer
from mtvit.run import command_line
from mtvit.run import flag_errors
from mtvit.tasks import base
from mtvit.training import run_tasks


def parse(
    raw: Mapping[str, Any] | None, workdir: pathlib.Path,
    overrides: Sequence[str] = ()
) -> tuple[Mapping[str, Any], config_lib.Config]:
  """A run's config with all its keys, plain and parsed.

  Args:
    raw: plain; keys that it lacks have their defaults. None takes that of the
      newest checkpoint, which may be a stranger's, and does not say where
      caches go.
    workdir: of the run.
    overrides: --config.KEY=VALUE to change that one with.

  Raises:
    ConfigError: it is wrong, or there is no checkpoint.
  """
  if raw is not None:
    return config_lib.resolved(raw), config_lib.parse(raw)
  raw = command_line.overridden(loading.saved_config(workdir), overrides)
  config = config_lib.parse(raw)
  given = {key: raw["data"][key] for key in ("cache_dir", "data_dir")
           if f"data.{key}" in command_line.keys(overrides)}
  return raw, dataclasses.replace(
      config, data=loading.with_own_folders(config.data, **given))


class TrainedRun(NamedTuple):
  """A checkpoint of a run, and what is needed to use it.

  Attributes:
    config: of the run.
    tasks: built, with the run's statistics.
    model: a `Pretrainer`.
    params: its parameters, numpy.
    step: of the checkpoint.
  """
  config: config_lib.Config
  tasks: tuple[base.Task, ...]
  model: pretrainer.Pretrainer
  params: Any
  step: int


def load(path: pathlib.Path, step: int | None = None) -> TrainedRun:
  """Rebuilds the model of a run from a checkpoint.

  Args:
    path: the work directory, or one of its checkpoints.
    step: of a run: which checkpoint; None for the newest.

  Raises:
    CheckpointError: there is none, or it is of no run.
  """
  return rebuild(loading.load_checkpoint(str(path), step), path)


def rebuild(loaded: saving.Restored, path: pathlib.Path) -> TrainedRun:
  """The model of a loaded checkpoint; raises as `load` does."""
  try:
    config = config_lib.parse(loaded.meta["config"])
    created = tasks_lib.with_statistics(
        run_tasks.create(config), loaded.meta["statistics"])
    model = pretrainer.Pretrainer(config.model, created)
    loading.check_encoder(
        model.encoder(), config.model.image_size, loaded.state["encoder"])
  except Exception as e:      # Its JSON may be anything.
    raise errors.CheckpointError(
        f"checkpoint {path} of step {loaded.step}: its metadata are of no "
        f"run: {flag_errors.one_line(e).partition(' fix: ')[0][:200]}",
        "use the mtvit that wrote it, or another checkpoint") from e
  return TrainedRun(config, created, model, loaded.state, loaded.step)

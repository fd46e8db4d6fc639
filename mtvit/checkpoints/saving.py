"""Checkpoints: the train state, and as JSON what rebuilds the run around it.

A step holds `state`, written by Orbax, and `meta`, JSON: the config, what was
measured of the data, and what `checks` needs to verify both before
they are used. Nothing that is read is ever executed, and sizes are checked
before memory is taken for them.
"""

import contextlib
import functools
import os
import re
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from absl import logging
from etils import epath
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtvit import errors
from mtvit.checkpoints import checks
from mtvit.run import distributed
from mtvit.run import paths

if TYPE_CHECKING:
  from mtvit.training import train_state

# What says of itself that it may be read at another time, or by another.
_UNREACHABLE = re.compile(
    "PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAUTHENTICATED|UNAVAILABLE|"
    "DEADLINE_EXCEEDED|ABORTED")

# What is in a checkpoint; an interrupted deletion may have left one of these.
_OURS = {"state", "meta", "_CHECKPOINT_METADATA", "commit_success.txt"}


class Restored(NamedTuple):
  """A checkpoint.

  Attributes:
    step: of it.
    meta: the JSON saved with it.
    state: the state, or what was asked for of it.
  """
  step: int
  meta: dict[str, Any]
  state: Any = None


class Checkpointer:
  """Saves and restores the states of one run, asynchronously."""

  def __init__(
      self, workdir: os.PathLike[str], keep: int,
      still_ours: Callable[[], None] = lambda: None
  ):
    """Opens `workdir`/checkpoints.

    Args:
      workdir: of the run.
      keep: so many of the newest are kept.
      still_ours: called before each save; raises if another run has `workdir`.

    Raises:
      CheckpointError: another program keeps its checkpoints there.
    """
    folder = paths.absolute(epath.Path(workdir))
    self._directory = folder / "checkpoints"
    self._aside = folder / "damaged_checkpoints"
    self._still_ours = still_ours
    self._keep = keep
    self._saving: int | None = None
    # What can't be looked at now is said when it is read.
    with contextlib.suppress(OSError), paths.os_errors(self._directory):
      self._check_ours()
    self._open()

  def _check_ours(self) -> None:
    """Raises CheckpointError if another program keeps checkpoints there.

    Old ones are deleted, and damaged ones set aside: only our own.
    """
    if not self._directory.is_dir():
      return
    for folder in self._directory.iterdir():
      if folder.name.isdecimal() and folder.is_dir():
        names = {x.name for x in folder.iterdir()}
        if names and not names & _OURS:
          raise errors.CheckpointError(
              f"{folder} is no checkpoint of mtvit", "another --workdir")

  def _open(self) -> None:
    # Removes what a killed or failed save has left.
    self._manager = ocp.CheckpointManager(
        self._directory, options=ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(self._keep),
            cleanup_tmp_directories=True))

  def _folder(self, step: int) -> epath.Path:
    return self._directory / str(step)

  def newest(self) -> Restored | None:
    """The newest step with sound metadata, without its state; None if new.

    Raises:
      CheckpointError: it is of another format, or all steps were damaged.
    """
    def read(step):
      meta = checks.read_meta(self._folder(step))
      checks.check_goes_on(self._folder(step), meta)
      return Restored(step, meta)

    found = self._newest_sound(read)
    if found is None and self._aside.is_dir():
      raise errors.CheckpointError(
          f"no sound checkpoint is left in {self._directory}; the damaged ones "
          f"are in {self._aside}",
          "restore one from a copy, or remove that folder to start afresh")
    return found

  def restore(self, shapes: "train_state.TrainState") -> Restored:
    """The newest sound step, in these shapes, dtypes and shardings.

    Raises:
      CheckpointError: the state is another one, or all steps were damaged.
    """
    def read(step):
      meta = checks.read_meta(self._folder(step))
      checks.check_goes_on(self._folder(step), meta)
      checks.check_fits(meta["leaves"], shapes)
      checks.check_layout(self._folder(step), meta["leaves"])
      # The handler reads this process's share; the manager would wait for the
      # others, who may fail in theirs.
      state = ocp.StandardCheckpointHandler().restore(
          self._folder(step) / "state", args=ocp.args.StandardRestore(shapes))
      return Restored(step, meta, state)

    found = self._newest_sound(read)
    if found is None:
      raise errors.CheckpointError(
          f"no sound checkpoint in {self._directory}",
          f"the damaged ones are in {self._aside}")
    return found

  def _newest_sound(
      self, read: Callable[[int], Restored]
  ) -> Restored | None:
    """Reads the newest step that can be; sets the damaged ones aside."""
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        # Each process reads its share. What they compute together on it has to
        # wait until all of them have it.
        found = distributed.fail_together(
            functools.partial(self._read, step, read))
        if found.state is not None:
          checks.check_content(found.meta["leaves"], found.state)
        return found
      except checks.DamagedError as e:
        self._set_aside(step, str(e))
    return None

  def _read(self, step: int, read: Callable[[int], Restored]) -> Restored:
    """Calls `read`; what it raises says whether the step is damaged."""
    try:
      with paths.os_errors(self._directory):
        return read(step)
    except errors.UserError:
      raise
    except Exception as e:          # Orbax raises whatever it stumbled upon.
      why = " ".join(str(e).split())[:200]
      away = paths.is_remote(self._directory) and isinstance(
          e, OSError) and not isinstance(e, FileNotFoundError)
      if away or _UNREACHABLE.search(why):
        raise errors.CheckpointError(
            f"checkpoint {self._directory}/{step} can't be read: {why}",
            "check permissions, network, memory and disk, and try again"
        ) from e
      raise checks.DamagedError(why) from e

  def _set_aside(self, step: int, why: str) -> None:
    logging.warning(
        "checkpoint %d is damaged (%s); it is set aside in %s", step, why,
        self._aside)
    if distributed.is_main():
      self._aside.mkdir(exist_ok=True)
      target, count = self._aside / str(step), 1
      while target.exists():
        target, count = self._aside / f"{step}.{count}", count + 1
      self._folder(step).rename(target)
    distributed.wait_for_all(f"set aside {step}")
    self._manager.reload()

  def save(
      self, step: int, state: "train_state.TrainState", meta: dict[str, Any]
  ) -> None:
    """Starts to save a state; if that fails, warns, and training goes on.

    Args:
      step: of the state.
      state: may be donated as soon as this returns.
      meta: JSON: the config and the statistics.
    """
    if step == self._manager.latest_step() or step == self._saving:
      return
    self._still_ours()
    meta = checks.seal(meta, state)
    self._finish()
    self._saving = step
    try:
      with paths.os_errors(self._directory):
        self._manager.save(step, args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
            force=True)
    except (OSError, ValueError, RuntimeError) as e:
      self._failed(e)

  def _finish(self) -> None:
    """Waits for what is being saved, and warns if it failed."""
    try:
      with paths.os_errors(self._directory):
        self._manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as e:
      self._failed(e)
    self._saving = None

  def _failed(self, error: Exception) -> None:
    logging.warning(
        "the checkpoint of step %s could not be written: %s; training goes on, "
        "the newest is %s", self._saving, " ".join(str(error).split())[:300],
        self._manager.latest_step())
    self._saving = None
    # A manager that has failed may hand the error out again.
    try:
      with paths.os_errors(self._directory):
        self._manager.close()
    except (OSError, ValueError, RuntimeError):
      pass
    self._open()

  def close(self, last: int) -> None:
    """Waits for what is being saved, and ends.

    Args:
      last: a step that must be there.

    Raises:
      CheckpointError: it could not be saved.
    """
    self._finish()
    newest = self._manager.latest_step()
    self._manager.close()
    if last and newest != last:
      raise errors.CheckpointError(
          f"step {last} could not be saved in {self._directory}; the newest "
          f"checkpoint is {newest}",
          ("look at the bucket's name, your rights and the network" if
           paths.is_remote(self._directory) else "make room on the disk")
          + " and run the same command again")

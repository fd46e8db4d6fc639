"""Checkpoints: the train state, and as JSON what rebuilds the run around it."""

import pathlib
from typing import Any, NamedTuple

from absl import logging
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from mtvit import errors
from mtvit import sharding
from mtvit import train_state

FORMAT_VERSION = 2


class Checkpointer:
  """Saves and restores the states of one run, asynchronously."""

  def __init__(self, workdir: pathlib.Path, keep: int):
    """Opens `workdir`/checkpoints, of which the newest `keep` are kept."""
    self._manager = ocp.CheckpointManager(
        workdir.absolute() / "checkpoints",
        options=ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(keep),
            cleanup_tmp_directories=True))

  def latest_step(self) -> int | None:
    """The newest step that is there."""
    return self._manager.latest_step()

  def save(
      self, step: int, state: train_state.TrainState, meta: dict[str, Any]
  ) -> None:
    """Starts to save a state. `meta` is JSON: the config and the statistics."""
    if step == self._manager.latest_step():
      return
    self._manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        meta=ocp.args.JsonSave({"format_version": FORMAT_VERSION} | meta)),
        force=True)

  def meta(self, step: int) -> dict[str, Any]:
    """The JSON that was saved with a step."""
    restored = self._manager.restore(
        step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
    if restored.meta["format_version"] != FORMAT_VERSION:
      raise errors.CheckpointError(
          f"checkpoint {self._manager.directory}/{step} has format "
          f"{restored.meta['format_version']}; this is for {FORMAT_VERSION}")
    return restored.meta

  def restore(
      self, step: int, state: train_state.TrainState
  ) -> train_state.TrainState:
    """Restores a step into the shapes and shardings of `state`."""
    try:
      return self._manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(train_state.abstract(state)))).state
    except (ValueError, KeyError, OSError) as e:
      raise errors.CheckpointError(
          f"checkpoint {self._manager.directory}/{step} can't be restored: "
          f"{str(e)[:200]}",
          "use another --workdir, or remove that step") from e

  def close(self) -> None:
    """Waits for what is being saved."""
    self._manager.wait_until_finished()
    self._manager.close()


class Loaded(NamedTuple):
  """What a run's newest checkpoint holds.

  Attributes:
    step: of the checkpoint.
    params: the parameters, as numpy arrays.
    meta: the config, the statistics and the format version.
  """
  step: int
  params: dict[str, Any]
  meta: dict[str, Any]


def load(workdir: str) -> Loaded:
  """Reads a run's newest checkpoint, whatever devices wrote it.

  Raises:
    CheckpointError: there is none.
  """
  directory = pathlib.Path(workdir).expanduser().absolute() / "checkpoints"
  if not directory.is_dir():
    raise errors.CheckpointError(
        f"{directory} does not exist", "give the --workdir of a run")
  with ocp.CheckpointManager(directory) as manager:
    step = manager.latest_step()
    if step is None:
      raise errors.CheckpointError(f"no checkpoint in {directory}")
    tree = manager.restore(step, args=ocp.args.Composite(
        state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()))
  return Loaded(step, tree.state["params"], tree.meta)


def transfer(params: Any, loaded: dict[str, Any]) -> Any:
  """Replaces parameters by loaded ones of the same path.

  Heads and tokens that the other run lacks stay as they are.

  Args:
    params: of this run, sharded.
    loaded: of another run.

  Raises:
    CheckpointError: a parameter has another shape, or none has the same path.
  """
  found = dict(jax.tree_util.tree_leaves_with_path(loaded))
  missing = []

  def pick(path, leaf):
    new = found.get(path)
    name = sharding.path_name(path)
    if new is None:
      missing.append(name)
      return leaf
    if new.shape != leaf.shape:
      raise errors.CheckpointError(
          f"init_from: {name} is {new.shape} there and {leaf.shape} here",
          "use the same model section")
    return jax.device_put(new, leaf.sharding)

  result = jax.tree_util.tree_map_with_path(pick, params)
  if len(missing) == len(jax.tree.leaves(params)):
    raise errors.CheckpointError("init_from: no parameter has the same name")
  if missing:
    logging.warning("init_from: fresh parameters: %s", ", ".join(missing))
  return result

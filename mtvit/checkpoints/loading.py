"""What is read of a run's checkpoints outside that run: config, parameters."""

import dataclasses
import os
import re
from typing import Any

from absl import logging
from etils import epath
from etils import epy
import jax
import numpy as np
import orbax.checkpoint as ocp

from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import checks
from mtvit.checkpoints import saving
from mtvit.models import interface
from mtvit.models import parameter_names
from mtvit.models import positions
from mtvit.run import files
from mtvit.run import paths

with epy.lazy_imports():
  from mtvit import interchange

_STEP = re.compile("0|[1-9][0-9]{0,9}")
# Files for `interchange`, which reads the first two and refuses pickles.
WEIGHTS = (".safetensors", ".npz", ".bin", ".ckpt", ".pickle", ".pkl", ".pt",
           ".pth", ".tar")


def saved_config(workdir: os.PathLike[str]) -> dict[str, Any]:
  """The config of a run, as its newest sound checkpoint has it.

  Raises:
    ConfigError: there is none.
    CheckpointError: it is of another format, or none is sound.
  """
  found = found_config(workdir)
  if found is None:
    directory = epath.Path(workdir) / "checkpoints"
    if _steps(directory):
      raise errors.CheckpointError(
          f"no checkpoint in {directory} is sound",
          "restore one from a copy, or use another --workdir")
    raise errors.ConfigError(
        f"--config is missing, and {directory} holds no checkpoint",
        "--config=quickstart")
  return found


def found_config(workdir: os.PathLike[str]) -> dict[str, Any] | None:
  """The same; None if there is none."""
  directory = paths.absolute(epath.Path(workdir)) / "checkpoints"
  for step in reversed(_steps(directory)):
    try:
      return checks.read_meta(directory / str(step))["config"]
    except Exception as e:     # Damaged; whoever continues the run will say so.
      if isinstance(e, errors.UserError) and not isinstance(
          e, checks.DamagedError):
        raise
  return None


def with_own_folders(
    data: config_lib.Data, cache_dir: str = "", data_dir: str = ""
) -> config_lib.Data:
  """A checkpoint's data section, with the places of who runs the command.

  The checkpoint may be a stranger's. What it says of data is read, but where
  files are written and removed, caches and built-in data, it does not choose.

  Args:
    data: of the checkpoint.
    cache_dir: that the user gave; "" for $MTVIT_CACHE_DIR or ~/.cache/mtvit.
    data_dir: that the user gave; "" for TFDS's own or, of data that are only
      read, the checkpoint's.
  """
  given = cache_dir or os.environ.get("MTVIT_CACHE_DIR", "")
  if not given and data.cache_dir != paths.CACHE_DIR:
    logging.warning(
        "caches go to %s, not to the data.cache_dir=%r of the checkpoint; "
        "MTVIT_CACHE_DIR=FOLDER takes another", paths.CACHE_DIR, data.cache_dir)
  if not data_dir and data.name not in ("photo_crops", "photo_tiles"):
    data_dir = data.data_dir
  return dataclasses.replace(
      data, cache_dir=given or paths.CACHE_DIR, data_dir=data_dir)


def load_checkpoint(
    path: paths.Given, step: int | None = None
) -> saving.Restored:
  """The parameters of a checkpoint, whatever devices wrote it.

  A run that goes on meanwhile may remove the checkpoint that is read; then the
  newest is.

  Args:
    path: the work directory of a run, or one of its checkpoints.
    step: of a run: which checkpoint; None for the newest.

  Raises:
    CheckpointError: there is none, or it is damaged.
  """
  given = paths.absolute(paths.parse(path))
  while True:
    folder = _folder(given, step)
    asked = step is not None or folder == given
    try:
      return _read_checkpoint(folder)
    except errors.CheckpointError as e:
      left = _steps(folder.parent)
      there = int(folder.name) in left
      if there and (asked or int(folder.name) == left[-1]):
        raise
      if asked:
        raise errors.CheckpointError(
            f"checkpoint {folder} was removed while it was read",
            "another one; a run keeps its newest keep_checkpoints") from e
      logging.warning(
          "checkpoint %s was replaced while it was read; the newest is taken",
          folder)


def _read_checkpoint(folder: epath.Path) -> saving.Restored:
  """The parameters in the folder of a checkpoint."""
  try:
    meta = checks.read_meta(folder)
    checks.check_layout(folder, meta["leaves"])
    wanted = _parameters(meta["leaves"])
    state = ocp.PyTreeCheckpointHandler().restore(
        folder / "state", args=ocp.args.PyTreeRestore(
            wanted, partial_restore=True, restore_args=jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)))
    checks.check_content(meta["leaves"], state)
    state = state["params"]
  except Exception as e:            # Orbax raises whatever it stumbled upon.
    if isinstance(e, errors.UserError) and not isinstance(
        e, checks.DamagedError):
      raise
    raise errors.CheckpointError(
        f"checkpoint {folder} is damaged: {' '.join(str(e).split())[:200]}",
        "resume that run to set it aside, or remove that step") from e
  return saving.Restored(int(folder.name), meta, state)


def _folder(path: paths.Given, step: int | None) -> epath.Path:
  """The folder of the checkpoint that is meant."""
  given = paths.absolute(paths.parse(path))
  if _STEP.fullmatch(given.name) and (given / "meta").exists():
    if step not in (None, int(given.name)):
      raise errors.CheckpointError(
          f"{given} is of step {given.name}, not {step}",
          "give the work directory of the run")
    return given
  directory = given / "checkpoints"
  if not directory.is_dir():
    raise errors.CheckpointError(
        f"{directory} does not exist"
        + paths.is_remote(directory) * ", or can't be read",
        "give the work directory of a run")
  steps = _steps(directory)
  if not steps:
    raise errors.CheckpointError(f"no checkpoint in {directory}")
  if step is not None and step not in steps:
    raise errors.CheckpointError(
        f"no checkpoint of step {step} in {directory}",
        f"there are: {', '.join(map(str, steps))}")
  return directory / str(steps[-1] if step is None else step)


def _steps(directory: epath.Path) -> list[int]:
  """The complete checkpoints in a folder, ascending."""
  if not directory.is_dir():
    return []
  # In a folder an unfinished one has another name, on gs:// it lacks a mark.
  return sorted(
      int(d.name) for d in directory.iterdir() if _STEP.fullmatch(d.name) and (
          not paths.is_remote(d) or ocp.utils.is_checkpoint_finalized(d)))


def _parameters(leaves: dict[str, Any]) -> dict[str, Any]:
  """The tree of the parameters' shapes."""
  tree: dict[str, Any] = {}
  for name, (shape, dtype, _) in leaves.items():
    *folders, last = name.split("/")
    if folders and folders[0] == "params":
      place = tree
      for folder in folders:
        place = place.setdefault(folder, {})
      place[last] = jax.ShapeDtypeStruct(shape, dtype)
  return tree


def weights(path: paths.Given) -> dict[str, Any]:
  """The parameters to start from, numpy.

  Args:
    path: the work directory of a run, one of its checkpoints, or a file of
      weights that `interchange` reads.

  Raises:
    CheckpointError: there are none, or they are damaged.
  """
  given = paths.parse(path)
  if given.suffix in WEIGHTS:
    return {"encoder": imported(given).params}
  return load_checkpoint(path).state


def imported(path: epath.Path) -> "interchange.imported.Imported":
  """A file of weights; says what it left out or had to assume."""
  paths.check_local(weights=path)
  paths.check_file(weights=path)
  folder = path.parent.parent if path.parent.name == "hf" else path.parent
  files.check_finished(
      folder / interchange.files.MARK, "run mtvit export again")
  read = interchange.read(path)
  for note in read.notes:
    logging.warning("%s: %s", path, note)
  return read


def check_encoder(encoder: interface.Encoder, side: int, params: Any) -> None:
  """Raises ValueError unless parameters are those of an encoder.

  Args:
    encoder: the module.
    side: of its images, pixels.
    params: of a checkpoint.
  """
  want = parameter_names.encoder_shapes(encoder, side)
  have = {parameter_names.path_name(path): tuple(x.shape)
          for path, x in jax.tree_util.tree_leaves_with_path(params)}
  wrong = sorted(name for name in want.keys() | have.keys()
                 if want.get(name) != have.get(name))
  if wrong:
    raise ValueError(
        f"encoder/{wrong[0]} is {have.get(wrong[0])} instead of "
        f"{want.get(wrong[0])}")


def transfer(
    params: Any, loaded: dict[str, Any], model: interface.EncoderConfig
) -> Any:
  """Replaces parameters by loaded ones of the same path.

  Heads and tokens that the other run lacks, and heads of another shape, stay
  as they are. Position embeddings of another grid are resized.

  Args:
    params: of this run, sharded.
    loaded: of `weights`.
    model: of this run.

  Raises:
    CheckpointError: a parameter has another shape, or none has the same path.
  """
  found = dict(jax.tree_util.tree_leaves_with_path(loaded))
  resizable = [f"encoder/{name}" for name in model.position_params]
  missing = []

  def pick(path, leaf):
    new = found.pop(path, None)
    name = parameter_names.path_name(path)
    if new is not None and name in resizable:
      new = positions.resized(new, len(leaf))
    if new is None or (name.startswith("head_") and new.shape != leaf.shape):
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
  taken = {parameter_names.path_name(path).partition("/")[0]
           for path, leaf in jax.tree_util.tree_leaves_with_path(params)
           if parameter_names.path_name(path) not in missing}
  heads = sorted(name for name in taken if name.startswith("head_"))
  if heads:
    logging.warning("init_from: heads taken over: %s", ", ".join(heads))
  unused = [name for name in map(parameter_names.path_name, found)
            if name.startswith("encoder/")]
  if unused:
    logging.warning(
        "init_from: left out: %s", errors.printable(", ".join(unused)))
  return result

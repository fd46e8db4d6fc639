"""What makes a checkpoint sound: its metadata, its layout, its content.

`meta` is sealed: it holds its own SHA-256, the format version, and shape,
dtype and fingerprint of every array of the state. Anybody can seal anything, so
what is in it is looked at all the same.
"""

import math
import os
import re
from typing import Any, Mapping

from etils import epath
import jax
import orbax.checkpoint as ocp

from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.checkpoints import older_configs
from mtvit.models import parameter_names
from mtvit.run import paths
from mtvit.run import reading

FORMAT_VERSION = 6
# What can still be read. Before 6, a run saw its images in another order.
READABLE = (5, FORMAT_VERSION)
META_BYTES = 2**26        # A larger meta file is not ours.
# Arrays have at most so many times the bytes of their files, and so many more:
# parameters hardly compress, the zeros of an optimizer's first steps do.
MAX_RATIO, SLACK = 32, 2**28
META_DEPTH = 32           # Nor is one that is nested deeper.
_KINDS = {"config": dict, "statistics": dict, "leaves": dict, "data": dict,
          "evaluated": bool}
_DATA_KINDS = {"kind": str, "num_examples": int, "processes": int,
               "names": str | None, "classes": list}


class DamagedError(errors.CheckpointError):
  """A step can't be used; the message says why."""


def seal(meta: dict[str, Any], state: Any) -> dict[str, Any]:
  """Adds to a state's metadata what the other functions verify."""
  values = fingerprint.of_arrays(state)
  meta = meta | {"format_version": FORMAT_VERSION, "leaves": {
      name: [*described, values[name]]
      for name, described in _describe(state).items()}}
  return meta | {"sha256": fingerprint.of_json(meta)}


def _describe(state: Any) -> dict[str, list[Any]]:
  """Path -> [shape, dtype] of every array, as JSON."""
  return {parameter_names.path_name(path): [list(x.shape), str(x.dtype)]
          for path, x in jax.tree_util.tree_leaves_with_path(state)}


def read_meta(folder: epath.Path) -> dict[str, Any]:
  """The verified JSON of a step; raises DamagedError or CheckpointError.

  Like all here it waits for no other process, as Orbax's manager would.
  """
  _check_files(folder)
  if (folder / "meta" / "metadata").stat().length > META_BYTES:
    raise DamagedError(f"its metadata have more than {META_BYTES} bytes")
  try:
    meta = ocp.JsonCheckpointHandler().restore(folder / "meta")
    reading.check_depth(meta, META_DEPTH)
  except (ValueError, RecursionError) as e:
    raise DamagedError("its metadata are no JSON, or nested too deeply") from e
  if not isinstance(meta, dict):
    raise DamagedError("its metadata are no JSON object")
  version: Any = meta.get("format_version")
  sound = meta.pop("sha256", None) == fingerprint.of_json(meta)
  if version not in READABLE and (
      sound or version in range(1, FORMAT_VERSION)):
    raise errors.CheckpointError(
        f"checkpoint {folder} has format {str(version)[:20]}; this is for "
        f"{' and '.join(map(str, READABLE))}",
        "use the mtvit that wrote it, or another workdir")
  if not sound:
    raise DamagedError("its metadata have changed")
  for name in ("config", "statistics", "leaves"):
    if name not in meta:
      raise DamagedError(f"its metadata have no {name}")
  _check_kinds(meta, _KINDS)
  _check_kinds(meta.get("data", {}), _DATA_KINDS)
  _check_leaves(meta["leaves"])
  meta["config"] = older_configs.of_today(meta["config"], version)
  return meta


def check_goes_on(folder: epath.Path, meta: Mapping[str, Any]) -> None:
  """Raises CheckpointError if a run can't be continued as it was."""
  if meta["format_version"] != FORMAT_VERSION:
    run = folder.parent.parent
    raise errors.CheckpointError(
        f"checkpoint {folder} was made by a version whose images came in "
        "another order: it can be loaded, evaluated and exported, but not "
        "continued", f"a new run: --config.init_from={run} --workdir=ANOTHER")


def check_data(step: int, meta: Mapping[str, Any]) -> None:
  """Raises CheckpointError unless verified metadata tell a run's data."""
  missing = {"data", "evaluated"} - meta.keys() or (
      _DATA_KINDS.keys() - meta["data"].keys())
  section = meta["config"].get("data")
  if not missing:
    names = meta["data"]["names"]
    right = {
        "config.data": isinstance(section, dict)
        and {"name", "train_split"} <= section.keys(),
        "data.names": names is None or re.fullmatch("[0-9a-f]{64}", names),
        "data.classes": all(
            isinstance(name, str) for name in meta["data"]["classes"])}
    missing = {key for key, is_right in right.items() if not is_right}
  if missing:
    raise errors.CheckpointError(
        f"checkpoint {step} does not say which data the run had: its "
        f"metadata lack {', '.join(sorted(missing))}", "another --workdir")


def _check_files(folder: epath.Path) -> None:
  """Raises DamagedError at a pipe or a device, which would be waited for."""
  if paths.is_remote(folder):
    return
  for parent, _, files in os.walk(folder):
    for name in files:
      file = os.path.join(parent, name)
      if os.path.exists(file) and not os.path.isfile(file):
        raise DamagedError(f"{file} is no file")


def _check_kinds(
    values: Mapping[str, Any], kinds: Mapping[str, Any]
) -> None:
  for name, kind in kinds.items():
    if name in values and (
        not isinstance(values[name], kind)
        or kind is int and isinstance(values[name], bool)):
      raise DamagedError(f"{name} in its metadata is no {kind}")


def _check_leaves(leaves: Mapping[str, Any]) -> None:
  whole = lambda x, limit: type(x) is int and 0 <= x < limit
  for name, leaf in leaves.items():
    if not (isinstance(leaf, list) and len(leaf) == 3
            and isinstance(leaf[0], list)
            and all(whole(size, 2**48) for size in leaf[0])
            and isinstance(leaf[1], str) and whole(leaf[2], 2**32)):
      raise DamagedError(f"{name[:100]} is no array in its metadata")


def check_fits(leaves: dict[str, Any], shapes: Any) -> None:
  """Raises CheckpointError naming arrays that another state has otherwise."""
  saved = {name: leaf[:2] for name, leaf in leaves.items()}
  here = _describe(shapes)
  words = lambda leaf: "missing" if leaf is None else "{1}{0}".format(*leaf)
  wrong = [
      f"{name} is {words(saved.get(name))} there and {words(here.get(name))} "
      "here" for name in sorted(
          saved.keys() | here.keys(),
          key=lambda name: (not name.startswith("params/"), name))
      if saved.get(name) != here.get(name)]
  if wrong:
    more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    raise errors.CheckpointError(
        f"the checkpoint is of another model: {'; '.join(wrong[:3])}{more}",
        "use the config that it was written with, or another --workdir")


def check_layout(folder: epath.Path, leaves: dict[str, Any]) -> None:
  """Raises DamagedError unless the files hold what `leaves` says.

  Only headers are read, so nothing is allocated for a size that a damaged or
  malicious file claims.
  """
  stored = ocp.PyTreeCheckpointHandler().metadata(folder / "state")
  found = {
      parameter_names.path_name(path): x for path, x in
      jax.tree_util.tree_leaves_with_path(
          getattr(stored, "tree", stored),
          is_leaf=lambda x: hasattr(x, "shape"))}
  if found.keys() != leaves.keys():
    raise DamagedError("it holds other arrays than its metadata say")
  total = 0
  for name, x in found.items():
    shape, dtype, _ = leaves[name]
    # A key is stored as the few words that it consists of.
    if tuple(shape) != tuple(x.shape) and not dtype.startswith("key<"):
      raise DamagedError(f"{name} is {x.shape} in the files, {shape} in meta")
    chunk = x.storage.chunk_shape if x.storage else None
    size = max(math.prod(x.shape), math.prod(chunk or ()))
    total += size * x.dtype.itemsize
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  if total > jax.process_count() * memory:
    raise errors.CheckpointError(
        f"checkpoint {folder} claims {total / 2**30:,.0f} GiB of arrays; this "
        f"machine has {memory / 2**30:,.0f} GiB", "use a machine that holds it")
  if total > SLACK and not paths.is_remote(folder):
    _check_compression(folder, total)


def _check_compression(folder: epath.Path, total: int) -> None:
  """Raises CheckpointError if its files are too small for `total` bytes."""
  stored = sum(
      os.path.getsize(os.path.join(place, name))
      for place, _, names in os.walk(folder / "state") for name in names)
  if total > MAX_RATIO * stored + SLACK:
    raise errors.CheckpointError(
        f"checkpoint {folder} claims {total:,} bytes of arrays in files of "
        f"{stored:,}; {MAX_RATIO} times as many are believed",
        "a checkpoint that this program wrote")


def check_content(leaves: dict[str, Any], state: Any) -> None:
  """Raises DamagedError naming arrays whose content is not what was saved."""
  wrong = [name for name, value in fingerprint.of_arrays(state).items()
           if value != leaves[name][2]]
  if wrong:
    raise DamagedError(
        f"the content of {', '.join(sorted(wrong)[:3])} has changed"
        + (f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""))

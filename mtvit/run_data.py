"""The training data that a run began with, and goes on with.

Files may come, go bad or vanish while a run is away. It keeps the list of its
files, so that the stream of examples stays what it was.
"""

import json
from typing import TYPE_CHECKING, Any, Callable, Mapping

from etils import epath
import jax

from mtvit import build
from mtvit import checkpoint
from mtvit import config as config_lib
from mtvit import distributed
from mtvit import errors
from mtvit import fingerprint
from mtvit import paths
from mtvit import results

if TYPE_CHECKING:
  from mtvit.data import datasets


def goes_on(
    saved: checkpoint.Restored | None, raw: Mapping[str, Any]
) -> bool:
  """Whether a run continues with the data that it had.

  Args:
    saved: the checkpoint to continue; None for a new run.
    raw: the config, plain.
  """
  return saved is not None and all(
      saved.meta["config"]["data"][key] == raw["data"][key]
      for key in ("name", "train_split"))


def open_sources(
    config: config_lib.Config, raw: Mapping[str, Any], workdir: epath.Path,
    saved: checkpoint.Restored | None, poll: Callable[[], None]
) -> tuple["datasets.Source", "datasets.Source"]:
  """The training and the test split, as the run began with them.

  Args:
    config: of the run.
    raw: the same, plain.
    workdir: of the run; a new one keeps the list of its files there.
    saved: the checkpoint to continue; None for a new run.
    poll: called regularly; may raise to stop.

  Raises:
    ConfigError: a stream would go on in another order, or another process has
      other files.
    DataError: the data, or the list of files, are not those of the run.
  """
  check_local(config.data)
  saved = saved if goes_on(saved, raw) else None
  train, test = distributed.together(lambda: build.sources(
      config, poll, _names(workdir, saved) if saved else None))
  here = describe(train)
  distributed.check_same(here, "training data")
  if saved:
    _check(train.name, here, saved.meta["data"])
  elif train.names:
    results.save_json(_file(workdir, here["names"]), train.names)
  return train, test


def check_local(data: config_lib.Data) -> None:
  """Raises ConfigError for gs:// where only a disk will do."""
  paths.check_local(
      **{"data.name": data.name, "data.cache_dir": data.cache_dir})


def _file(workdir: epath.Path, digest: str) -> epath.Path:
  """Named by its content, so that no list ever takes the place of another."""
  return workdir / f"train_files.{digest[:16]}.json"


def _names(
    workdir: epath.Path, saved: checkpoint.Restored
) -> list[str] | None:
  """The files that the run in `workdir` began with; None if it has no list."""
  digest = saved.meta["data"]["names"]
  if digest is None:
    return None
  file = _file(workdir, digest)
  try:
    with paths.os_errors(file):
      names = json.loads(file.read_bytes())
    if fingerprint.of_json(names) == digest:
      return names
    why = "has changed"
  except (OSError, ValueError) as e:
    why = f"can't be read: {e}"
  raise errors.DataError(
      f"{file}, the list of the run's images, {why}",
      "restore it, or use another --workdir")


def describe(train: "datasets.Source") -> dict[str, Any]:
  """What a checkpoint keeps of the training data, as JSON."""
  return {
      "kind": train.kind, "num_examples": train.num_examples,
      "names": fingerprint.of_json(train.names) if train.names else None,
      "processes": jax.process_count()}


def _check(
    name: str, here: Mapping[str, Any], there: Mapping[str, Any]
) -> None:
  """Raises an error unless the data give the same stream of examples."""
  if there["num_examples"] != here["num_examples"]:
    raise errors.DataError(
        f"{name} has {here['num_examples']} examples; the run began with "
        f"{there['num_examples']}",
        "prepare the same data set again, or use another --workdir")
  kinds = {there["kind"], here["kind"]}
  if "streamed" in kinds and len(kinds) > 1:
    raise errors.DataError(
        f"{name} is {here['kind']}; the run began with it {there['kind']}, and "
        "would go on in another order",
        "prepare the data set in the same file format again")
  if "streamed" in kinds and there["processes"] != here["processes"]:
    raise errors.ConfigError(
        f"{name} is streamed: the run can be continued with "
        f"{there['processes']} process(es), not with {here['processes']}",
        "start as many, or prepare the data set as ArrayRecord: "
        "bash launch/prepare_tfds.sh NAME")

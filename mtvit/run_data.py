"""The training data that a run began with, and goes on with.

Files may come, go bad or vanish while a run is away. It keeps the list of its
files, so that the stream of examples stays what it was.
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any, Mapping

import jax

from mtvit import build
from mtvit import checkpoint
from mtvit import distributed
from mtvit import errors
from mtvit import fingerprint

if TYPE_CHECKING:
  from mtvit.data import datasets

FILE = "train_files.json"


def _goes_on(
    saved: checkpoint.Restored | None, raw: Mapping[str, Any]
) -> bool:
  """Whether a run continues with the data that it had."""
  return saved is not None and all(
      saved.meta["config"]["data"][key] == raw["data"][key]
      for key in ("name", "train_split"))


def saved_names(
    workdir: pathlib.Path, saved: checkpoint.Restored | None,
    raw: Mapping[str, Any]
) -> list[str] | None:
  """The files that the run in `workdir` began with; None if there is no list.

  Args:
    workdir: of the run.
    saved: the checkpoint to continue; None for a new run.
    raw: the config, plain.

  Raises:
    DataError: the list is not the one that the run began with.
  """
  if not _goes_on(saved, raw) or saved.meta["data"]["names"] is None:
    return None
  try:
    names = json.loads((workdir / FILE).read_bytes())
    if fingerprint.of_json(names) == saved.meta["data"]["names"]:
      return names
    why = "has changed"
  except (OSError, ValueError) as e:
    why = f"can't be read: {e}"
  raise errors.DataError(
      f"{workdir / FILE}, the list of the run's images, {why}",
      "restore it, or use another --workdir")


def describe(train: "datasets.Source") -> dict[str, Any]:
  """What a checkpoint keeps of the training data, as JSON."""
  return {
      "kind": train.kind, "num_examples": train.num_examples,
      "names": fingerprint.of_json(train.names) if train.names else None,
      "processes": jax.process_count()}


def check(
    workdir: pathlib.Path, train: "datasets.Source",
    saved: checkpoint.Restored | None, raw: Mapping[str, Any]
) -> None:
  """Keeps the list of files of a new run; checks that an old one can go on.

  Args:
    workdir: of the run.
    train: the training split, opened with `saved_names`.
    saved: the checkpoint to continue; None for a new run.
    raw: the config, plain.

  Raises:
    ConfigError: a stream would go on in another order, or another process has
      other files.
    DataError: the data set has another number of examples.
  """
  here = describe(train)
  distributed.check_same(here, "training data")
  if not _goes_on(saved, raw):
    if train.names:
      build.save_json(workdir / FILE, train.names)
    return
  there = saved.meta["data"]
  if there["num_examples"] != here["num_examples"]:
    raise errors.DataError(
        f"{train.name} has {here['num_examples']} examples; the run began with "
        f"{there['num_examples']}",
        "prepare the same data set again, or use another --workdir")
  if train.kind == "streamed" and there["processes"] != here["processes"]:
    raise errors.ConfigError(
        f"{train.name} is streamed: the run can be continued with "
        f"{there['processes']} process(es), not with {here['processes']}",
        "start as many, or prepare the data set as ArrayRecord: "
        "bash launch/prepare_tfds.sh NAME")

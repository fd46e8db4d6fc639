"""The training data that a run began with, and goes on with.

Files may come, go bad or vanish while a run is away. It keeps the list of its
files, so that the stream of examples stays what it was.
"""

import json
import pathlib
from typing import TYPE_CHECKING, Any, Mapping

import jax

from mtvit import distributed
from mtvit import errors
from mtvit import fingerprint

if TYPE_CHECKING:
  from mtvit.data import datasets

FILE = "train_files.json"


def saved_names(
    workdir: pathlib.Path, saved: Mapping[str, Any] | None
) -> list[str] | None:
  """The files that the run in `workdir` began with; None if there is no list.

  Args:
    workdir: of the run.
    saved: metadata of the checkpoint to continue; None for a new run.

  Raises:
    DataError: the list is not the one that the run began with.
  """
  if saved is None or saved["data"]["names"] is None:
    return None
  try:
    names = json.loads((workdir / FILE).read_bytes())
    if fingerprint.of_json(names) == saved["data"]["names"]:
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


def begin(workdir: pathlib.Path, train: "datasets.Source") -> None:
  """Keeps the list of files of a new run.

  Raises:
    DataError: another process has other files.
  """
  distributed.check_same(describe(train), "training data", errors.DataError)
  if train.names and distributed.is_main():
    (workdir / FILE).write_text(json.dumps(train.names, indent=0))


def resume(train: "datasets.Source", saved: Mapping[str, Any]) -> None:
  """Checks that a run can go on with its data.

  Args:
    train: the training split, opened with `saved_names`.
    saved: metadata of the checkpoint.

  Raises:
    ConfigError: a stream would go on in another order.
    DataError: the data set has another number of examples.
  """
  here, there = describe(train), saved["data"]
  if there["num_examples"] != here["num_examples"]:
    raise errors.DataError(
        f"{train.name} has {here['num_examples']} examples; the run began with "
        f"{there['num_examples']}",
        "prepare the same data set again, or use another --workdir")
  processes = [x["processes"] for x in (there, here)]
  if train.kind == "streamed" and processes[0] != processes[1]:
    raise errors.ConfigError(
        f"{train.name} is streamed: the run can be continued with "
        f"{processes[0]} process(es), not with {processes[1]}",
        "start as many, or prepare the data set as ArrayRecord: "
        "bash launch/prepare_tfds.sh NAME")

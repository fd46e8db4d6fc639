"""The training data that a run began with, and goes on with.

Files and classes may come, go bad or vanish while a run is away. It keeps the
list of its files, so that the stream of examples stays what it was, and its
classes, so that a label means the same for ever.
"""

import json
from typing import Any, Callable, Mapping, Sequence

from etils import epath
from etils import epy
import jax
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.checkpoints import saving
from mtvit.run import console
from mtvit.run import distributed
from mtvit.run import paths
from mtvit.run import reading
from mtvit.run import results
from mtvit.training import inputs

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import source as source_lib

_MOST_LIST = 2**30        # Bytes of a list of files, at most.
# What to do if processes have other data.
ALIKE = (
    "give all the same files; what each has found bad is kept in manifests/ of "
    "its data.cache_dir: share that, or empty it")


def goes_on(
    saved: saving.Restored | None, raw: Mapping[str, Any]
) -> bool:
  """Whether a run continues with the data that it had.

  Args:
    saved: the checkpoint to continue; None for a new run.
    raw: the config as plain values.
  """
  return saved is not None and all(
      saved.meta["config"]["data"][key] == raw["data"][key]
      for key in ("name", "train_split", "labels"))


def open_sources(
    config: config_lib.Config, raw: Mapping[str, Any], workdir: epath.Path,
    saved: saving.Restored | None, poll: Callable[[], None]
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
  there = saved.meta["data"] if saved and goes_on(saved, raw) else None
  train, test = distributed.fail_together(lambda: inputs.sources(
      config, poll, _began(workdir, there) if there else None))
  here = describe(train)
  distributed.check_same(here, "training data", ALIKE)
  if there:
    _check(train.name, here, there)
  elif train.names:
    _keep(_file(workdir, here["names"]), train)
  if saved and not there:
    _note_classes(here["classes"], saved.meta["data"]["classes"])
  return train, test


def check_local(data: config_lib.Data) -> None:
  """Raises ConfigError for gs:// where only a disk will do."""
  paths.check_local(
      **{"data.name": data.name, "data.cache_dir": data.cache_dir})


def _file(workdir: epath.Path, digest: str) -> epath.Path:
  """Named by its content, so that no list ever takes the place of another."""
  return workdir / f"train_files.{digest[:16]}.json"


def _keep(file: epath.Path, train: "datasets.Source") -> None:
  """Writes the list of a run's files."""
  stamps = np.asarray(train.stamps).ravel().tolist()
  results.save_json(file, {
      "names": train.names, "sizes_and_times": stamps,
      "sha256": fingerprint.of_json(stamps)})


def _began(
    workdir: epath.Path, there: Mapping[str, Any]
) -> "source_lib.Began":
  """What the run in `workdir` began with, by its checkpoint."""
  classes, digest = tuple(there["classes"]), there["names"]
  if digest is None:
    return source_lib.Began(classes)
  file = _file(workdir, digest)
  try:
    content = json.loads(reading.content(file, _MOST_LIST))
    if isinstance(content, dict) and (
        fingerprint.of_json(content.get("names")) == digest):
      return source_lib.Began(
          classes, content["names"], _stamps(file, content))
    why = "has changed"
  except (OSError, ValueError, TypeError, OverflowError, RecursionError) as e:
    why = f"can't be read: {e}"
  raise errors.DataError(
      f"{file}, the list of the run's images, {why}",
      "restore it, or use another --workdir")


def _stamps(
    file: epath.Path, kept: Mapping[str, Any]
) -> np.ndarray | None:
  """Sizes and times of the run's files, int64 [n, 2]; None if not known."""
  stamps = kept.get("sizes_and_times")
  if stamps is None:
    return None
  if fingerprint.of_json(stamps) != kept.get("sha256"):
    console.note(
        f"{file} is damaged: whether images have changed since the run began "
        "can't be told")
    return None
  return np.array(stamps, np.int64).reshape(len(kept["names"]), 2)


def describe(train: "datasets.Source") -> dict[str, Any]:
  """What a checkpoint keeps of the training data, as JSON."""
  return {
      "kind": train.kind, "num_examples": train.num_examples,
      "classes": list(train.classes),
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
  differ = datasets.differences(
      there["classes"], here["classes"], "the run", name)
  if differ:
    raise errors.DataError(
        f"the classes of {name} are not those that the run began with: "
        f"{differ}", "prepare the same data set again, or use another "
        "--workdir")
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


def _note_classes(here: Sequence[str], there: Sequence[str]) -> None:
  """Says that a run which goes on with other data has other classes."""
  differ = datasets.differences(
      there, here, "the run so far", "the new data")
  if differ:
    console.note(f"labels mean other classes from here on: {differ}")

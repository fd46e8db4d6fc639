"""Which folder holds a split, by the names that people give to splits."""

import os
from typing import NamedTuple, Sequence

from mtvit import errors
from mtvit.data import folder_list
from mtvit.data import source as source_lib
from mtvit.run import console
from mtvit.run import paths

# What serves as "train", and as "test", in this order, in any case.
TRAIN = ("train", "training")
HELD_OUT = (
    "test", "testing", "val", "valid", "validation", "dev", "eval",
    "evaluation", "holdout", "held_out")


class Place(NamedTuple):
  """Where the images of a split are.

  Attributes:
    root: absolute path of a folder.
    shared: whether both splits are in it, and names decide which image is
      held out.
    note: what to say of the choice; "" for nothing.
  """
  root: str
  shared: bool = False
  note: str = ""


def find(request: source_lib.Request) -> Place:
  """The folder of the split that is asked for.

  Raises:
    ConfigError: there is no such folder, or it can't be told which it is.
  """
  top = os.path.abspath(paths.expand(request.path))
  there = _folders(top)
  train = _named(top, there, "train_split", request.train_split, TRAIN)
  test = None
  # Of a whole folder none is taken that was not asked for by name.
  if request.test_split and (train, request.test_split) != (".", "test"):
    test = _named(top, there, "test_split", request.test_split, HELD_OUT)
  if train is None and test is not None:
    raise errors.ConfigError(
        f"{_shown(top)} has {console.printable(test)}/, but no train/; "
        f"folders there: {few(there)}",
        "--config.data.train_split=NAME, or --config.data.train_split=. if "
        "all are classes")
  train = train or "."
  root = os.path.normpath(os.path.join(top, train))
  if test is None:
    _check_is_split(request, root, train, there)
    return Place(root, True)
  other = os.path.normpath(os.path.join(top, test))
  _check_apart(root, other)
  if request.held_out:
    return Place(other, note=_note(top, test, request.test_split))
  return Place(root, note=_note(top, train, request.train_split))


def few(names: Sequence[str]) -> str:
  """The first few names."""
  more = ", ..." if len(names) > 5 else ""
  return ", ".join(map(console.printable, names[:5])) + more or "none"


def _shown(folder: str) -> str:
  return console.printable(folder)


def _folders(top: str) -> list[str]:
  """Names of the folders in PATH."""
  if not os.path.isdir(top):
    what = "is no folder" if os.path.exists(top) else "does not exist"
    raise errors.ConfigError(
        f"data folder {_shown(top)} {what}",
        "--config.data.name=folder:PATH with images in PATH, in PATH/<class>/, "
        "or in PATH/train/ and PATH/test/")
  try:
    return folder_list.folders(top)
  except OSError as e:
    raise errors.DataError(
        f"{_shown(top)} can't be listed: {e.strerror}",
        "check its permissions") from e


def _named(
    top: str, there: Sequence[str], key: str, split: str, usual: Sequence[str]
) -> str | None:
  """The folder of a split; None if its usual name and all others are missing.

  Raises:
    ConfigError: a name was set that is not there.
  """
  if split and os.path.isdir(os.path.join(top, split)):
    return split
  names = {name.casefold(): name for name in reversed(there)}
  found = next((names[name] for name in usual if name in names), None)
  if split == usual[0]:
    return found
  raise errors.ConfigError(
      f"{_shown(top)} has no folder {console.printable(split)!r}; folders "
      f"there: {few(there)}",
      f"--config.data.{key}={console.printable(found or there[0])}, or another "
      "of them" if there else "the usual name, to take all that is in it")


def _check_is_split(
    request: source_lib.Request, root: str, train: str, there: Sequence[str]
) -> None:
  """Raises ConfigError if a folder "train" may well be a class beside others.

  It has no folders, and there is none for the other split.
  """
  given = train == request.train_split != TRAIN[0] or not request.test_split
  if train == "." or given or len(there) < 2 or _folders(root):
    return
  others = [name for name in there if name != train]
  raise errors.ConfigError(
      f"{_shown(root)} may be a split or a class beside {few(others)}",
      "--config.data.train_split=. if all are classes; --config.data."
      "test_split=NAME if one of them is the other split, or =\"\" if none is")


def _check_apart(train: str, test: str) -> None:
  """Raises ConfigError if one split's folder lies in the other's."""
  real = [os.path.join(os.path.realpath(x), "") for x in (train, test)]
  if train != test and os.path.commonprefix(real) in real:
    raise errors.ConfigError(
        f"{_shown(train)} and {_shown(test)} share images: one folder lies in "
        "the other", "move them apart, or set --config.data.train_split and "
        "--config.data.test_split to folders side by side")


def _note(top: str, found: str, asked: str) -> str:
  """Says which folder serves as a split, if it is not the one asked for."""
  return "" if found == asked else (
      f"{_shown(top)}: {console.printable(found)}/ serves as {asked}/, which "
      "is not there")

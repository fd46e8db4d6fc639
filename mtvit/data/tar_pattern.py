"""The tar shards that a pattern names, of one split."""

import glob
import itertools
import math
import os
import re
from typing import Iterator, NamedTuple, Sequence

from mtvit import errors
from mtvit.data import folder_layout
from mtvit.data import source as source_lib
from mtvit.run import console
from mtvit.run import paths

SPLIT = "{split}"         # In its place stands the name of each split.
_MOST = 1_000_000         # Shards that braces may name.
_RANGE = re.compile(r"\{([0-9]{1,18})\.\.([0-9]{1,18})\}")


class Shards(NamedTuple):
  """The shards of a split.

  Attributes:
    root: absolute path of the folder to which names are relative.
    pattern: what names them, absolute.
    paths: of each, absolute, in order.
    missing: those of a range that are not there.
    shared: whether both splits are in them, and names decide which image is
      held out.
  """
  root: str
  pattern: str
  paths: list[str]
  missing: list[str]
  shared: bool


def find(request: source_lib.Request) -> Shards:
  """The shards of the split that is asked for.

  Raises:
    ConfigError: there are none.
  """
  if re.match(r"pipe:|[a-z0-9]+://", request.path):
    raise errors.ConfigError(
        f"tar:{request.path} is not on a disk of this machine",
        "copy the shards to one, and give their path")
  given = os.path.abspath(paths.expand(request.path))
  one = request.test_split == request.train_split
  shared = not one and (SPLIT not in given or not request.test_split)
  if shared and request.test_split not in ("test", ""):
    raise errors.ConfigError(
        f"data.test_split={request.test_split}, but tar:{request.path} names "
        "no split", f"put {SPLIT} where the names of the shards differ, or "
        "leave data.test_split out: then some images are held out")
  split = request.train_split if shared else request.split
  usual = (folder_layout.HELD_OUT if request.held_out and not shared else
           folder_layout.TRAIN)
  names = [split, *(usual if split == usual[0] else ())]
  for name in names:
    pattern = given.replace(SPLIT, name)
    there, missing = _expand(pattern)
    if there == [pattern] and os.path.isdir(pattern):
      raise errors.ConfigError(
          f"{console.printable(pattern)} is a folder",
          f"--config.data.name=tar:{console.printable(pattern)}/*.tar")
    if there:
      if name != split:
        console.note(f"{console.printable(pattern)} serves as {split}, of "
                     "which there are no shards")
      return Shards(_root(given), pattern, there, missing, shared)
  raise errors.ConfigError(
      f"no shard matches {console.printable(given.replace(SPLIT, split))}; "
      f"{_listing(given)}", _remedy(given, request))


def _remedy(given: str, request: source_lib.Request) -> str:
  if SPLIT in given and request.held_out:
    return (f"--config.data.test_split=NAME for {SPLIT} of the held-out "
            f"shards, or =\"\" to hold out some of the training images")
  return ("--config.data.name='tar:FOLDER/train-*.tar', or with a range "
          "{0000..0099}, in quotes")


def _expand(pattern: str) -> tuple[list[str], list[str]]:
  """(shards that are there, those of a range that are not)."""
  there: dict[str, None] = {}       # A set that keeps the order.
  missing = []
  for name in _braces(pattern):
    if os.path.lexists(name):       # Also if it has "[" in its name.
      there[name] = None
    elif glob.has_magic(name):
      there |= dict.fromkeys(sorted(glob.glob(name, recursive=True)))
    else:
      missing.append(name)
  return list(there), missing


def _braces(pattern: str) -> Iterator[str]:
  """What {a,b} and {00..11} stand for, as in a shell."""
  choices = [_choices(part) for part in re.split(r"(\{[^{}]*\})", pattern)]
  if math.prod(map(len, choices)) > _MOST:
    raise errors.ConfigError(
        f"tar:{pattern} names more than {_MOST:,} shards",
        "a smaller range, or a pattern with *")
  return map("".join, itertools.product(*choices))


def _choices(part: str) -> Sequence[str]:
  """What a part of a pattern stands for."""
  ends = _RANGE.fullmatch(part)
  if ends:
    first, last = int(ends[1]), int(ends[2])
    # A leading zero says how many digits there are.
    padded = any(len(x) > 1 and x[0] == "0" for x in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    # One more than all would be enough to refuse it.
    some = range(first, last + step, step)[:_MOST + 1]
    return [f"{i:0{width}}" for i in some]
  if part.startswith("{") and "," in part:
    return part[1:-1].split(",")
  return [part]


def _root(pattern: str) -> str:
  """The folder that all shards lie in, by what is fixed in a pattern."""
  return os.path.dirname(re.split(r"[*?\[{]", pattern, maxsplit=1)[0]) or "/"


def _listing(pattern: str) -> str:
  """What is in the folder of a pattern, or how far it is there."""
  folder = _root(pattern)
  while not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  try:
    names = sorted(os.listdir(folder))
  except OSError as e:
    return f"{console.printable(folder)} can't be listed: {e.strerror}"
  return f"in {console.printable(folder)} there are: {folder_layout.few(names)}"

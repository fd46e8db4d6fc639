"""The files of a folder of class folders, without those of other programs."""

import collections
import os
from typing import Callable, Iterator, Mapping, NamedTuple

from mtvit import errors
from mtvit.run import console

# What other programs leave in a folder, beside names that begin with a dot.
_NOT_OURS = frozenset({
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle",
    "#snapshot", "$recycle.bin", "recycler", "system volume information",
    "lost+found", "found.000", "thumbs.db", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "icon\r", "network trash folder",
    "temporary items", "__pycache__"})


class Listing(NamedTuple):
  """What a folder of class folders holds.

  Attributes:
    classes: names of its class folders, sorted.
    files: of each class (name relative to the root, entry), in order.
    loose: how many files lie directly in the root.
    left_out: names of hidden files and folders, and those of other programs ->
      how often.
  """
  classes: tuple[str, ...]
  files: list[list[tuple[str, os.DirEntry]]]
  loose: int
  left_out: Mapping[str, int]


def of(root: str, poll: Callable[[], None]) -> Listing:
  """Lists a folder; links are followed.

  Args:
    root: absolute path.
    poll: called regularly; may raise to stop.

  Raises:
    DataError: a folder can't be listed.
  """
  prefix = os.path.join(root, "")
  left_out: collections.Counter[str] = collections.Counter()
  try:
    shown = _ours(root, left_out)
    names = [e.name for e in shown if _is_folder(e)]
    found = [
        [(e.path.removeprefix(prefix), e)
         for e in _walk(prefix + name, frozenset(), left_out, poll)]
        for name in names]
  except OSError as e:
    raise errors.DataError(
        f"{console.printable(str(e.filename or root))} can't be listed: "
        f"{e.strerror}", "check its permissions") from e
  return Listing(tuple(names), found, len(shown) - len(names), left_out)


def _ours(folder: str, left_out: collections.Counter) -> list[os.DirEntry]:
  """What is in a folder, sorted; counts what is left out."""
  with os.scandir(folder) as unsorted:
    entries = sorted(unsorted, key=lambda e: e.name)
  mine = []
  for entry in entries:
    if entry.name.startswith(".") or entry.name.lower() in _NOT_OURS:
      left_out[entry.name] += 1
    else:
      mine.append(entry)
  return mine


def _is_folder(entry: os.DirEntry) -> bool:
  """Whether it is a folder or a link to one."""
  try:
    return entry.is_dir()
  except OSError:       # A link to itself.
    return False


def _walk(
    folder: str, above: frozenset[tuple[int, int]],
    left_out: collections.Counter, poll: Callable[[], None]
) -> Iterator[os.DirEntry]:
  """What is below a folder and no folder, sorted; follows links."""
  poll()
  status = os.stat(folder)
  here = (status.st_dev, status.st_ino)
  if here in above:       # A link to a folder that it lies in.
    return
  for entry in _ours(folder, left_out):
    if _is_folder(entry):
      yield from _walk(entry.path, above | {here}, left_out, poll)
    else:
      yield entry

"""The files of a folder and of those in it, without other programs' files."""

import collections
import os
from typing import Callable, Iterator, NamedTuple

from mtvit import errors
from mtvit.run import console

# What other programs leave in a folder, beside names that begin with a dot.
_NOT_OURS = frozenset({
    "__macosx", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle",
    "#snapshot", "$recycle.bin", "recycler", "system volume information",
    "lost+found", "found.000", "thumbs.db", "ehthumbs.db",
    "ehthumbs_vista.db", "desktop.ini", "icon\r", "network trash folder",
    "temporary items", "__pycache__"})
_LOOP = "link to a folder that it lies in"
_Ids = frozenset[tuple[int, int]]       # Device and number of folders.


class Listing(NamedTuple):
  """What a folder holds.

  Attributes:
    folders: names of the folders that lie directly in it, sorted.
    files: (name relative to the root, entry) of all that is below it and no
      folder, sorted in each folder.
    refused: name of a folder that is not entered -> why.
    left_out: names of hidden files and folders, and those of other programs ->
      how often.
  """
  folders: tuple[str, ...]
  files: list[tuple[str, os.DirEntry]]
  refused: dict[str, str]
  left_out: collections.Counter[str]


def of(root: str, poll: Callable[[], None]) -> Listing:
  """Lists a folder; links are followed, but not to a folder that they lie in.

  Args:
    root: absolute path.
    poll: called regularly; may raise to stop.

  Raises:
    DataError: a folder can't be listed.
  """
  prefix = os.path.join(root, "")
  found = Listing((), [], {}, collections.Counter())
  try:
    for entry in _walk(root, _parents(root), found, poll):
      found.files.append((entry.path.removeprefix(prefix), entry))
    names = folders(root)
  except OSError as e:
    raise errors.DataError(
        f"{console.printable(str(e.filename or root))} can't be listed: "
        f"{e.strerror}", "check its permissions") from e
  refused = {
      name.removeprefix(prefix): why for name, why in found.refused.items()}
  return found._replace(
      refused=refused, folders=tuple(x for x in names if x not in refused))


def folders(folder: str) -> list[str]:
  """Names of the folders that lie directly in it, sorted.

  Raises:
    OSError: it can't be listed.
  """
  return [e.name for e in _ours(folder, collections.Counter())
          if _is_folder(e)]


def _parents(root: str) -> _Ids:
  """The folders that a folder lies in, wherever links lead."""
  above, real = set(), os.path.realpath(root)
  while (parent := os.path.dirname(real)) != real:
    above.add(_id(parent))
    real = parent
  return frozenset(above)


def _id(folder: str) -> tuple[int, int]:
  status = os.stat(folder)
  return status.st_dev, status.st_ino


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
    folder: str, above: _Ids, found: Listing, poll: Callable[[], None]
) -> Iterator[os.DirEntry]:
  """What is below a folder and no folder, sorted; follows links."""
  poll()
  here = _id(folder)
  if here in above:
    found.refused[folder] = _LOOP
    return
  for entry in _ours(folder, found.left_out):
    if _is_folder(entry):
      yield from _walk(entry.path, above | {here}, found, poll)
    else:
      yield entry

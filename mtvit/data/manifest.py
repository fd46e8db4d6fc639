"""What is in a data folder: every file, taken or refused with a reason.

Each file is checked once (`image_check`); what was found is kept in the cache
folder, and a file is checked again only if its size or time changes.
Limits that come from the configuration are applied to what is kept, so changing
them checks nothing again.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import stat
import sys
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence
import warnings

import numpy as np
import PIL

from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import image_check
from mtvit.data import images
from mtvit.data import notes

# Another Pillow may read other formats.
VERSION = f"1, images {images.VERSION}, Pillow {PIL.__version__}"
_WORKERS = 16     # They mostly wait for the disk.
_CHUNK = 256      # Files between two looks at `poll`.
_NOT_KEPT = -2**63      # No time of a file.


class Entry(NamedTuple):
  """A file of a data folder: its stat, and the fields of `Checked`."""
  size: int
  mtime_ns: int
  width: int
  height: int
  decoder: str
  reason: str


class Manifest(NamedTuple):
  """A data folder.

  Attributes:
    classes: names of its class folders, sorted.
    files: of each class, name relative to the root -> Entry, sorted.
    loose: how many files lie directly in the root.
    file: where the manifest is kept; lists for people lie beside it.
  """
  classes: tuple[str, ...]
  files: tuple[Mapping[str, Entry], ...]
  loose: int
  file: pathlib.Path


def read(
    root: str, cache_dir: pathlib.Path, max_pixels: int,
    poll: Callable[[], None] = lambda: None
) -> Manifest:
  """Lists a folder of class folders and checks what is new or changed.

  Hidden files and folders are left out. Names may be any bytes.

  Args:
    root: absolute path.
    cache_dir: of the run.
    max_pixels: larger images are not decoded to check them.
    poll: called regularly; may raise to stop. What was checked is kept.

  Raises:
    DataError: a folder can't be listed.
  """
  key = hashlib.sha256(os.fsencode(root)).hexdigest()
  file = cache_dir / "manifests" / (key + cache_files.SUFFIX)
  known = _load(file)
  prefix = os.path.join(root, "")
  try:
    names, loose = _class_folders(root)
    found = [
        [(e.path.removeprefix(prefix), e)
         for e in _walk(os.path.join(root, name), frozenset(), poll)]
        for name in names]
  except OSError as e:
    raise errors.DataError(
        f"{notes.printable(str(e.filename or root))} can't be listed: "
        f"{e.strerror}", "check its permissions") from e
  files = [{} for _ in names]
  todo = []
  for of_class, entries in zip(files, found):
    for name, dir_entry in entries:
      entry = _stat(dir_entry)
      same = known.get(name)
      if not entry.reason and same and same[:2] == entry[:2]:
        entry = same
      elif not entry.reason:
        todo.append((of_class, name, entry))
      of_class[name] = entry        # Holds its place in the order.
  try:
    _check(root, todo, max_pixels, poll)
  finally:
    _save(file, root, files, known)
  return Manifest(tuple(names), tuple(files), loose, file)


def refusal(entry: Entry, max_pixels: int, min_side: int) -> str:
  """Why a file is not used, as "kind" or "kind: detail"; "" if it is."""
  size = f"{entry.width}x{entry.height} pixels"
  if entry.reason:
    return entry.reason
  if entry.width * entry.height > max_pixels:
    return f"too many pixels: {size}, more than data.max_pixels={max_pixels}"
  if min(entry.width, entry.height) < min_side:
    return f"too small: {size} for a {min_side}x{min_side} patch grid"
  return ""


def _class_folders(root: str) -> tuple[list[str], int]:
  """(sorted names of the folders in a folder, how many files are there)."""
  with os.scandir(root) as entries:
    shown = [e for e in entries if not e.name.startswith(".")]
  folders = sorted(e.name for e in shown if _is_folder(e))
  return folders, len(shown) - len(folders)


def _is_folder(entry: os.DirEntry) -> bool:
  """Whether it is a folder or a link to one."""
  try:
    return entry.is_dir()
  except OSError:       # A link to itself.
    return False


def _walk(
    folder: str, above: frozenset[tuple[int, int]], poll: Callable[[], None]
) -> Iterator[os.DirEntry]:
  """What is below a folder and no folder, sorted; follows links."""
  poll()
  status = os.stat(folder)
  here = (status.st_dev, status.st_ino)
  if here in above:       # A link to a folder that it lies in.
    return
  with os.scandir(folder) as entries:
    entries = sorted(entries, key=lambda e: e.name)
  for entry in entries:
    if entry.name.startswith("."):
      continue
    if _is_folder(entry):
      yield from _walk(entry.path, above | {here}, poll)
    else:
      yield entry


def _stat(dir_entry: os.DirEntry) -> Entry:
  """Size and time of a regular file; a reason for anything else."""
  refused = lambda reason: Entry(0, _NOT_KEPT, 0, 0, "", reason)
  try:
    status = dir_entry.stat()
  except OSError as e:
    return refused("broken link" if dir_entry.is_symlink() else
                   f"can't be read: {e.strerror}")
  # A FIFO must not even be opened: that waits for a writer.
  if not stat.S_ISREG(status.st_mode):
    return refused("not a regular file")
  return Entry(status.st_size, status.st_mtime_ns, 0, 0, "", "")


def _check(
    root: str, todo: Sequence[tuple[dict, str, Entry]], max_pixels: int,
    poll: Callable[[], None]
) -> None:
  """Checks files in parallel and puts what was found in their place."""
  def check(item):
    _, name, entry = item
    return image_check.check(
        os.path.join(root, name), entry.size, max_pixels)

  progress = notes.Progress(
      f"checking {notes.printable(root)}, once: files", len(todo))
  # Before the threads and until they are done: filters belong to the process.
  with warnings.catch_warnings(), (
      concurrent.futures.ThreadPoolExecutor(_WORKERS)) as pool:
    warnings.simplefilter("ignore")     # Pillow's, about oddities.
    for start in range(0, len(todo), _CHUNK):
      poll()
      chunk = todo[start:start + _CHUNK]
      for (of_class, name, entry), found in zip(chunk, pool.map(check, chunk)):
        # What may change without the file is asked anew next time.
        of_class[name] = Entry(
            entry.size, entry.mtime_ns if found.final else _NOT_KEPT,
            *found[:4])
      progress.update(start + len(chunk))


def _load(file: pathlib.Path) -> dict[str, Entry]:
  """What is known of a folder's files; nothing if it can't be read."""
  # JSON in an array of bytes: so no byte is believed that has changed.
  kept = cache_files.load(file, {"json": (np.uint8, [None])})
  if kept is None:
    return {}
  try:
    content = json.loads(kept["json"].tobytes())
    if content["version"] != VERSION:
      return {}
    return {name: _entry(*row) for name, row in content["files"].items()}
  except (ValueError, TypeError, KeyError, AttributeError,
          RecursionError) as e:
    notes.note(f"{file} is damaged ({type(e).__name__}); all files are checked "
               "again")
    return {}


def _entry(size, mtime_ns, width, height, decoder, reason) -> Entry:
  """An entry as it was kept."""
  numbers = (size, mtime_ns, width, height)
  if not all(type(x) is int for x in numbers) or type(reason) is not str or (
      not reason and decoder not in ("tensorflow", "pillow")):
    raise ValueError("not an entry")
  return Entry(*numbers, sys.intern(decoder), reason)


def _save(
    file: pathlib.Path, root: str, files: Sequence[Mapping[str, Entry]],
    known: Mapping[str, Entry]
) -> None:
  """Keeps the entries that were checked, if they are news."""
  checked = {
      name: entry for of_class in files for name, entry in of_class.items()
      if entry.mtime_ns != _NOT_KEPT and (entry.decoder or entry.reason)}
  if checked != known:
    content = {"version": VERSION, "root": root, "files": checked}
    # ASCII, so that names of any bytes survive.
    cache_files.save(file, {"json": np.frombuffer(
        json.dumps(content).encode("ascii"), np.uint8)})

"""What is known of image files: each is taken, or refused with a reason.

Each file is checked once (`image_check`); what was found is kept in the cache
folder, and a file is checked again only if its size or time changes.
Limits that come from the configuration are applied to what is kept, so changing
them checks nothing again.

What turns out to be bad only when it is read (`remember`) is kept beside the
manifest, for the next start. If that is much, all files are decoded then.
"""

import concurrent.futures
import hashlib
import os
import pathlib
import stat
import sys
from typing import Any, Callable, Mapping, NamedTuple, Sequence, cast
import warnings

import PIL

from mtvit.data import cache_files
from mtvit.data import image_check
from mtvit.data import images
from mtvit.data import replacing
from mtvit.run import console

# Another Pillow may read other formats.
VERSION = f"2, images {images.VERSION}, Pillow {PIL.__version__}"
_WORKERS = 16     # They mostly wait for the disk.
_CHUNK = 256      # Files between two looks at `poll`.
_NOT_KEPT = -2**63      # No time of a file.
# So many files, of so many bytes in all, are decoded to check them.
_FEW, _SMALL = 10_000, 2**27
Decode = Callable[[bytes], Any]


class Entry(NamedTuple):
  """An image: what `Place` says of it, and the fields of `Checked`.

  Attributes:
    size: bytes.
    time_ns: when it was modified. If it is refused, when anything of it was
      changed: who restores a file may restore the time of its content, too.
    decoded: the check has decoded it, unless the picture is large.
  """
  size: int
  time_ns: int
  width: int
  height: int
  decoder: str
  reason: str
  decoded: bool = False


class Manifest(NamedTuple):
  """Images in files.

  Attributes:
    files: name relative to the root -> Entry, in the order of the places.
    file: where the manifest is kept; lists for people lie beside it.
  """
  files: Mapping[str, Entry]
  file: pathlib.Path


class Place(NamedTuple):
  """Where the bytes of an image are, and since when.

  Attributes:
    path: of a regular file.
    size: bytes of the image.
    time_ns: when the file was modified.
    changed_ns: when anything of it was changed.
    start: where in it the image begins.
  """
  path: str
  size: int
  time_ns: int
  changed_ns: int
  start: int = 0


def place(path: str) -> Place | str:
  """Where an image is that fills a file, or why it is refused unopened."""
  try:
    status = os.stat(path)
  except OSError as e:
    return ("broken link" if os.path.islink(path) else
            f"can't be read: {e.strerror}")
  # A FIFO must not even be opened: that waits for a writer.
  if not stat.S_ISREG(status.st_mode):
    return "not a regular file"
  return Place(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def read(
    root: str, places: Mapping[str, Place | str], cache_dir: pathlib.Path,
    max_pixels: int, poll: Callable[[], None] = lambda: None,
    native: Decode | None = None, kept_for: str = ""
) -> Manifest:
  """Checks those of some images that are new or changed.

  Args:
    root: absolute path. Names in it may be any bytes.
    places: name relative to the root -> where it is, or why it is refused.
    cache_dir: of the run.
    max_pixels: larger images are not decoded to check them.
    poll: called regularly; may raise to stop. What was checked is kept.
    native: decodes plain files, or raises. If it is given, the images are
      decoded that are to be checked, if they are few; and all, if more than
      a run puts up with went bad when they were read.
    kept_for: the path for which it is kept; "" for the root.
  """
  key = hashlib.sha256(os.fsencode(kept_for or root)).hexdigest()
  file = cache_dir / "manifests" / (key + cache_files.SUFFIX)
  known, met = _load(file), _load(_met(file))
  stored = {name: x for name, x in places.items() if isinstance(x, Place)}
  files: dict[str, Entry | None] = {
      name: next((e for e in (met.get(name), known.get(name)) if _is_of(e, x)),
                 None) if isinstance(x, Place) else
      Entry(0, _NOT_KEPT, 0, 0, "", x) for name, x in places.items()}
  went_bad = sum(
      name in met and _is_of(met[name], x) and bool(met[name].reason)
      for name, x in stored.items())
  everything = went_bad > replacing.MOST * len(stored)
  todo = [
      (name, x) for name, x in stored.items()
      if (entry := files[name]) is None or (
          everything and not entry.reason and not entry.decoded)]
  few = len(todo) <= _FEW and sum(x.size for _, x in todo) <= _SMALL
  try:
    _check(root, files, todo, max_pixels, poll,
           native if few or everything else None)
  finally:
    _save(file, root, files, known)
  return Manifest(cast(dict[str, Entry], files), file)    # By now, all are.


def remember(
    manifest: pathlib.Path, root: str, places: Mapping[str, Place | str],
    max_pixels: int, native: Decode
) -> None:
  """Decodes images that went bad; keeps what is wrong with them.

  Args:
    manifest: `Manifest.file`.
    root: absolute path.
    places: of these images; see `read`. What is gone will not be listed.
    max_pixels: larger images are not decoded.
    native: see `read`.
  """
  news = {}
  for name, x in places.items():
    if isinstance(x, Place):
      found = image_check.check(x.path, x.size, max_pixels, native, x.start)
      if found.final:
        news[name] = _entry_of(found, x, True)
  file = _met(manifest)
  if news:
    _write(file, root, _load(file) | news)


def _met(manifest: pathlib.Path) -> pathlib.Path:
  """Where what was met while reading is kept."""
  return manifest.with_suffix(f".met{cache_files.SUFFIX}")


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


def _is_of(entry: Entry | None, now: Place) -> bool:
  """Whether an entry tells of an image as it is."""
  return entry is not None and entry[:2] == (
      now.size, now.changed_ns if entry.reason else now.time_ns)


def _entry_of(
    found: image_check.Checked, now: Place, decoded: bool
) -> Entry:
  """What was found of an image."""
  time = now.changed_ns if found.reason else now.time_ns
  # What may change without the file is asked anew next time.
  return Entry(
      now.size, time if found.final else _NOT_KEPT, *found[:4], decoded)


def _check(
    root: str, files: dict[str, Entry | None],
    todo: Sequence[tuple[str, Place]], max_pixels: int,
    poll: Callable[[], None], native: Decode | None
) -> None:
  """Checks images in parallel and puts what was found in their place."""
  def check(item):
    _, x = item
    return image_check.check(x.path, x.size, max_pixels, native, x.start)

  progress = console.Progress(
      f"checking {console.printable(root)}, once: files", len(todo))
  # Before the threads and until they are done: filters belong to the process.
  with warnings.catch_warnings(), (
      concurrent.futures.ThreadPoolExecutor(_WORKERS)) as pool:
    warnings.simplefilter("ignore")     # Pillow's, about oddities.
    for start in range(0, len(todo), _CHUNK):
      poll()
      chunk = todo[start:start + _CHUNK]
      for (name, x), found in zip(chunk, pool.map(check, chunk)):
        files[name] = _entry_of(found, x, native is not None)
      progress.update(start + len(chunk))


def _load(file: pathlib.Path) -> dict[str, Entry]:
  """What is known of a folder's files; nothing if it can't be read."""
  content = cache_files.load_json(file)
  if content is None:
    return {}
  try:
    if content["version"] != VERSION:
      return {}
    return {name: _entry(*row) for name, row in content["files"].items()}
  except (ValueError, TypeError, KeyError, AttributeError) as e:
    console.note(
        f"{file} is damaged ({type(e).__name__}); all is checked again")
    return {}


def _entry(
    size: Any, time_ns: Any, width: Any, height: Any, decoder: Any, reason: Any,
    decoded: Any
) -> Entry:
  """An entry as it was kept."""
  numbers = (size, time_ns, width, height)
  if not all(type(x) is int for x in numbers) or type(reason) is not str or (
      type(decoded) is not bool) or (
      not reason and decoder not in ("tensorflow", "pillow")):
    raise ValueError("not an entry")
  return Entry(*numbers, sys.intern(decoder), reason, decoded)


def _save(
    file: pathlib.Path, root: str, files: Mapping[str, Entry | None],
    known: Mapping[str, Entry]
) -> None:
  """Keeps the entries that were checked, if they are news."""
  checked = {
      name: entry for name, entry in files.items()
      if entry and entry.time_ns != _NOT_KEPT}
  if checked != known:
    _write(file, root, checked)


def _write(
    file: pathlib.Path, root: str, entries: Mapping[str, Entry]
) -> None:
  """Keeps entries."""
  cache_files.save_json(
      file, {"version": VERSION, "root": root, "files": entries})

"""Writing: a file is whole or not there, and so is a set of files.

A file is written beside its place, under a hidden name of a pattern that only
this module uses, and takes its own name when it is complete and on the disk.
What a killed process left under such a name is removed when the same file is
written again. A set of files has a last one, its mark, which is not there until
all others are; meanwhile another mark says that the set is unfinished.

An OSError names the file that was to be written. Links in the place of a file
are replaced, never followed.
"""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import pathlib
import re
import time
from typing import Any, BinaryIO, Callable, Iterator, Sequence
import uuid

from etils import epath

from mtvit import errors
from mtvit.run import paths

UNFINISHED = ".unfinished"         # After the name of the mark of a set.
_PART = re.compile(r"\.mtvit-([0-9a-f]{16})-[0-9a-f]{32}\.tmp")
_DAY = 86_400                      # seconds

Content = str | bytes | Callable[[BinaryIO], Any]


def write(file: paths.Given, content: Content) -> None:
  """Replaces a file, whole or not at all; its folder is made.

  Args:
    file: to write, in a folder or on gs://.
    content: text, which is written in UTF-8, bytes, or what writes them.

  Raises:
    OSError: it can't be written; names `file`. Nothing is left behind.
  """
  if callable(content):
    fill = content
  else:
    data = content.encode() if isinstance(content, str) else content
    fill = lambda f: f.write(data)
  with naming(file):
    if paths.is_remote(file):        # An object is always whole.
      buffer = io.BytesIO()
      fill(buffer)
      epath.Path(file).write_bytes(buffer.getvalue())
    else:
      _write(pathlib.Path(file), fill)


@contextlib.contextmanager
def naming(file: paths.Given) -> Iterator[None]:
  """Makes any OSError one that names `file`."""
  try:
    with paths.os_errors(file):
      yield
  except OSError as e:
    # Libraries raise some of one text and no number.
    raise OSError(e.errno or errno.EIO, e.strerror or str(e),
                  os.fspath(file)) from e


def append(file: pathlib.Path, text: str) -> None:
  """Adds text to a file, which is made; to no link's target.

  Raises:
    OSError: it can't be written to, or is a link.
  """
  with naming(file), open(
      file, "a", encoding="utf-8", opener=without_links) as f:
    f.write(text)


def try_writing(folder: paths.Given) -> None:
  """Makes a folder and a file in it; access bits don't tell all.

  Raises:
    OSError: it can't be done; names `folder`.
  """
  trial = epath.Path(folder) / ".mtvit-trial"
  with naming(folder):
    write(trial, "")
    # Another process of the run may try it at the same moment.
    with contextlib.suppress(FileNotFoundError), paths.os_errors(folder):
      trial.unlink()


def check_writable(
    flag: str, given: paths.Given, folder: paths.Given
) -> None:
  """Refuses what can't be written, before the work that fills it.

  Args:
    flag: for the message.
    given: its value, a file or a folder.
    folder: that must take files; it is made.

  Raises:
    ConfigError: it takes none.
  """
  with errors.unwritable(f"{flag}={given}", f"another {flag}"):
    try_writing(folder)


def without_links(name: str, flags: int) -> int:
  """An opener for `open` that follows no link and waits for no FIFO."""
  return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


def _write(file: pathlib.Path, fill: Callable[[BinaryIO], Any]) -> None:
  """`write` on a disk."""
  file.parent.mkdir(parents=True, exist_ok=True)
  remove_left(file)
  part, f = _begun(file)
  try:
    with f:                          # Locked until it has its name.
      fill(f)
      f.flush()
      # Else a crash of the machine may leave the name, and nothing in it; and
      # over a network a full disk shows only here.
      os.fsync(f.fileno())
      os.replace(part, file)
  finally:
    part.unlink(missing_ok=True)


def _begun(file: pathlib.Path) -> tuple[pathlib.Path, BinaryIO]:
  """A new temporary file for `file`, open and locked."""
  while True:
    part = file.with_name(f".mtvit-{_digest(file)}-{uuid.uuid4().hex}.tmp")
    f = open(part, "xb")
    with contextlib.suppress(OSError):      # Some file systems have no locks.
      fcntl.flock(f, fcntl.LOCK_EX)
    # Another process that cleans up may have been faster than the lock.
    if os.fstat(f.fileno()).st_nlink:
      return part, f
    f.close()


def _digest(file: pathlib.Path) -> str:
  """Of a file's name: that can be as long as a name may be."""
  return hashlib.sha256(os.fsencode(file.name)).hexdigest()[:16]


def remove_left(file: pathlib.Path) -> None:
  """Removes what killed processes have left of writing this file.

  Whoever writes holds a lock on the temporary file; what can be locked belongs
  to nobody. Where there are no locks it must be a day old.
  """
  mine = _digest(file)
  with contextlib.suppress(OSError), os.scandir(file.parent) as entries:
    for entry in entries:
      match = _PART.fullmatch(entry.name)
      if match and match[1] == mine and entry.is_file(follow_symlinks=False):
        with contextlib.suppress(OSError):
          if _abandoned(entry.path):
            os.unlink(entry.path)


def _abandoned(part: str) -> bool:
  """Whether no process writes a temporary file any more."""
  with open(part, "rb", opener=without_links) as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return True
    except BlockingIOError:
      return False
    except OSError:
      return time.time() - os.fstat(f.fileno()).st_mtime > _DAY


class FileSet:
  """The files of a folder that belong together, on a disk.

  `with FileSet(...) as made:` begins it anew, `made.write` writes one of them;
  the mark comes at the end. If something is raised, all are removed. All raise
  an OSError that names the file.
  """

  def __init__(
      self, folder: pathlib.Path, names: Sequence[str], mark: str
  ):
    """Binds what does not change.

    Args:
      folder: where they are; it may have other files, which are let alone.
      names: all that the set may have, relative to the folder, in it or in a
        folder of it.
      mark: the name of the last one.
    """
    self.folder = folder
    self.mark = folder / mark
    self.unfinished = folder / f"{mark}{UNFINISHED}"
    self._files = [folder / name for name in names]
    self._made: list[pathlib.Path] = []     # Folders, the outermost first.
    self._last: Content | None = None

  def is_ours(self) -> bool:
    """Whether such a set is there, or was begun."""
    return self.mark.is_file() or self.unfinished.is_file()

  def __enter__(self) -> "FileSet":
    for folder in sorted({x.parent for x in self._files} | {self.folder}):
      missing = [x for x in (folder, *folder.parents) if not x.exists()]
      self._made += [x for x in missing[::-1] if x not in self._made]
    try:
      write(self.unfinished, "mtvit has begun to write the files of this "
            "folder, and has not finished.\n")
      self._remove()
    except OSError:
      self._leave_no_folder()
      raise
    return self

  def place(self, name: str) -> pathlib.Path:
    """Where one of the files is to be written; raises ValueError for others."""
    if self.folder / name not in self._files:
      raise ValueError(f"{name} is no file of this set")
    return self.folder / name

  def write(self, name: str, content: Content) -> None:
    """Writes one of the files; the mark only when the set is complete."""
    if self.folder / name == self.mark:
      self._last = content
    else:
      write(self.place(name), content)

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    if kind is None:
      try:
        write(self.mark, self._last or "")
      except BaseException:
        self._give_up()
        raise
      self.unfinished.unlink()
    else:
      self._give_up()

  def _remove(self) -> None:
    """Removes the mark, the files, and what was left of writing them."""
    for file in (self.mark, *self._files):
      remove_left(file)
      file.unlink(missing_ok=True)

  def _give_up(self) -> None:
    """Removes all; what can't be is marked as unfinished."""
    with contextlib.suppress(OSError):
      self._remove()
      self.unfinished.unlink()
      self._leave_no_folder()

  def _leave_no_folder(self) -> None:
    """Removes the folders that were made, if nothing is in them."""
    with contextlib.suppress(OSError):
      for folder in reversed(self._made):
        if folder.is_dir():
          folder.rmdir()


def check_finished(mark: pathlib.Path, fix: str) -> None:
  """Raises CheckpointError if the set of that mark was begun, not finished."""
  if mark.with_name(f"{mark.name}{UNFINISHED}").exists():
    raise errors.CheckpointError(
        f"{mark.parent} is unfinished: writing it was cut short", fix)

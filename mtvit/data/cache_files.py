"""Files of the cache: written whole or not at all, by several processes."""

import os
import pathlib
import socket
import time
from typing import BinaryIO, Callable

from mtvit.data import notes

_DAY = 86_400     # seconds


def write(file: pathlib.Path, fill: Callable[[BinaryIO], None]) -> bool:
  """Writes a file under a temporary name, then gives it its own.

  A cache that can't be written costs time, not the run: that is a note.

  Args:
    file: to write; its folder is made.
    fill: writes the content.

  Returns:
    Whether it was written.
  """
  # Unique among the processes of all hosts that share the folder.
  part = file.with_name(
      f"{file.name}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}.tmp")
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(file.parent)
    with open(part, "wb") as f:
      fill(f)
    part.replace(file)
    return True
  except OSError as e:
    notes.note(f"{file} can't be written ({e.strerror or e}); it will be made "
               "anew next time (--config.data.cache_dir=FOLDER)")
    return False
  finally:
    try:
      part.unlink(missing_ok=True)
    except OSError:
      pass      # The folder isn't there, or isn't ours: so isn't the file.


def _remove_stale(folder: pathlib.Path) -> None:
  """Removes what processes that were killed left a day ago or earlier."""
  for part in folder.glob("*.tmp"):
    try:
      if time.time() - part.stat().st_mtime > _DAY:
        part.unlink()
    except OSError:
      pass      # Another process was faster.

"""Files of the cache: written whole or not at all, by several processes."""

import pathlib
from typing import BinaryIO, Callable

from mtvit import files
from mtvit.data import notes


def write(file: pathlib.Path, fill: Callable[[BinaryIO], None]) -> bool:
  """Writes a file; its folder is made.

  A cache that can't be written costs time, not the run: that is a note.

  Args:
    file: to write.
    fill: writes the content.

  Returns:
    Whether it was written.
  """
  try:
    files.write(file, fill)
    return True
  except OSError as e:
    notes.note(f"{file} can't be written ({e.strerror}); it will be made anew "
               "next time")
    return False

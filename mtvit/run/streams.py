"""Standard streams that outlive their reader, their terminal and their disk.

A run must not end because nobody reads what it prints: `| head` has enough, an
ssh session is gone, the disk of a log is full, a service closes them at start.
"""

import contextlib
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
  from _typeshed import ReadableBuffer


def protect() -> None:
  """Makes sys.stdout and sys.stderr such streams, and opens closed ones.

  Those that are none of a process's own, as in notebooks, stay as they are.
  """
  closed = [number for number in range(3) if not _is_open(number)]
  for number in closed:
    # Else the next file that is opened, a checkpoint, has its number, and what
    # a library prints goes into it.
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
      os.set_inheritable(number, True)
    else:
      os.dup2(null, number)
      os.close(null)
  if sys.stdin is None:
    sys.stdin = open(os.devnull, encoding="utf-8")
  for number, name in ((1, "stdout"), (2, "stderr")):
    old = getattr(sys, name)
    stream = _protected(number, name, old)
    if stream is not old:
      setattr(sys, name, stream)
      setattr(sys, f"__{name}__", stream)


def _is_open(number: int) -> bool:
  try:
    os.fstat(number)
    return True
  except OSError:
    return False


def _protected(number: int, name: str, old: TextIO | None) -> TextIO:
  """The stream in the place of `old`, which is None if it was closed."""
  if old is None:      # By now another file may have its number.
    return open(os.devnull, "w", encoding="utf-8")
  try:
    if old.fileno() != number:
      return old
  except (OSError, ValueError):      # It has none, or is closed.
    return old
  with contextlib.suppress(OSError, ValueError):
    old.flush()
  raw = _Raw(number, name)
  unbuffered = isinstance(old.buffer, io.RawIOBase)
  return io.TextIOWrapper(
      raw if unbuffered else io.BufferedWriter(raw), encoding=old.encoding,
      # A name that the terminal's encoding lacks is shown all the same.
      errors="backslashreplace", line_buffering=bool(old.line_buffering),
      write_through=unbuffered)


class _Raw(io.FileIO):
  """A descriptor to write to; what can't be written is dropped, with a note."""

  def __init__(self, number: int, name: str):
    super().__init__(number, "w", closefd=False)
    self._number, self._name = number, name
    self._lost = False

  def write(self, data: "ReadableBuffer", /) -> int:
    """Writes all of it, or none of the rest; returns its size."""
    left = memoryview(data).cast("B")
    size = len(left)
    try:
      while left:
        count = super().write(left)
        if count is None:            # Full, and somebody made it non-blocking.
          select.select([], [self._number], [])
        else:
          left = left[count:]
    except OSError as e:
      if not self._lost and self._number != 2:
        note = f"note: {self._name}: {e.strerror}; going on without it\n"
        try:
          os.write(2, note.encode())
        except OSError:
          pass
      self._lost = True
    return size

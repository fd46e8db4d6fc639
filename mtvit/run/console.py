"""What the data code tells people on stderr, and names fit to be shown."""

import sys
import time

from mtvit import errors


def note(text: str) -> None:
  """Writes one line to stderr."""
  print(text, file=sys.stderr, flush=True)


def printable(name: str) -> str:
  """A file name on one line; what can't be printed becomes an escape."""
  return errors.printable(name).replace("\n", "\\n")


class Progress:
  """Lines about something that takes long; none if it is quick."""
  FIRST, EVERY = 2.0, 5.0     # seconds

  def __init__(self, what: str, total: int):
    self._what, self._total = what, total
    self._start = time.monotonic()
    self._next = self._start + self.FIRST

  def update(self, done: int) -> None:
    """Says how far it is, if it is time to."""
    now = time.monotonic()
    if now >= self._next and done < self._total:
      self._next = now + self.EVERY
      rate = done / (now - self._start)
      note(f"{self._what}: {done:,} of {self._total:,} ({rate:,.0f}/s)")

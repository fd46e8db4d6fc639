"""The lines that a run shows while it trains: skills, and how good it is."""

import math
import os
import shutil
import sys
import textwrap
from typing import Mapping, Sequence

from mtvit.run import distributed

WIDTH = 120              # Of a line, at most.
REPEAT = 25              # Lines until the names of the columns come again.
_NARROWEST = 5           # A column holds "-0.12".


class Progress:
  """A table of reports, a line each.

  On a terminal a line is written over the one before it, and stays below the
  names of the columns.
  """

  def __init__(self, total_steps: int, batch_size: int, tasks: Sequence[str]):
    """Binds the run.

    Args:
      total_steps: of the run.
      batch_size: images in a step.
      tasks: whose skills are shown.
    """
    self._total = total_steps
    self._batch_size = batch_size
    self._tasks = list(tasks)
    self._score = ""
    self._values: tuple[float, float] = (math.nan, math.nan)
    self._lines = 0
    self._active = distributed.is_main()
    self._live = (
        sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", ""))

  def score(self, name: str, now: float, at_random: float | None) -> None:
    """Notes how good the features are, for the lines that follow.

    Args:
      name: what is measured, such as "kNN".
      now: what has been reached.
      at_random: with random parameters, if that is known.
    """
    if name != self._score:
      self._lines = 0                   # The columns have other names.
    self._score = name
    self._values = (now, math.nan if at_random is None else at_random)

  def show(
      self, step: int, seconds_per_step: float, wait: float,
      scalars: Mapping[str, float]
  ) -> None:
    """Reports a step.

    Args:
      step: of so many.
      seconds_per_step: of late.
      wait: the share of them that was spent waiting for data.
      scalars: of the step; of them the skills are shown.
    """
    if not self._active:
      return
    cells = [
        f"step {step}/{self._total}",
        f"{self._batch_size / seconds_per_step:.0f}",
        duration((self._total - step) * seconds_per_step), f"{wait:.0%}"]
    if self._score:
      cells += [_number(x, 3) for x in self._values]
    skills = [_number(scalars.get(f"{name}/skill", math.nan), 2)
              for name in self._tasks]
    if self._lines % REPEAT == 0:
      self._print(self._heading(), stays=True)
    self._lines += 1
    self._print(self._line(cells, skills), stays=not self._live)

  def note(self, text: str) -> None:
    """Prints a line of its own."""
    if self._active:
      self._print(text, stays=True)

  def found(self, step: int, texts: Sequence[str]) -> None:
    """Prints what has been found at a step, in one line."""
    self.note(shortened(" · ".join([f"step {step}", *texts])))

  def _columns(self) -> list[tuple[str, int]]:
    """The names and the widths of the columns before the skills."""
    columns = [("", len(f"step {self._total}/{self._total}")),
               ("images/s", 8), ("eta", 9), ("wait", 4)]
    if self._score:
      columns += [(self._score, max(5, len(self._score))), ("random", 6)]
    return columns

  def _widths(self, room: int) -> list[int]:
    """The widths of the columns of as many skills as there is room for."""
    widths = [max(_NARROWEST, len(name))
              for name in self._tasks[:(room + 1) // (_NARROWEST + 1)]]
    while sum(widths) + len(widths) - 1 > room:
      widths[widths.index(max(widths))] -= 1
    return widths

  def _line(self, cells: Sequence[str], skills: Sequence[str]) -> str:
    """A line of the table: names and numbers are on the right of columns."""
    line = "  ".join(
        f"{cell:>{width}}" if i else cell.ljust(width)
        for i, (cell, (_, width)) in enumerate(zip(cells, self._columns())))
    widths = self._widths(WIDTH - len(line) - 2)
    return f"{line}  " + " ".join(
        f"{skill[:width]:>{width}}" for skill, width in zip(skills, widths))

  def _heading(self) -> str:
    """The names of the columns, and above those of skills what they are."""
    names = [name for name, _ in self._columns()]
    above = self._line([""] * len(names), [])
    return (f"{above}skills (0: always the same answer, 1: perfect)\n"
            f"{self._line(names, self._tasks)}")

  def _print(self, text: str, stays: bool) -> None:
    if self._live:
      room = shutil.get_terminal_size().columns - 1
      text = text if stays else text[:room]
      print(f"\r\x1b[K{text}", end="\n" if stays else "", flush=True)
    else:
      print(text, flush=True)


def duration(seconds: float) -> str:
  """Hours, minutes and seconds, as 1:02:03."""
  minutes, seconds = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def shortened(text: str) -> str:
  """A text of one line that is not too wide."""
  return textwrap.shorten(text, WIDTH, placeholder=" …")


def _number(value: float, digits: int) -> str:
  """A number of at most five characters; one that is not there is a dash."""
  return "-" if math.isnan(value) else f"{max(value, -9.99):.{digits}f}"[:5]

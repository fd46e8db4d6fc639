"""What the sections of a study's document are made of."""

import dataclasses
import math
from typing import Any, Callable, NamedTuple, Sequence

from mtvit.study import statistics

NONE = "–"


class Table(NamedTuple):
  """Cells; the first column names the rows; `wordy` ones hold sentences."""
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  wordy: bool = False


class Plot(NamedTuple):
  """A picture: its file's name, what it shows, and who draws it there."""
  name: str
  alt: str
  draw: Callable[[Any], None]


Block = Table | Plot | str


@dataclasses.dataclass(frozen=True)
class Section:
  """A part; `name` is of its link, `blocks` are tables, plots and lines."""
  name: str
  title: str
  lead: str
  blocks: Sequence[Block]


def number(x: float | None, digits: int = 2, sign: bool = False) -> str:
  """With so many digits behind the point; "–" for what is not known."""
  if x is None or not math.isfinite(x):
    return NONE
  return f"{x:{'+' if sign else ''}.{digits}f}"


def ends(interval: tuple[float, float] | None, digits: int) -> str:
  """Both ends of an interval; "–" if there is none."""
  if interval is None or not all(map(math.isfinite, interval)):
    return NONE
  return " to ".join(number(x, digits) for x in interval)


def listed(found: Sequence[str], most: int) -> str:
  """The first ones, and how many more there are."""
  more = f" and {len(found) - most} more" if len(found) > most else ""
  return "; ".join(found[:most]) + more


def spread(values: Sequence[float], digits: int = 2) -> str:
  """A mean ± half of its interval."""
  x = statistics.interval(values)
  if x.n < 2:
    return number(x.mean, digits)
  return f"{number(x.mean, digits)} ± {number(x.high - x.mean, digits)}"

"""Numbers as a reader likes them."""

import json
import math
from typing import Any, Mapping

from mtvit.report import markup

NONE = "–"


def percent(value: float | None) -> str:
  """0.4512 -> "45.1 %"; "–" for what is not known."""
  if value is None or not math.isfinite(value):
    return NONE
  return f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
  """With so many digits behind the point; "–" for what is not known."""
  if value is None or not math.isfinite(value):
    return NONE
  return f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
  """A duration: "4.2 s", "6 min" or "2.5 h"."""
  if value is None or not math.isfinite(value):
    return NONE
  if value < 100:
    return f"{value:.1f} s"
  return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def accuracy(row: Mapping[str, Any] | None, note: str = "",
             chosen: bool = False) -> markup.Html:
  """A share with its interval below, and a note; marked if it was chosen."""
  if row is None:
    return markup.escaped(NONE)
  value = markup.tag("span", percent(row["accuracy"]),
                     class_="chosen" if chosen else None)
  parts = [value]
  if row.get("low") is not None and row.get("high") is not None:
    parts.append(markup.tag(
        "span", f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
        class_="interval"))
  if note:
    parts.append(markup.tag("span", note, class_="interval"))
  return markup.join(parts)


def setting(value: Any) -> str:
  """A value of a config."""
  if isinstance(value, str):
    return value or '""'
  return json.dumps(value)

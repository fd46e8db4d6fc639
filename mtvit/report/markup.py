"""HTML from strings that nobody trusts: what is not `Html` is escaped."""

import base64
import html
import io
import os
from typing import Any, Iterable, Sequence

from PIL import Image

from mtvit import errors
from mtvit.run import reading

_INLINE = ("a", "code", "span", "th", "td")      # Space behind them shows.
_VOID = ("img", "meta", "br", "col")
_WIDTH = 1600                  # pixels; a wider picture is made smaller.
_LOSSLESS = 150_000            # bytes; a larger picture is stored with loss.
_MOST_BYTES, _MOST_PIXELS = 2**27, 2**27       # No picture of a run has more.


class Html(str):
  """A string that is HTML already."""


def escaped(value: Any) -> Html:
  """`value` as HTML: itself if it is that, else its text, escaped.

  Control characters, those that change the direction of text, and what is no
  character become Python's escapes.
  """
  if isinstance(value, Html):
    return value
  return Html(html.escape(errors.printable(str(value))))


def join(parts: Iterable[Any]) -> Html:
  """The parts one after the other."""
  return Html("".join(escaped(part) for part in parts))


def tag(element: str, *children: Any, **attributes: Any) -> Html:
  """An element: of "td", x and class_="n" it is <td class="n">x</td>.

  Args:
    element: its name.
    *children: escaped unless they are Html.
    **attributes: escaped; the underscore behind `class_` is for Python, and one
      that is None is left out.
  """
  text = "".join(
      f' {key.rstrip("_")}="{escaped(value)}"'
      for key, value in attributes.items() if value is not None)
  if element in _VOID:
    return Html(f"<{element}{text}>")
  end = "" if element in _INLINE else "\n"
  return Html(f"<{element}{text}>{join(children)}</{element}>{end}")


def table(
    header: Sequence[Any], rows: Sequence[Sequence[Any]],
    classes: Sequence[str | None] = ()
) -> Html:
  """A table whose first column names the rows.

  Args:
    header: a cell for each column.
    rows: cells; each is escaped unless it is Html.
    classes: of each row.
  """
  head = tag("tr", *(tag("th", cell, scope="col") for cell in header))
  body = [
      tag("tr", tag("th", row[0], scope="row"),
          *(tag("td", cell) for cell in row[1:]), class_=name)
      for row, name in zip(rows, list(classes) or [None] * len(rows))]
  return tag("div", tag("table", tag("thead", head), tag("tbody", *body)),
             class_="scroll")


def fold(summary: Any, *children: Any) -> Html:
  """What is shown on a click."""
  return tag("details", tag("summary", summary), *children)


def missing(what: Any, command: str | None = None) -> Html:
  """A line in the place of what is not there, with the command for it."""
  parts = [what] if command is None else [what, ": ", tag("code", command)]
  return tag("p", *parts, class_="missing")


def picture(
    file: os.PathLike[str], alt: str, caption: Any = None
) -> Html:
  """A picture inside the page; a line if it is none.

  Args:
    file: a PNG.
    alt: what it shows, for who can't see it.
    caption: above it.
  """
  try:
    source, width = _data_uri(file)
  except Exception as e:             # Pillow raises whatever it stumbles upon.
    return missing(f"{file} is not a picture ({type(e).__name__}): remove it "
                   "and make it again")
  image = tag("img", src=source, alt=alt, width=width)
  caption = [] if caption is None else [tag("figcaption", caption)]
  return tag("figure", *caption, tag("div", image, class_="scroll"))


def _data_uri(file: os.PathLike[str]) -> tuple[str, int]:
  """A PNG as a small data URI, and its width in pixels."""
  data = reading.content(file, _MOST_BYTES)
  with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
    if opened.width * opened.height > _MOST_PIXELS:
      raise ValueError("too many pixels")
    opened.verify()                  # Every checksum; loading skips them.
  with Image.open(io.BytesIO(data), formats=["PNG"]) as opened:
    image = opened.convert("RGB")
  if image.width > _WIDTH:
    image = image.resize(
        (_WIDTH, max(1, round(image.height * _WIDTH / image.width))),
        Image.Resampling.LANCZOS)
  buffer = io.BytesIO()
  image.save(buffer, "WEBP", lossless=True, quality=60)
  if buffer.tell() > _LOSSLESS:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
  text = base64.b64encode(buffer.getvalue()).decode("ascii")
  return f"data:image/webp;base64,{text}", image.width

"""Draws rows of panels under headings that say what they show."""

import dataclasses
import itertools
import pathlib
import textwrap
from typing import TYPE_CHECKING, Any, Sequence

from etils import epy
import numpy as np

from mtvit.pictures import plots

with epy.lazy_imports():
  from matplotlib import collections as mpl_collections
  from matplotlib import figure as mpl_figure
  from matplotlib import patches as mpl_patches

if TYPE_CHECKING:
  from matplotlib import axes as mpl_axes
  from mtvit.tasks import picture

# Inches.
SMALL, LARGE = 1.75, 2.3       # Side of a panel, of a small and a large view.
GAP, MARGIN = 0.08, 0.1
LINE, TITLE = 0.155, 0.26      # Height of a line of text, and of a heading.
WIDTH = 14.8                   # Of a picture; sections then wrap.
_LETTER = 0.061                # Width of a letter, on average.


@dataclasses.dataclass(frozen=True)
class Section:
  """Rows of panels that belong together.

  Attributes:
    heading: above them.
    caption: below it, in plain words.
    rows: of panels; a title that a whole column shares is written once.
  """
  heading: str
  caption: str
  rows: "Sequence[Sequence[picture.Panel]]"


@dataclasses.dataclass(frozen=True)
class _Block:
  """A section with its size.

  Attributes:
    section: it.
    side: of a panel, inches.
    least: of its width, inches.
  """
  section: Section
  side: float
  least: float

  @property
  def columns(self) -> int:
    return max(len(row) for row in self.section.rows)

  @property
  def width(self) -> float:
    return max(self.least, self.columns * (self.side + GAP))

  @property
  def caption(self) -> list[str]:
    return textwrap.wrap(
        self.section.caption, max(20, int(self.width / _LETTER)))

  @property
  def shared(self) -> list[str]:
    """The title of each column, "" where rows have their own."""
    titles = [{row[i].title for row in self.section.rows if i < len(row)}
              for i in range(self.columns)]
    return [t.pop() if len(t) == 1 else "" for t in titles]

  def titles(self, row: "Sequence[picture.Panel]") -> list[str]:
    """Those that a row has of its own."""
    return ["" if shared else panel.title
            for panel, shared in zip(row, self.shared)]

  def lines(self, titles: Sequence[str]) -> list[list[str]]:
    """Titles as lines that are no wider than a panel."""
    width = int(self.side / _LETTER)
    return [[line for part in title.split("\n")
             for line in textwrap.wrap(part, width)] for title in titles]

  @property
  def heights(self) -> list[float]:
    """Of what stands above the rows, and of the titles of each row."""
    tall = lambda titles: LINE * max(map(len, self.lines(titles)), default=0)
    return [TITLE * bool(self.section.heading) + LINE * len(self.caption)
            + tall(self.shared) + GAP / 2,
            *(tall(self.titles(row)) for row in self.section.rows)]


def save(
    sections: Sequence[Section], patch_size: int, file: pathlib.Path,
    least: float = 2 * SMALL
) -> None:
  """Writes a PNG of sections, side by side as long as there is room.

  Args:
    sections: with a row of panels at least.
    patch_size: p, pixels.
    file: the PNG.
    least: width of a section, inches, such as its caption needs.
  """
  views = [panel.image for s in sections for row in s.rows for panel in row]
  side = SMALL if max(len(view) for view in views) <= 96 else LARGE
  lines: list[list[_Block]] = [[]]
  for section in sections:
    block = _Block(section, side, least)
    if lines[-1] and WIDTH < block.width + sum(
        other.width + MARGIN for other in lines[-1]):
      lines.append([])
    lines[-1].append(block)
  # Rows that are side by side are as high as each other.
  heights = [[max(row) for row in itertools.zip_longest(
      *(block.heights for block in line), fillvalue=0.0)] for line in lines]
  size = (MARGIN + max(
      sum(block.width + MARGIN for block in line) for line in lines),
      MARGIN + sum(sum(h) + (len(h) - 1) * (side + GAP) + GAP for h in heights))
  # One pair of axes, in inches: a picture takes a third of the time of one
  # with axes for each panel.
  figure = mpl_figure.Figure(figsize=size)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.axis("off")
  y = MARGIN
  for line, its in zip(lines, heights):
    x = MARGIN
    for block in line:
      _draw_block(axes, block, x, y, its, patch_size)
      x += block.width + MARGIN
    y += sum(its) + (len(its) - 1) * (side + GAP) + GAP
  axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
  plots.save(figure, file)


def _draw_block(
    axes: "mpl_axes.Axes", block: _Block, left: float, top: float,
    heights: Sequence[float], patch_size: int
) -> None:
  """Draws a section at (left, top); `heights` are those of its texts."""
  y = top
  if block.section.heading:
    axes.text(left, y, block.section.heading, va="top", fontsize=10,
              weight="bold")
    y += TITLE
  for line in block.caption:
    axes.text(left, y, line, color="0.3", va="top", fontsize=8)
    y += LINE
  places = [left + i * (block.side + GAP) for i in range(block.columns)]
  marks = _Marks(patch_size)
  bottom = top + heights[0]
  _draw_titles(axes, block.lines(block.shared), places, bottom)
  for row, height in zip(block.section.rows, heights[1:]):
    bottom += height
    _draw_titles(axes, block.lines(block.titles(row)), places, bottom)
    for x, panel in zip(places, row):
      axes.imshow(
          panel.image, extent=(x, x + block.side, bottom + block.side, bottom),
          interpolation="antialiased", aspect="auto")
      marks.add(panel, x, bottom, block.side)
    bottom += block.side + GAP
  marks.draw(axes)


def _draw_titles(
    axes: "mpl_axes.Axes", titles: Sequence[Sequence[str]],
    places: Sequence[float], bottom: float
) -> None:
  """Titles, as lines, right above the panels at these places."""
  for x, lines in zip(places, titles):
    for i, line in enumerate(reversed(lines)):
      axes.text(x, bottom - i * LINE - 0.03, line.replace("$", r"\$"),
                va="bottom", fontsize=8)


class _Marks:
  """Frames and arrows of many panels, drawn at once."""

  def __init__(self, patch_size: int):
    self._patch_size = patch_size
    self._side = 0.0
    self._frames: list[tuple[Any, str]] = []
    self._arrows: list[tuple[float, float, float, float, str]] = []

  def add(
      self, panel: "picture.Panel", x: float, y: float, side: float
  ) -> None:
    """Takes those of a panel at (x, y) with sides of this length."""
    columns = panel.image.shape[1] // self._patch_size
    p = self._side = side * self._patch_size / panel.image.shape[1]
    corner = lambda i: (x + i % columns * p, y + i // columns * p)
    for i, color in panel.boxes:
      left, top = corner(i)
      inset = 0.006            # Neighbours' frames are side by side.
      self._frames.append((mpl_patches.Rectangle(
          (left + inset, top + inset), p - 2 * inset, p - 2 * inset), color))
    for i, (dy, dx), color in panel.arrows:
      left, top = corner(i)
      length = 0.72 * p / max(1, np.hypot(dx, dy))
      self._arrows.append((
          left + p / 2 - dx * length / 2, top + p / 2 - dy * length / 2,
          dx * length, dy * length, color))

  def draw(self, axes: "mpl_axes.Axes") -> None:
    """With dark edges, so that they are seen on any view."""
    shapes, colors = map(list, zip(*self._frames) if self._frames else ((), ()))
    for color, width in (("black", 2.4), (colors, 1.2)):
      axes.add_collection(mpl_collections.PatchCollection(
          shapes, facecolor="none", edgecolor=color, linewidth=width, zorder=3),
          autolim=False)
    if self._arrows:
      x, y, dx, dy, arrow_colors = zip(*self._arrows)
      axes.quiver(
          x, y, dx, dy, color=arrow_colors, angles="xy", scale_units="xy",
          scale=1, units="inches", width=min(0.028, 0.1 * self._side),
          headwidth=4.5, headlength=4, headaxislength=4, edgecolor="black",
          linewidth=0.5, zorder=4)

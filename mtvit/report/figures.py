"""Small plots, a file each, so that they stand side by side or in a column."""

from typing import Sequence

from mtvit.pictures import plots
from mtvit.report import markup
from mtvit.report import runs as runs_lib


def grid(
    book: runs_lib.Book, name: str, panels: Sequence[plots.Panel],
    names: Sequence[str], x_label: str
) -> markup.Html:
  """Draws the panels; each has a legend if it has more than one line.

  Args:
    book: whose drawings they are.
    name: of the files, which are numbered.
    panels: to draw; line i is of run i, and line i + n of its random init.
    names: of the n runs.
    x_label: of all.
  """
  alone = len(names) == 1
  lines = [plots.Line("trained" if alone else x, i)
           for i, x in enumerate(names)]
  lines += [plots.Line("random init" if alone else f"{x}, random init", i, True)
            for i, x in enumerate(names)]
  parts = []
  for i, panel in enumerate([x for x in panels if x[1]], 1):
    file = book.drawing(f"{name}_{i}")
    plots.save_lines([panel], lines, x_label, file, columns=1)
    parts.append(markup.picture(file, panel[0]))
  return markup.tag("div", *parts, class_="plots")

"""Differences of settings with their intervals, beside a margin."""

import pathlib
from typing import NamedTuple, Sequence

from etils import epy

from mtvit.pictures import plots

with epy.lazy_imports():
  from matplotlib import figure as mpl_figure


class Effect(NamedTuple):
  """A difference.

  Attributes:
    name: what is compared; effects of one name share a line.
    measure: in what; each has a colour.
    mean: of the differences.
    low: end of its interval; nan for none.
    high: its other end.
    values: of each seed.
  """
  name: str
  measure: str
  mean: float
  low: float
  high: float
  values: Sequence[float] = ()


def save(
    effects: Sequence[Effect], margin: float, x_label: str, file: pathlib.Path
) -> None:
  """Draws a line for each name, the first on top; seeds are small points.

  Args:
    effects: what is drawn.
    margin: gray from minus it to it.
    x_label: below.
    file: the PNG.
  """
  names = list(dict.fromkeys(x.name for x in effects))
  measures = list(dict.fromkeys(x.measure for x in effects))
  figure = mpl_figure.Figure(
      figsize=(7, 0.9 + 0.14 * len(names) * (1 + len(measures))),
      layout="constrained")
  axes = figure.subplots()
  axes.axvspan(-margin, margin, color="#e8ebef", lw=0)
  axes.axvline(0, color="#888888", lw=0.8)
  for effect in effects:
    i = measures.index(effect.measure)
    y = names.index(effect.name) + (i + 1) / (len(measures) + 1) - 0.5
    color = plots.color(i)
    axes.plot([effect.low, effect.high], [y, y], color=color, lw=1.5)
    axes.plot(effect.mean, y, "o", color=color, ms=6,
              label=None if effect.name != names[0] else plots.label(
                  effect.measure))
    axes.plot(effect.values, [y] * len(effect.values), "o", ms=3.5,
              color="white", mec=color, mew=0.8)
  axes.set_yticks(range(len(names)),
                  [plots.label(x, 60) for x in names], fontsize=8)
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_xlabel(x_label, fontsize=8)
  axes.tick_params(labelsize=8)
  axes.grid(axis="x", alpha=0.3)
  if len(measures) > 1:
    axes.legend(fontsize=8, loc="best")
  plots.save(figure, file)

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
    name: what is compared.
    mean: of the differences.
    low: end of its interval; nan for none.
    high: its other end.
    values: of each seed.
  """
  name: str
  mean: float
  low: float
  high: float
  values: Sequence[float] = ()


def save(
    effects: Sequence[Effect], margin: float, x_label: str, file: pathlib.Path
) -> None:
  """Draws a line for each effect, the first on top; seeds are faint points.

  Args:
    effects: what is drawn.
    margin: gray from minus it to it.
    x_label: below.
    file: the PNG.
  """
  figure = mpl_figure.Figure(
      figsize=(7, 0.9 + 0.27 * len(effects)), layout="constrained")
  axes = figure.subplots()
  axes.axvspan(-margin, margin, color="#e8ebef", lw=0)
  axes.axvline(0, color="#888888", lw=0.8)
  for i, effect in enumerate(effects):
    axes.plot(effect.values, [i] * len(effect.values), "o", ms=3, alpha=0.35,
              color=plots.color(7), mew=0)
    axes.plot([effect.low, effect.high], [i, i], color=plots.color(0), lw=2)
    axes.plot(effect.mean, i, "o", color=plots.color(0), ms=5)
  axes.set_yticks(range(len(effects)),
                  [plots.label(x.name, 60) for x in effects], fontsize=8)
  axes.set_ylim(len(effects) - 0.5, -0.5)
  axes.set_xlabel(x_label, fontsize=8)
  axes.tick_params(labelsize=8)
  axes.grid(axis="x", alpha=0.3)
  plots.save(figure, file)

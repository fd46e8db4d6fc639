"""How a run went over its steps, and first of all whether it is any good.

Each line is named at its right end, outside the axes, so that nothing covers a
curve. What never changes is left out; so are losses, since a task's skill is
its loss on a scale that all tasks share.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from etils import epy
import numpy as np

from mtvit.pictures import plots

with epy.lazy_imports():
  from matplotlib import figure as mpl_figure

if TYPE_CHECKING:
  from matplotlib import axes as mpl_axes

Points = list[tuple[float, float]]

# What says how good the features are, and what the plot calls it.
SCORES = {
    "knn/accuracy": "Is it good? kNN accuracy on test images",
    "retrieval/top1": "Is it good? Finds another view of the same image",
}
# Group of metrics -> its title, in the order of the plots; others follow.
TITLES = {
    "skill": "Skills of the tasks (0: always the same answer, 1: perfect)",
    "heldout": "skills on held-out images",
    "test_accuracy": "accuracy on test images",
    "knn": "kNN accuracy of each readout",
    "retrieval": "retrieval by each readout",
    "rankme": "RankMe: dimensions that features use",
    "accuracy": "accuracy of the tasks",
    "skill_local": "skill beside the neighbours' mean colour",
    "features": "spread of the features in a batch",
    "train/learning_rate": "learning rate",
    "train/grad_norm": "norm of the gradient",
    "train/images_per_second": "images a second",
    "train/data_wait": "share of the time that waits for data",
}
_RANDOM = "_random_init"
_BELOW = -0.3                  # Skills are drawn from here on.
_WIDTH = 12.0                  # Of the picture, inches.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
  """One of the plots.

  Attributes:
    title: above it.
    lines: name -> points (step, value).
    levels: name -> value, dashed.
    least: where the values begin at the lowest; None for wherever they do.
  """
  title: str
  lines: Mapping[str, Points]
  levels: Mapping[str, float] = dataclasses.field(default_factory=dict)
  least: float | None = None


def save_curves(
    lines: Sequence[Mapping[str, float]], file: pathlib.Path
) -> None:
  """Draws what changes over a run's steps.

  Args:
    lines: of `metrics.read`.
    file: the PNG.
  """
  plots.save(draw(plots_of(lines)), file)


def plots_of(lines: Sequence[Mapping[str, float]]) -> list[Plot]:
  """The plots of a run; the first two say whether it is good, and learns."""
  series: dict[str, Points] = {}
  for line in lines:
    for key, value in line.items():
      if key != "step":
        series.setdefault(key, []).append((line["step"], value))
  scores = [_score(key, series) for key in SCORES if key in series]
  tasks = {key.partition("/")[0] for key in series
           if key.count("/") == 1 and key.endswith("/skill")}
  groups: dict[str, dict[str, Points]] = {}
  for key in sorted(series):
    group, name = _place(key, tasks)
    points = series[key]
    # A run that has reported once shows its skills all the same.
    few = group == "skill" and len(points) == 1
    if group and (few or len({y for _, y in points}) > 1):
      groups.setdefault(group, {})[name] = points
  order = [*TITLES, *groups]
  return scores + [
      Plot(title=_title(group, list(groups[group])), lines=groups[group],
           **_skills_only(group))
      for group in sorted(groups, key=order.index)]


def _title(group: str, names: Sequence[str]) -> str:
  alone = f"{names[0]}: " if len(names) == 1 and names[0] else ""
  return TITLES.get(group, alone + group.replace("_", " "))


def _skills_only(group: str) -> dict[str, Any]:
  return dict(levels={"no skill": 0.0}, least=_BELOW) if group in (
      "skill", "heldout") else {}


def _place(key: str, tasks: set[str]) -> tuple[str, str]:
  """The group of a metric and its name there; no group if it is left out."""
  first, _, rest = key.partition("/")
  if (first == "gradients" or key.endswith((_RANDOM, "/chance"))
      or key == "train/loss" or key in SCORES):
    return "", ""              # Or it has a picture or a plot of its own.
  if first in tasks:           # Those of all tasks together, metric by metric.
    return ("", "") if rest == "loss" else (rest, first)
  if first == "train":
    return key, ""
  return first, rest.removesuffix("/skill")


def _score(key: str, series: Mapping[str, Points]) -> Plot:
  """How good the features are, beside what random init gives.

  The end may look at other images than the looks before. It is no part of the
  curve then, and has a random init of its own.
  """
  points, ends = series[key], series.get(key + _RANDOM)
  random = ends[-1][1] if ends else None
  start = points[0][1] if points[0][0] == 0 else None
  if random is None:
    levels = {} if start is None else {"at step 0": start}
  elif start is None or start == random or len(points) < 2:
    levels = {"random init": random}
  else:
    levels = {"at step 0": start, "random init, at the end": random}
    return Plot(title=SCORES[key], levels=levels, lines={
        "trained": points[:-1], "trained, at the end": points[-1:]})
  return Plot(title=SCORES[key], lines={"trained": points}, levels=levels)


def draw(found: Sequence[Plot]) -> "mpl_figure.Figure":
  """Two large plots in the first row, and three small ones in the others."""
  rows = [found[:2], *(found[i:i + 3] for i in range(2, len(found), 3))]
  heights = [3.9, *[2.3] * (len(rows) - 1)]
  figure = mpl_figure.Figure(figsize=(_WIDTH, sum(heights)))
  top, colors = sum(heights), _colors(found)
  for row, height, columns in zip(rows, heights, [2, *[3] * len(rows)]):
    top -= height
    large = columns == 2
    cell = _WIDTH / columns
    left, right = (0.6, 1.75) if large else (0.55, 1.3)
    for i, plot in enumerate(row):
      axes = figure.add_axes((
          (i * cell + left) / _WIDTH, (top + 0.45) / sum(heights),
          (cell - left - right) / _WIDTH, (height - 0.85) / sum(heights)))
      _draw_plot(axes, plot, colors, size=8.5 if large else 7)
  return figure


def _colors(found: Sequence[Plot]) -> dict[str, Any]:
  """A colour for each name: the same in all plots, and another in each."""
  numbers: dict[str, int] = {}
  for plot in found:
    free = set(range(len(numbers) + len(plot.lines))) - {
        numbers.get(name) for name in plot.lines}
    for name in plot.lines:
      if name not in numbers:
        numbers[name] = min(free)
        free.remove(numbers[name])
  return {name: plots.color(i) for name, i in numbers.items()}


def _draw_plot(
    axes: "mpl_axes.Axes", plot: Plot, colors: Mapping[str, Any], size: float
) -> None:
  axes.set_title(plots.label(plot.title, 64), fontsize=size + 0.5, loc="left")
  axes.set_xlabel("step", fontsize=size - 1, labelpad=1)
  axes.tick_params(labelsize=size - 1)
  axes.grid(alpha=0.3)
  ends = []
  for name, points in plot.lines.items():
    axes.plot(*zip(*points), color=colors[name], lw=1.4,
              marker="." if len(points) < 20 else None)
    ends.append((name, points[-1][1], colors[name]))
  for name, value in plot.levels.items():
    axes.axhline(value, color="0.35", lw=1.2, ls="--")
    ends.append((name, value, "0.35"))
  steps = [step for points in plot.lines.values() for step, _ in points]
  if min(steps) < max(steps):
    axes.set_xlim(min(min(steps), 0), max(steps))
  low, high = axes.get_ylim()
  if plot.least is not None and low < plot.least < high:
    axes.set_ylim(bottom=plot.least)
  _name_lines(axes, ends, size)


def _name_lines(
    axes: "mpl_axes.Axes", ends: Sequence[tuple[str, float, Any]], size: float
) -> None:
  """Writes names and last values to the right of the axes, none on another."""
  height = axes.get_window_extent().height * 72 / axes.figure.dpi  # Points.
  low, high = axes.get_ylim()
  wanted = [min(max((y - low) / (high - low), 0), 1) for _, y, _ in ends]
  for (name, y, color), at, place in zip(
      ends, wanted, spread(wanted, 1.25 * size / height)):
    axes.plot([1, 1.015, 1.045], [at, at, place], color=color, lw=0.8,
              transform=axes.transAxes, clip_on=False)
    value = f"{y:.3f}" if y == 0 or 5e-4 <= abs(y) < 10 else f"{y:.3g}"
    axes.annotate(
        f"{plots.label(name, 24)} {value}".strip(), (1.06, place), color=color,
        xycoords="axes fraction", va="center", fontsize=size)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
  """Places near those wanted in 0 .. 1, at least `gap` apart where it can be.

  Args:
    wanted: n places in 0 .. 1.
    gap: between two neighbours; less, if n do not fit.
  """
  gap = min(gap, 1 / max(1, len(wanted) - 1))
  order = np.argsort(wanted, kind="stable")
  places = np.array(wanted, float)[order]
  for i in range(1, len(places)):
    places[i] = max(places[i], places[i - 1] + gap)
  most = 1.0
  for i in reversed(range(len(places))):
    places[i] = min(places[i], most)
    most = places[i] - gap
  found = np.empty(len(places))
  found[order] = places
  return found.tolist()

"""Pictures: what the model sees, what it predicts, and how the losses went."""

import pathlib
from typing import Any, Mapping, Sequence

import jax
import numpy as np
from etils import epy

with epy.lazy_imports():
  from matplotlib import figure as mpl_figure
  from matplotlib import patches as mpl_patches


def _row(tree: Any, i: int) -> Any:
  return jax.tree.map(lambda x: np.asarray(x[i]), tree)


def view_panels(
    batch: Mapping[str, Any], predicted: Mapping[str, np.ndarray] | None,
    task: Any, view: int
) -> list[Any]:
  """A task's panels of one view of a corrupted batch, in numpy."""
  queries = _row(batch["queries"].get(task.name, {}), view)
  answers = _row(batch["answers"].get(task.name, {}), view)
  guess = None
  if predicted is not None and task.name in predicted:
    guess = np.asarray(predicted[task.name][view])
  return task.panels(np.asarray(batch["image"][view]), queries, answers, guess)


def draw_panel(axes: Any, panel: Any, patch_size: int) -> None:
  """Draws an image with its boxes, arrows and labels."""
  axes.imshow(panel.image, interpolation="nearest")
  axes.set_title(panel.title, fontsize=8)
  axes.axis("off")
  columns = panel.image.shape[1] // patch_size
  corner = lambda i: np.array(
      [i % columns, i // columns], float) * patch_size - 0.5
  middle = lambda i: corner(i) + patch_size / 2
  for i, color in panel.boxes:
    axes.add_patch(mpl_patches.Rectangle(
        corner(i), patch_size, patch_size, fill=False, color=color, lw=1))
  for i, (dy, dx), color in panel.arrows:
    axes.annotate(
        "", xy=middle(i) + 0.8 * patch_size * np.array([dx, dy]),
        xytext=middle(i),
        arrowprops=dict(arrowstyle="-|>", color=color, lw=1.5))
  for i, color, text in panel.labels:
    axes.annotate(
        text, corner(i) + 1, color=color, fontsize=8, ha="left", va="top",
        weight="bold")


def save_grid(
    rows: Sequence[Sequence[Any]], patch_size: int, file: pathlib.Path
) -> None:
  """Writes a PNG with a row of panels for each view."""
  columns = max(len(row) for row in rows)
  figure = mpl_figure.Figure(
      figsize=(2.2 * columns, 2.4 * len(rows)), layout="constrained")
  grid = figure.subplots(len(rows), columns, squeeze=False)
  for line, row in zip(grid, rows):
    for axes in line:
      axes.axis("off")
    for axes, panel in zip(line, row):
      draw_panel(axes, panel, patch_size)
  _save(figure, file)


def save_predictions(
    batch: Mapping[str, Any], predicted: Mapping[str, np.ndarray],
    tasks: Sequence[Any], patch_size: int, folder: pathlib.Path,
    num_views: int = 6
) -> list[pathlib.Path]:
  """Writes `<task>.png`: input, prediction and truth of some views."""
  files = []
  for task in tasks:
    rows = [view_panels(batch, predicted, task, view)
            for view in range(min(num_views, len(batch["image"])))]
    if any(rows):
      files.append(folder / f"{task.name}.png")
      save_grid(rows, patch_size, files[-1])
  return files


def save_curves(lines: Sequence[Mapping[str, float]],
                file: pathlib.Path) -> None:
  """Draws every metric of metrics.jsonl over the steps, one group a plot.

  Args:
    lines: of `metrics.read`.
    file: the PNG.
  """
  groups: dict[str, list[str]] = {}
  for key in sorted({key for line in lines for key in line} - {"step"}):
    task, _, metric = key.partition("/")
    # A task's losses, and its shares of 1, are read on different scales.
    group = task
    if task not in ("train", "knn", "features"):
      group += "/loss" if "loss" in metric or "error" in metric else "/shares"
    elif task == "train":
      group = key
    groups.setdefault(group, []).append(key)
  columns = 3
  rows = max(1, -(-len(groups) // columns))
  figure = mpl_figure.Figure(
      figsize=(4 * columns, 2.6 * rows), layout="constrained")
  grid = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axes in grid:
    axes.axis("off")
  for axes, (group, keys) in zip(grid, groups.items()):
    axes.axis("on")
    axes.set_title(group, fontsize=9)
    for key in keys:
      points = [(line["step"], line[key]) for line in lines if key in line]
      axes.plot(*zip(*points), label=key.partition("/")[2], lw=1,
                marker="." if len(points) < 20 else None)
    axes.legend(fontsize=6)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
  _save(figure, file)


def _save(figure: Any, file: pathlib.Path) -> None:
  file.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(file, dpi=110)

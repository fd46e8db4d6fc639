"""Pictures: what the model sees, and what it predicts."""

import pathlib
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np
from etils import epy

from mtvit.diagnostics import gradients
from mtvit.models import pretrainer
from mtvit.pictures import plots

with epy.lazy_imports():
  from matplotlib import figure as mpl_figure
  from matplotlib import patches as mpl_patches

if TYPE_CHECKING:
  from matplotlib import axes as mpl_axes
  from mtvit.tasks import base
  from mtvit.tasks import picture


def task_rows(
    batch: Mapping[str, Any], predicted: Mapping[str, Any] | None,
    task: "base.Task", limit: int
) -> "list[list[picture.Panel]]":
  """A task's rows of panels of a corrupted batch, in numpy."""
  views = batch["passes"].get(
      pretrainer.pass_of(task.name, batch["passes"]))
  if views is None:
    return []              # It has no loss, and shares its pass with nothing.
  return task.rows(
      np.asarray(views["image"]), batch["queries"].get(task.name, {}),
      batch["answers"].get(task.name, {}),
      None if predicted is None else predicted.get(task.name), limit)


def draw_panel(
    axes: "mpl_axes.Axes", panel: "picture.Panel", patch_size: int
) -> None:
  """Draws an image with its boxes, arrows and labels."""
  axes.imshow(panel.image, interpolation="nearest")
  axes.set_title(panel.title, fontsize=8)
  axes.axis("off")
  columns = panel.image.shape[1] // patch_size
  corner = lambda i: np.array(
      [i % columns, i // columns], float) * patch_size - 0.5
  middle = lambda i, shift=0.0: tuple(corner(i) + patch_size / 2 + shift)
  for i, color in panel.boxes:
    axes.add_patch(mpl_patches.Rectangle(
        corner(i).tolist(), patch_size, patch_size, fill=False, color=color,
        lw=1))
  for i, (dy, dx), color in panel.arrows:
    axes.annotate(
        "", xy=middle(i, 0.8 * patch_size * np.array([dx, dy])),
        xytext=middle(i),
        arrowprops=dict(arrowstyle="-|>", color=color, lw=1.5))
  for i, color, text in panel.labels:
    axes.annotate(
        text, tuple(corner(i) + 1), color=color, fontsize=8, ha="left",
        va="top", weight="bold")


def save_grid(
    rows: "Sequence[Sequence[picture.Panel]]", patch_size: int,
    file: pathlib.Path
) -> None:
  """Writes a PNG with a row of panels for each view."""
  columns = max(len(row) for row in rows)
  lines = 1 + max(panel.title.count("\n") for row in rows for panel in row)
  figure, grid = _subplots(
      len(rows), columns, panel=(2.1, 2.1),
      margins=(0.05, 0.05, 0.1 + 0.15 * lines))
  for line, row in zip(grid, rows):
    for axes in line:
      axes.axis("off")
    for axes, panel in zip(line, row):
      draw_panel(axes, panel, patch_size)
  plots.save(figure, file)


def save_predictions(
    batch: Mapping[str, Any], predicted: Mapping[str, np.ndarray],
    tasks: "Sequence[base.Task]", patch_size: int, folder: pathlib.Path,
    num_views: int = 6
) -> list[pathlib.Path]:
  """Writes `<task>.png`: input, prediction and truth of some views."""
  files = []
  for task in tasks:
    rows = task_rows(batch, predicted, task, num_views)
    if rows:
      files.append(folder / f"{task.name}.png")
      save_grid(rows, patch_size, files[-1])
  return files


def save_gradients(
    lines: Sequence[Mapping[str, float]], file: pathlib.Path
) -> list[pathlib.Path]:
  """Draws gradient cosines between tasks by layer group, as heat maps.

  The number under a task's name is the norm of its gradient. Averages over the
  run.

  Args:
    lines: of `metrics.read`.
    file: the PNG.

  Returns:
    The file, if the run looked at its gradients.
  """
  tables = {group: gradients.table(lines, group) for group in gradients.GROUPS}
  if not tables["all"].tasks:
    return []
  figure = mpl_figure.Figure(
      figsize=(4.2 * len(tables), 4.4), layout="constrained")
  grid = figure.subplots(1, len(tables), squeeze=False)[0]
  for axes, (group, (names, norms, cosines)) in zip(grid, tables.items()):
    image = axes.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_title(f"gradient cosines · {group}", fontsize=9)
    names = [plots.label(name) for name in names]
    labels = [f"{a}\n|g| {x:.2g}" for a, x in zip(names, norms)]
    axes.set_xticks(range(len(names)), labels, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for (i, j), x in np.ndenumerate(cosines):
      axes.text(j, i, f"{x:.2f}", ha="center", va="center", fontsize=6,
                color="white" if abs(x) > 0.6 else "black")
  figure.colorbar(image, ax=grid[-1], fraction=0.04)
  plots.save(figure, file)
  return [file]


def _subplots(
    rows: int, columns: int, panel: tuple[float, float],
    margins: tuple[float, float, float]
) -> tuple[Any, np.ndarray]:
  """A figure, and its axes [rows, columns] of one size.

  Matplotlib's constrained layout measures every text: a picture takes two to
  three times as long with it.

  Args:
    rows: of panels.
    columns: of panels.
    panel: width and height of each, inches.
    margins: to the left of, below and above each, inches.
  """
  (width, height), (left, below, above) = panel, margins
  size = columns * (left + width) + 0.1, rows * (below + height + above)
  figure = mpl_figure.Figure(figsize=size)
  grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=dict(
      left=left / size[0], right=1 - 0.1 / size[0], bottom=below / size[1],
      top=1 - above / size[1], wspace=left / width,
      hspace=(below + above) / height))
  return figure, grid

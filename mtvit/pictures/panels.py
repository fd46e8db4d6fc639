"""Pictures of tasks: what the model sees, and what it predicts."""

import pathlib
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

import jax
import numpy as np
from etils import epy

from mtvit.diagnostics import gradients
from mtvit.models import pretrainer
from mtvit.pictures import grid
from mtvit.pictures import plots

with epy.lazy_imports():
  from matplotlib import figure as mpl_figure

if TYPE_CHECKING:
  from mtvit.tasks import base
  from mtvit.tasks import picture

GROUPS = gradients.GROUPS       # Of layers.
PALE = "Pale, crossed-out patches are those that other tasks have changed."
CHANGED = ("Patches that are gray, blank or out of place are those that other "
           "tasks have changed.")
_PAPER, _SHOWS, _LINE = 225, 0.4, 120    # Its gray, what is left, the line's.
_CAPTION = 5.5                 # Least width of a caption, inches.


def task_rows(
    batch: Mapping[str, Any], predicted: Mapping[str, Any] | None,
    task: "base.Task", limit: int, views: np.ndarray | None = None
) -> "list[list[picture.Panel]]":
  """A task's rows of panels, each of another image.

  Args:
    batch: corrupted, in numpy.
    predicted: what the heads say, by task; None for no predictions.
    task: whose rows.
    limit: rows, at most.
    views: uint8 [b, h, w, 3], to be shown as the task's; None for those that
      the model sees.
  """
  views = _views(batch, task) if views is None else views
  if views is None:
    return []              # It has no loss, and shares its pass with nothing.
  return task.rows(
      views, batch["queries"].get(task.name, {}),
      batch["answers"].get(task.name, {}),
      None if predicted is None else predicted.get(task.name), limit)


def _views(
    batch: Mapping[str, Any], task: "base.Task"
) -> np.ndarray | None:
  """A task's views [b, h, w, 3] as the model sees them, if there are any."""
  views = batch["passes"].get(pretrainer.pass_of(task.name, batch["passes"]))
  return None if views is None else np.asarray(views["image"])


class Shown(NamedTuple):
  """The views of a task as its picture shows them.

  Attributes:
    views: uint8 [b, h, w, 3].
    note: what is said of patches that other tasks have changed.
  """
  views: np.ndarray
  note: str = ""


def shown(
    batch: Mapping[str, Any], tasks: "Sequence[base.Task]"
) -> dict[str, Shown]:
  """The views of each task; what others have changed is pale.

  A task of whole views has them as the model sees them; one that sees nothing
  is left out.
  """
  seen = {task.name: _views(batch, task) for task in tasks}
  found = {name: Shown(views) for name, views in seen.items()
           if views is not None}
  shared = [task for task in tasks
            if task.name in found and task.name not in batch["passes"]]
  marked = {task.name: framed(batch, task) for task in shared}
  for task in shared:
    views = found[task.name].views
    others = [where for name, where in marked.items()
              if name != task.name and where.any()]
    if others and marked[task.name].any():
      found[task.name] = Shown(pale(
          views, np.any(others, axis=0), task.geometry.patch_size), PALE)
    elif others:
      found[task.name] = Shown(views, CHANGED)
  return found


def framed(batch: Mapping[str, Any], task: "base.Task") -> np.ndarray:
  """The patches that a task frames in its pictures, its own: bool [b, n]."""
  views = _views(batch, task)
  assert views is not None
  gh, gw = task.geometry.grid
  found = np.zeros((len(views), gh * gw), bool)
  fields = [batch[part].get(task.name, {}) for part in ("queries", "answers")]
  for i, view in enumerate(views):
    queries, answers = jax.tree.map(lambda x, i=i: np.asarray(x[i]), fields)
    found[i, [place for panel in task.panels(view, queries, answers, None)[:1]
              for place, _ in panel.boxes]] = True
  return found


def pale(views: np.ndarray, where: np.ndarray, p: int) -> np.ndarray:
  """Views with some patches faded and crossed out.

  Args:
    views: uint8 [b, h, w, 3].
    where: bool [b, n], patches in reading order.
    p: side of a patch, pixels.
  """
  b, h, w, _ = views.shape
  where = where.reshape(b, h // p, w // p).repeat(p, 1).repeat(p, 2)
  line = np.tile(np.eye(p, dtype=bool)[::-1], (h // p, w // p))
  faded = np.where(
      line[..., None], _LINE, _SHOWS * views + (1 - _SHOWS) * _PAPER)
  return np.where(where[..., None], faded.round().astype(np.uint8), views)


def section(
    batch: Mapping[str, Any], predicted: Mapping[str, Any] | None,
    task: "base.Task", limit: int, its: Shown, heading: str
) -> grid.Section | None:
  """A task's rows under what they show; None if it has none.

  Args:
    batch: corrupted, in numpy.
    predicted: what the heads say, by task; None for no predictions.
    task: whose rows.
    limit: rows, at most.
    its: of `shown`.
    heading: of the section.
  """
  rows = task_rows(batch, predicted, task, limit, its.views)
  caption = " ".join(filter(None, [task.shows, its.note]))
  return grid.Section(heading, caption, rows) if rows else None


def save_grid(
    rows: "Sequence[Sequence[picture.Panel]]", patch_size: int,
    file: pathlib.Path
) -> None:
  """Writes a PNG of rows of panels."""
  grid.save([grid.Section("", "", rows)], patch_size, file)


def save_predictions(
    batch: Mapping[str, Any], predicted: Mapping[str, np.ndarray],
    tasks: "Sequence[base.Task]", patch_size: int, folder: pathlib.Path,
    num_views: int = 6, when: str = ""
) -> list[pathlib.Path]:
  """Writes `<task>.png`: input, prediction and truth of some views.

  Args:
    batch: corrupted, in numpy.
    predicted: what the heads say, by task.
    tasks: of the batch.
    patch_size: p, pixels.
    folder: where the PNGs go.
    num_views: rows of each, at most.
    when: follows the task's name in the heading.
  """
  files = []
  its = shown(batch, tasks)
  for task in tasks:
    found = task.name in its and section(
        batch, predicted, task, num_views, its[task.name], task.name + when)
    if found:
      files.append(folder / f"{task.name}.png")
      grid.save([found], patch_size, files[-1], least=_CAPTION)
  return files


def save_gradients(
    lines: Sequence[Mapping[str, float]], file: pathlib.Path,
    groups: Sequence[str] = GROUPS
) -> list[pathlib.Path]:
  """Draws gradient cosines between tasks by layer group, as heat maps.

  The number under a task's name is the norm of its gradient. Averages over the
  run.

  Args:
    lines: of `metrics.read`.
    file: the PNG.
    groups: of layers, of `GROUPS`.

  Returns:
    The file, if the run looked at its gradients.
  """
  tables = {group: gradients.table(lines, group) for group in groups}
  if not all(table.tasks for table in tables.values()):
    return []
  figure = mpl_figure.Figure(
      figsize=((4.2 if len(tables) > 1 else 4.9) * len(tables), 4.4),
      layout="constrained")
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

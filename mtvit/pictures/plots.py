"""Pictures of an encoder: layers, positions, attention, nearest neighbours.

They show what an evaluation measured; `panels` shows what a run trained on.
"""

import pathlib
import warnings
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

import numpy as np
from etils import epy

from mtvit import errors
from mtvit.probes import knn
from mtvit.run import files as files_lib

with epy.lazy_imports():
  from matplotlib import cm
  from matplotlib import figure as mpl_figure
  from matplotlib import ticker

if TYPE_CHECKING:
  from matplotlib import axes as mpl_axes

# Key of a layer's diagnostics -> what the plot calls it.
MEASURES = {
    "cosine": "cosine of two patches",
    "cosine_centred": "cosine, centred",
    "effective_rank": "effective rank",
    "residual_share": "residual share",
    "image_share": "image share",
    "position_share": "position share",
    "attention_entropy": "attention entropy (1: uniform)",
    "attention_distance": "attention distance (patches)",
}
MAPS = 7                    # Similarity maps in a row and in a column, at most.
RIGHT, WRONG = "#2a9d3a", "#d1352b"
_UNKNOWN = "#555555"


class Neighbours(NamedTuple):
  """The nearest training rows of each test row, the nearest first.

  Attributes:
    ids: int [m, k].
    cosines: float32 [m, k].
  """
  ids: np.ndarray
  cosines: np.ndarray


def neighbours(train: np.ndarray, test: np.ndarray, k: int) -> Neighbours:
  """Finds the k rows of `train` with the largest cosine to each of `test`.

  Args:
    train: [n, d] features.
    test: [m, d].
    k: neighbours; at most n are found.
  """
  unit = knn.normalised
  cosines = np.asarray(unit(test) @ unit(train).T, np.float32)      # [m, n]
  ids = np.argsort(-cosines, axis=-1, kind="stable")[:, :k]         # [m, k]
  return Neighbours(ids, np.take_along_axis(cosines, ids, axis=-1))


def label(text: Any, limit: int = 40) -> str:
  """Any string as matplotlib shows it as it is: one line, no TeX, not long."""
  text = errors.printable(" ".join(str(text).split()))
  text = text if len(text) <= limit else text[:limit - 1] + "…"
  return text.replace("$", r"\$")


def color(i: int) -> Any:
  """The colour of the i-th run in every plot."""
  return cm.tab10(i % 10) if i < 10 else cm.tab20b(i % 20)


def save_layers(
    trained: Sequence[Mapping[str, Any]],
    random_init: Sequence[Mapping[str, Any]], file: pathlib.Path
) -> None:
  """Draws each measure of `MEASURES` over the layers.

  Args:
    trained: `diagnostics["layers"]`.
    random_init: the same of random init.
    file: the PNG.
  """
  save_lines(layer_panels([trained, random_init]), [
      Line("trained"), Line("random init", dashed=True)], "layer", file)


def layer_panels(
    layers: Sequence[Sequence[Mapping[str, Any]]]
) -> "list[Panel]":
  """A plot for each measure; one that a layer does not have is None."""
  panels: list[Panel] = []
  for key, title in MEASURES.items():
    series = {}
    for i, rows in enumerate(layers):
      points = [(row["layer"], row[key]) for row in rows
                if row.get(key) is not None]
      if points:
        series[i] = points
    panels.append((title, series))
  return panels


class Line(NamedTuple):
  """A line's name in the legend; its colour by number; whether it is dashed."""
  name: str
  color: int = 0
  dashed: bool = False


# Title, and points (x, y) by number of the line.
Panel = tuple[str, Mapping[int, Sequence[tuple[float, float]]]]


def save_lines(
    panels: Sequence[Panel], lines: Sequence[Line], x_label: str,
    file: pathlib.Path, columns: int = 4
) -> None:
  """Draws small line plots, with one legend below if there are several lines.

  Args:
    panels: the plots.
    lines: of all of them.
    x_label: of all panels.
    file: the PNG.
    columns: panels in a row.
  """
  rows = max(1, -(-len(panels) // columns))
  shown = sorted({i for _, series in panels for i in series})
  legend_columns = max(1, min(len(shown), max(2, 3 * columns // 2)))
  figure = mpl_figure.Figure(
      figsize=(3.6 * columns if columns == 1 else 3 * columns, 2.3 * rows
               + 0.22 * -(-len(shown) // legend_columns)),
      layout="constrained")
  grid = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axes in grid[len(panels):]:
    axes.axis("off")
  drawn = {}
  for axes, (title, series) in zip(grid, panels):
    axes.set_title(label(title), fontsize=9)
    axes.set_xlabel(x_label, fontsize=8)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(7, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    for i, points in series.items():
      drawn[i], = axes.plot(
          *zip(*points), color=color(lines[i].color), lw=1.3,
          ls="--" if lines[i].dashed else "-",
          marker="." if len(points) < 20 else None)
  if len(shown) > 1:
    figure.legend(
        [drawn[i] for i in shown], [label(lines[i].name) for i in shown],
        loc="outside lower center", ncols=legend_columns, fontsize=8)
  save(figure, file)


def save_positions(positions: Mapping[str, Any], file: pathlib.Path) -> None:
  """Draws how similar the position embedding of a patch is to all others.

  One map for each patch, in its place in the grid; of a large grid at most
  7 x 7 patches, evenly chosen.

  Args:
    positions: `diagnostics["positions"]`: grid, similarity [n, n], r2_row,
      r2_column, distance_correlation.
    file: the PNG.
  """
  gh, gw = positions["grid"]
  maps = np.asarray(positions["similarity"], float).reshape(gh, gw, gh, gw)
  chosen = lambda side: np.unique(
      np.linspace(0, side - 1, min(side, MAPS)).round().astype(int))
  rows, columns = chosen(gh), chosen(gw)
  figure = mpl_figure.Figure(
      figsize=(0.9 * len(columns) + 1.2, 0.9 * len(rows) + 0.9),
      layout="constrained")
  grid = figure.subplots(len(rows), len(columns), squeeze=False)
  for i, row in enumerate(rows):
    for j, column in enumerate(columns):
      image = grid[i, j].imshow(
          maps[row, column], vmin=-1, vmax=1, cmap="RdBu_r")
      grid[i, j].plot(column, row, "k.", ms=3)
      grid[i, j].set(xticks=[], yticks=[])
  figure.suptitle(
      f"R² row {positions['r2_row']:.2f}, column "
      f"{positions['r2_column']:.2f}; similarity and nearness "
      f"r = {positions['distance_correlation']:.2f}", fontsize=9)
  figure.colorbar(image, ax=grid, fraction=0.04, label="cosine")
  save(figure, file)


def save_attention(
    images: np.ndarray, attention: np.ndarray, token_names: Sequence[str],
    grid: tuple[int, int], file: pathlib.Path
) -> None:
  """Draws where each special token looks, averaged over the heads.

  A row is an image and, laid over it, one map for each token; above a map
  stands how much of the token's attention goes to patches at all.

  Args:
    images: uint8 [m, s, s, 3].
    attention: softmax weights [m, heads, t+n, t+n] of one layer; tokens first.
    token_names: of the t tokens.
    grid: patches in a column and in a row.
    file: the PNG.
  """
  t = len(token_names)
  maps = np.asarray(attention, np.float32)[:, :, :t, t:].mean(1)   # [m, t, n]
  m, side = len(images), images.shape[1]
  figure = mpl_figure.Figure(
      figsize=(1.7 * (t + 1), 1.95 * m), layout="constrained")
  axes = figure.subplots(m, t + 1, squeeze=False)
  for i in range(m):
    for column in axes[i]:
      column.imshow(images[i], interpolation="nearest")
      column.axis("off")
    for j, name in enumerate(token_names):
      axes[i, j + 1].imshow(
          maps[i, j].reshape(grid), cmap="inferno", alpha=0.65, vmin=0,
          interpolation="bilinear", extent=(-0.5, side - 0.5, side - 0.5, -0.5))
      axes[i, j + 1].set_title(
          f"[{label(name).upper()}] {maps[i, j].sum():.0%}", fontsize=8)
  save(figure, file)


def save_neighbours(
    queries: np.ndarray, found: np.ndarray, query_labels: np.ndarray,
    found_labels: np.ndarray, classes: Sequence[str], file: pathlib.Path,
    cosines: np.ndarray | None = None
) -> None:
  """Draws test images and, in a row, the training images nearest to them.

  A frame is green where the class is the query's and red where it is not, and
  gray without classes; the class and the cosine stand below.

  Args:
    queries: uint8 [m, s, s, 3].
    found: uint8 [m, k, s, s, 3], the nearest first.
    query_labels: int [m]; -1 for none.
    found_labels: int [m, k].
    classes: their names; a label without one is shown as its number.
    file: the PNG.
    cosines: [m, k], if they are to be shown.
  """
  m, k = found.shape[:2]
  name = lambda i: "" if i < 0 else label(
      classes[i] if i < len(classes) else int(i), limit=14)
  figure = mpl_figure.Figure(
      figsize=(1.25 * (k + 1), 1.6 * m), layout="constrained")
  grid = figure.subplots(m, k + 1, squeeze=False)
  for i in range(m):
    _framed(grid[i, 0], queries[i], _UNKNOWN, name(query_labels[i]))
    for j in range(k):
      same = found_labels[i, j] == query_labels[i]
      text = name(found_labels[i, j])
      if cosines is not None:
        text = f"{text}\n{cosines[i, j]:.2f}".strip()
      frame = _UNKNOWN if query_labels[i] < 0 else RIGHT if same else WRONG
      _framed(grid[i, j + 1], found[i, j], frame, text)
  grid[0, 0].set_title("query", fontsize=9)
  grid[0, 1].set_title("nearest", fontsize=9)
  save(figure, file)


def save(figure: "mpl_figure.Figure", file: pathlib.Path) -> None:
  """Writes a figure as a PNG; its folder is made."""
  with warnings.catch_warnings():
    # A name may have letters that the font lacks; it shows boxes then.
    warnings.filterwarnings("ignore", message="Glyph .* missing")
    files_lib.write(file, lambda f: figure.savefig(f, dpi=110, format="png"))


def _framed(
    axes: "mpl_axes.Axes", image: np.ndarray, frame: str, text: str
) -> None:
  axes.imshow(image, interpolation="nearest")
  axes.set(xticks=[], yticks=[])
  axes.set_xlabel(text, fontsize=7)
  for spine in axes.spines.values():
    spine.set(color=frame, linewidth=3)

"""The pictures of an evaluation: what is inside its encoder."""

import pathlib
from typing import TYPE_CHECKING, Any, Mapping

from etils import epath
from etils import epy
import numpy as np

from mtvit import encoder as encoder_lib
from mtvit.pictures import plots
from mtvit.probes import frozen
from mtvit.run import paths

with epy.lazy_imports():
  from mtvit.data import pipeline
if TYPE_CHECKING:
  from mtvit.data import datasets

PICTURES = ("layers", "positions", "attention", "neighbours")
SHOWN, NEIGHBOURS = 6, 7         # Images in a picture, and the nearest of each.


def remove_pictures(folder: epath.Path) -> None:
  """Removes those of an earlier evaluation in the same folder."""
  for name in PICTURES:
    with paths.os_errors(folder):
      (folder / f"{name}.png").unlink(missing_ok=True)


def save_pictures(
    encoder: encoder_lib.Encoder, train: "datasets.Source",
    test: "datasets.Source", splits: tuple[frozen.Split, frozen.Split],
    evaluation: Mapping[str, Any], folder: pathlib.Path
) -> list[pathlib.Path]:
  """Draws layers, position embeddings, attention and nearest neighbours.

  Args:
    encoder: that was evaluated.
    train: the training split.
    test: the test split.
    splits: their features, of evenly spaced images; [n, d] for each readout.
    evaluation: what evaluation.json holds.
    folder: where the PNGs go, on a disk.

  Returns:
    The PNGs.
  """
  diagnostics = evaluation["diagnostics"]
  files = [folder / "layers.png"]
  plots.save_layers([(encoder.name, diagnostics["layers"])], files[0])
  if diagnostics["positions"]:
    files.append(folder / "positions.png")
    plots.save_positions(diagnostics["positions"], files[-1])
  # The same test images in both pictures.
  rows = np.arange(SHOWN) * len(splits[1].labels) // SHOWN
  ids = pipeline.eval_ids(test, len(splits[1].labels))[rows]
  queries = _images(encoder, test, ids)                     # [m, s, s, 3]
  files.append(folder / "attention.png")
  plots.save_attention(
      queries, encoder.attention(queries), encoder.token_names, encoder.grid,
      files[-1])
  readout = evaluation["probes"]["chosen"]["knn_k20"]
  train_x, test_x = (
      frozen.with_pairs(split.features, [readout])[readout]
      for split in splits)
  near = plots.neighbours(train_x, test_x[rows], NEIGHBOURS)
  ids = pipeline.eval_ids(train, len(splits[0].labels))[near.ids]  # [m, k]
  files.append(folder / "neighbours.png")
  plots.save_neighbours(
      queries, _images(encoder, train, ids), splits[1].labels[rows],
      splits[0].labels[near.ids], train.classes, files[-1], near.cosines)
  return files


def _images(
    encoder: encoder_lib.Encoder, source: "datasets.Source", ids: np.ndarray
) -> np.ndarray:
  """Clean examples as the encoder sees them: uint8 [*ids.shape, s, s, 3]."""
  wanted, places = np.unique(ids, return_inverse=True)
  batch = next(pipeline.eval_batches(
      source, encoder.image_size, len(wanted), None, encoder.gray, wanted))
  return batch["image"][places.reshape(ids.shape)]

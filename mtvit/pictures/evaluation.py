"""The pictures of an evaluation: what is inside its encoder."""

import pathlib
from typing import TYPE_CHECKING, Any, Mapping

from etils import epath
from etils import epy
import numpy as np

from mtvit import encoder as encoder_lib
from mtvit.pictures import plots
from mtvit.probes import subject as subject_lib
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
    subject: subject_lib.Subject, evaluation: Mapping[str, Any],
    folder: paths.Given
) -> list[pathlib.Path]:
  """Draws layers, position embeddings, attention and nearest neighbours.

  Args:
    subject: the encoder that was evaluated, and its features.
    evaluation: what evaluation.json holds.
    folder: where the PNGs go, on a disk.

  Returns:
    The PNGs.
  """
  encoder, folder = subject.encoder, pathlib.Path(folder)
  diagnostics = evaluation["diagnostics"]
  at_random = evaluation["random_init"]["diagnostics"]
  files = [folder / "layers.png"]
  plots.save_layers(diagnostics["layers"], at_random["layers"], files[0])
  if diagnostics["positions"]:
    files.append(folder / "positions.png")
    plots.save_positions(diagnostics["positions"], files[-1])
  # The same test images in both pictures.
  count = len(subject.test_features.labels)
  rows = np.arange(SHOWN) * count // SHOWN
  ids = pipeline.eval_ids(subject.test, count)[rows]
  queries = _images(encoder, subject.test, ids)             # [m, s, s, 3]
  files.append(folder / "attention.png")
  plots.save_attention(
      queries, encoder.attention(queries), encoder.token_names, encoder.grid,
      files[-1])
  files.append(folder / "neighbours.png")
  _save_neighbours(subject, evaluation, rows, queries, files[-1])
  return files


def _save_neighbours(
    subject: subject_lib.Subject, evaluation: Mapping[str, Any],
    rows: np.ndarray, queries: np.ndarray, file: pathlib.Path
) -> None:
  """Draws what is nearest to these rows of the test split."""
  train, test = subject.train_features, subject.test_features
  # Without labels no readout was chosen.
  readout = evaluation.get("probes", {}).get("chosen", {}).get("knn_k20", "gap")
  near = plots.neighbours(
      train.features[readout], test.features[readout][rows], NEIGHBOURS)
  ids = pipeline.eval_ids(
      subject.train, len(train.labels))[near.ids]           # [m, k]
  plots.save_neighbours(
      queries, _images(subject.encoder, subject.train, ids), test.labels[rows],
      train.labels[near.ids], subject.train.classes, file, near.cosines)


def _images(
    encoder: encoder_lib.Encoder, source: "datasets.Source", ids: np.ndarray
) -> np.ndarray:
  """Clean examples as the encoder sees them: uint8 [*ids.shape, s, s, 3]."""
  wanted, places = np.unique(ids, return_inverse=True)
  batch = next(pipeline.eval_batches(
      source, encoder.image_size, len(wanted), None, encoder.gray, wanted))
  return batch["image"][places.reshape(ids.shape)]

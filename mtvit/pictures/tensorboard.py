"""An evaluation in TensorBoard: its numbers and its pictures."""

import pathlib
from typing import Any, Mapping, Sequence

from etils import epy

from mtvit.pictures import plots
from mtvit.run import metrics

with epy.lazy_imports():
  from clu import metric_writers


def scalars(evaluation: Mapping[str, Any]) -> dict[str, float]:
  """The numbers of an evaluation.json that are one for the whole encoder."""
  found = {}
  for row in evaluation["probes"]["test"]:
    key = f"{row['probe']}/{row['readout']}".replace("%", "_percent")
    found[f"{key}/layer_{row['layer']}"] = row["accuracy"]
  for row in evaluation.get("retrieval") or ():
    found[f"retrieval/{row['readout']}"] = row["share"]
  diagnostics = evaluation.get("diagnostics") or {}
  for row in diagnostics.get("rank") or ():
    found[f"rankme/{row['readout']}"] = row["rankme"]
  for row in (diagnostics.get("layers") or ())[-1:]:
    found |= {f"last_layer/{key}": row[key] for key in plots.MEASURES
              if row.get(key) is not None}
  for key in ("r2_row", "r2_column", "distance_correlation"):
    if diagnostics.get("positions"):
      found[f"positions/{key}"] = diagnostics["positions"][key]
  if diagnostics.get("dense"):
    found["dense"] = diagnostics["dense"]["accuracy"]
  return found


def write(
    folder: pathlib.Path, step: int, name: str, evaluation: Mapping[str, Any],
    files: Sequence[pathlib.Path]
) -> None:
  """Writes an evaluation to TensorBoard, beside the run's own scalars.

  Args:
    folder: of the run.
    step: of the checkpoint that was evaluated.
    name: of the data set; all is found under `evaluation/<name>/`.
    evaluation: what evaluation.json holds; its `scalars` are written.
    files: PNGs, named by their stems.
  """
  place = f"evaluation/{name}/"
  with metrics.tensorboard(f"the evaluation on {name}"):
    writer = metric_writers.SummaryWriter(str(folder))
    writer.write_scalars(
        step, {place + key: x for key, x in scalars(evaluation).items()})
    writer.write_images(step, metrics.images(files, place))
    writer.close()

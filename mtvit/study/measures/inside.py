"""What is inside a trained encoder, and what its heads can do."""

import numpy as np

from mtvit.diagnostics import cheat as cheat_lib
from mtvit.diagnostics import measures
from mtvit.diagnostics import positions
from mtvit.probes import run_heldout
from mtvit.study.measures import common

LAYERS = ("cosine", "cosine_centred", "image_share", "position_share",
          "residual_share", "effective_rank")


def tasks(run: common.Run, sizes: common.Measures) -> common.Found:
  """Losses and skills on corrupted views of test images."""
  skills = run_heldout.Skills(
      run.parts, run.subject.test, sizes.heldout)(run.state)
  return {"/".join(reversed(key.split("/"))): value
          for key, value in skills.items()}


def cheat(run: common.Run, sizes: common.Measures) -> common.Found:
  """Accuracies of position tasks on views that are blank."""
  rows = cheat_lib.of_run(
      run.trained, run.subject.train, run.subject.test, sizes.cheat_steps,
      sizes.blanks)
  found: common.Found = {}
  for row in rows:
    of_task = f"cheat/{row['task']}"
    found |= {f"{of_task}/{row['blank']}/{head}": row[head]
              for head in ("trained", "refitted")}
    found |= {f"{of_task}/{key}": row[key]
              for key in ("chance", "slot_bound", "count")
              if row[key] is not None}
  return found


def layers(run: common.Run, sizes: common.Measures) -> common.Found:
  """Lists by layer."""
  rows = measures.layers(run.subject, measures.Sizes(layers=sizes.layers))
  return {f"layers/{name}": [row[name] for row in rows] for name in LAYERS}


def position(run: common.Run, sizes: common.Measures) -> common.Found:
  """What the position embeddings know of the grid."""
  del sizes
  encoder = run.subject.encoder
  if encoder.position_param is None:
    return {}
  row = positions.describe(
      np.asarray(encoder.params[encoder.position_param]), encoder.grid)
  return {"position/r2": (row["r2_row"] + row["r2_column"]) / 2} | {
      f"position/{name}": row[name]
      for name in ("r2_row", "r2_column", "distance_correlation")}


def mosaic(run: common.Run, sizes: common.Measures) -> common.Found:
  """The dense probe, percentages."""
  found = measures.mosaics(
      run.subject, measures.Sizes(mosaics=sizes.mosaics)) or {}
  return {f"mosaic/{name}": 100 * value for name, value in found.items()}

"""Steps whose loss or gradient was not finite: which, why, on which images.

The step itself changes nothing then (`train_step`); this says so, and ends a
run in which it happens again and again.
"""

from typing import Any, Mapping, Sequence

from absl import logging
from jax.experimental import multihost_utils
import numpy as np

from mtvit import errors
from mtvit.run import metrics as metrics_lib

SHOWN = 8           # Example ids in a message; the file has all.


def check(
    first_step: int, steps: Sequence[Mapping[str, Any]],
    indices: Sequence[Any], limit: int, lines: metrics_lib.JsonLines
) -> None:
  """Warns of skipped steps and writes them down.

  Args:
    first_step: number of the first of the steps.
    steps: their metrics, in numpy; the same on every process.
    indices: their global batches' example ids, int32 [b].
    limit: so many in a row are let pass.
    lines: where to.

  Raises:
    NonFiniteError: there were more in a row; names step, tasks and examples.
  """
  for i, metrics in enumerate(steps):
    if metrics["train/finite"]:
      continue
    step, in_a_row = first_step + i, int(metrics["train/skipped_in_a_row"])
    tasks = culprits(metrics)
    index = indices[i]
    if not index.is_fully_addressable:
      index = multihost_utils.process_allgather(index, tiled=True)
    examples = sorted(set(np.asarray(index).tolist()))
    what = (f"step {step}: {', '.join(tasks)} not finite on examples "
            + ", ".join(map(str, examples[:SHOWN])))
    if len(examples) > SHOWN:
      what += f" … ({len(examples)}, in nonfinite.jsonl)"
    lines.append({"step": step, "tasks": tasks, "examples": examples})
    if in_a_row > limit:
      raise errors.NonFiniteError(
          f"{what}; {in_a_row} steps in a row",
          "lower optimizer.base_lr, raise optimizer.warmup, or look at these "
          "images; the checkpoints are sound")
    logging.warning("%s; skipped (%d in a row, %d in all)", what, in_a_row,
                    metrics["train/skipped"])


def culprits(metrics: Mapping[str, Any]) -> list[str]:
  """The tasks whose loss is not finite, or else what is."""
  tasks = [key.removesuffix("/loss") for key, value in metrics.items()
           if key.endswith("/loss") and key != "train/loss"
           and not np.isfinite(value)]
  if tasks:
    return tasks
  return ["the gradient" if not np.isfinite(metrics["train/grad_norm"])
          else "the new parameters"]

"""A training batch as a run would make it, and its picture."""

import dataclasses
import pathlib
from typing import Any, Mapping, Sequence

import numpy as np

from mtvit import config as config_lib
from mtvit.pictures import panels
from mtvit.tasks import base
from mtvit.tasks import picture
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_data
from mtvit.training import run_tasks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
  """Views of images, some patches of them corrupted; b = images × views.

  Attributes:
    clean: uint8 [b, h, w, c], before the patches are touched; the views of an
      image are adjacent.
    corrupted: pass -> uint8 [b, h, w, c], what the model sees.
    index: int32 [b], which example of the training split a view is of.
    queries: task -> what its head may look at, such as ids [b, k].
    answers: task -> what only its loss sees.
    config: of the run.
    tasks: of the run.
  """
  clean: np.ndarray
  corrupted: Mapping[str, np.ndarray]
  index: np.ndarray
  queries: Mapping[str, Mapping[str, np.ndarray]]
  answers: Mapping[str, Mapping[str, np.ndarray]]
  config: config_lib.Config
  tasks: Sequence[base.Task]

  def save(self, file: pathlib.Path, images: int = 4) -> None:
    """Draws the first few images, a row for each view, as a PNG."""
    views = min(self.config.views * images, len(self.clean))
    whole: dict[str, Any] = {
        "passes": {name: {"image": x} for name, x in self.corrupted.items()},
        "queries": self.queries, "answers": self.answers}
    shown = [panels.task_rows(whole, None, task, views) for task in self.tasks]
    rows = []
    for view in range(views):
      title = f"example {self.index[view]}, view {view % self.config.views}"
      row = [picture.Panel(title, self.clean[view])]
      row += [picture.Panel(f"corrupted ({name})", image[view])
              for name, image in self.corrupted.items()]
      for task_rows in shown:
        row += task_rows[view] if len(task_rows) > view else []
      rows.append(row)
    panels.save_grid(rows, self.config.model.patch_size, file)


def sample(config: config_lib.Config, step: int = 0) -> Batch:
  """The batch of a step, on this process.

  Raises:
    UserError: of the config or its data.
  """
  run_data.check_local(config.data)
  tasks = run_tasks.create(config)
  train, _ = inputs.sources(config)
  assembly.total_steps(config, train.num_examples)     # Checks the batch size.
  clean = inputs.sample(config, (), train, step)
  batch = inputs.sample(config, tasks, train, step)
  return Batch(
      clean=clean["image"], corrupted={
          name: each["image"] for name, each in batch["passes"].items()},
      index=batch["index"], queries=batch["queries"],
      answers=batch["answers"], config=config, tasks=tasks)

"""A training batch as a run would make it, and its picture."""

import dataclasses
import pathlib
from typing import Any, Mapping, Sequence

import jax
import numpy as np

from mtvit import config as config_lib
from mtvit.pictures import choice
from mtvit.pictures import grid
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
    """Draws some images, none of which shows hardly anything, as a PNG."""
    views = self.config.views
    chosen = choice.rows(choice.order(self.clean, views)[:images], views)
    whole: dict[str, Any] = {
        "passes": {name: {"image": x} for name, x in self.corrupted.items()},
        "queries": self.queries, "answers": self.answers}
    whole = jax.tree.map(lambda x: np.asarray(x)[chosen], whole)
    sections = [grid.Section(
        "views", "Augmented views of an image, and the first one after all "
        "tasks have corrupted it.", self._rows(chosen))]
    shown = panels.shown(whole, self.tasks)
    for task in self.tasks:
      section = task.name in shown and panels.section(
          whole, None, task, images, shown[task.name], task.name)
      sections += [section] if section else []
    grid.save(sections, self.config.model.patch_size, file)

  def _rows(self, chosen: np.ndarray) -> list[list[picture.Panel]]:
    """A row for each image: its views, and what the model sees of the first."""
    views, many = self.config.views, len(self.corrupted) > 1
    return [[picture.Panel(f"image {self.index[i]}, view {1 + view}",
                           self.clean[i + view]) for view in range(views)] + [
        picture.Panel("what the model sees of view 1"
                      + (f", for {name}" if many else ""), image[i])
        for name, image in self.corrupted.items()] for i in chosen[::views]]


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

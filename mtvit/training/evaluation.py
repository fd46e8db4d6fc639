"""What an evaluator is: it looks at a run while it trains, and once it has.

`pretrain.EVALUATORS` lists them all; mtvit/probes/README.md says how to add
one.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from etils import epath
import numpy as np

from mtvit import config as config_lib
from mtvit.run import config_values
from mtvit.training import assembly
from mtvit.training import train_state

if TYPE_CHECKING:
  from mtvit.data import datasets


class Features(NamedTuple):
  """What the encoder makes of clean images.

  Attributes:
    readouts: readout -> float32 [n, d]; empty if the run is to stop.
    labels: int32 [n]; -1 where there is none.
  """
  readouts: dict[str, np.ndarray]
  labels: np.ndarray


class Found(NamedTuple):
  """What an evaluator has found.

  Attributes:
    scalars: for metrics.jsonl, named `<evaluator>/...`.
    draw: writes PNGs into a folder and returns them; they go to `report/`. It
      is called on the first process alone, once the scalars are written.
  """
  scalars: Mapping[str, float] = {}
  draw: Callable[[pathlib.Path], Sequence[pathlib.Path]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """What an evaluator sees of a moment; all of one moment share it.

  Attributes:
    step: how many have been made; before a step, that one.
    state: the train state.
    batch: the step's global batch, on the devices; None after a step.
    final: whether training is over.
    features: (split, limit) -> of the first images of "train" or "test", 0 for
      all. What several evaluators ask for is computed once.
  """
  step: int
  state: train_state.TrainState
  batch: Any = None
  final: bool = False
  features: Callable[[str, int], Features]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
  """What an evaluator knows of its run.

  Attributes:
    parts: of the run; among them config, model and mesh.
    train: the training split.
    test: the test split.
    workdir: of the run.
    should_stop: to ask before each batch, on all processes alike; True ends an
      evaluation early, and what it finds is dropped.
  """
  parts: assembly.Parts
  train: "datasets.Source"
  test: "datasets.Source"
  workdir: epath.Path
  should_stop: Callable[[], bool]

  @property
  def config(self) -> config_lib.Config:
    """Of the run."""
    return self.parts.config

  @property
  def labelled(self) -> bool:
    """Whether the images have labels that tell anything: of two classes."""
    return min(len(self.train.classes), len(self.test.classes)) > 1


class Evaluator:
  """Looks at a run; a subclass says when, and what it finds.

  Attributes:
    name: begins the names of its scalars.
    title: what the log calls it, and its `headline`.
    headline: the scalar that tells most, which the log shows; "" if none does.
    settings: a dataclass whose fields are the keys of its config section,
      `evaluators.<name>`, which `self.section` holds; None if it has none.
    every: steps from one look to the next; 0 for never during training. The
      last step is left to the end.
    when: "after" a step, or "before" it, with its batch.
    at_end: "nothing"; "run", once more when training is over; or "compare",
      and with random parameters too, as `<scalar>_random_init`. One that looks
      during training looks before the first step as well, at step 0.
    same_images: whether the look at the end is at the images of those before:
      what random parameters gave at step 0 then holds at the end.
  """
  name = ""
  title = ""
  headline = ""
  settings: type | None = None
  every = 0
  when = "after"
  at_end = "nothing"
  same_images = False

  def __init__(self, context: Context):
    """Binds the run; subclasses set what depends on it."""
    self.context = context
    self.section = section(type(self), context.config)

  def owns(self, scalar: str) -> bool:
    """Whether a scalar of this name is one of its own."""
    return scalar.startswith(f"{self.name}/")

  def run(self, look: Look) -> Found:
    """Called on all processes alike."""
    raise NotImplementedError


def section(kind: type[Evaluator], config: config_lib.Config) -> Any:
  """The section of an evaluator as its dataclass; None if it has none."""
  if not kind.settings:
    return None
  values = config.evaluators.get(kind.name, {})
  return config_values.parse_section(
      kind.settings, values, prefix=f"evaluators.{kind.name}.")

"""Whose measures are taken, and how much is looked at."""

import dataclasses
from typing import NamedTuple

from mtvit import config as config_lib
from mtvit.probes import subject as subject_lib
from mtvit.training import assembly
from mtvit.training import saved_runs
from mtvit.training import train_state

Found = dict[str, float | int | str | list[float]]      # As JSON.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
  """How much is looked at; the same for all arms of a study.

  All images are evenly spaced in their split, and the same for all arms.

  Attributes:
    num_train: training images for the probes, a tenth of them for validation;
      0 for all.
    num_test: test images for the probes and RankMe; 0 for all.
    permutations: of the training labels, whose mean accuracy is
      `linear_shuffled_labels`.
    layers: test images for what is measured by layer.
    mosaics: of training and of test images.
    heldout: test images for losses and skills.
    cheat_steps: to refit a head, with 64 images each; a third as many batches
      are answered.
    blanks: what is blank for the cheat index, some of `cheat.BLANKS`.
  """
  num_train: int = 10_000
  num_test: int = 0
  permutations: int = 2
  layers: int = 512
  mosaics: tuple[int, int] = (1000, 500)
  heldout: int = 2000
  cheat_steps: int = 60
  blanks: tuple[str, ...] = ("nothing", "contents", "positions")


class Run(NamedTuple):
  """A run that has ended, or has not begun, in memory.

  Attributes:
    parts: of the run.
    trained: its config, its tasks and its model, with parameters.
    state: the whole state that these are of.
    lines: of its metrics.jsonl.
    subject: its encoder, and its two splits.
  """
  parts: assembly.Parts
  trained: saved_runs.TrainedRun
  state: train_state.TrainState
  lines: list[dict[str, float]]
  subject: subject_lib.Subject

  @property
  def config(self) -> config_lib.Config:
    """Of the run."""
    return self.parts.config

"""Supervised classification from the [CLS] token: the upper reference.

No pretext task: the alternative that uses labels (method: random init, and
supervised from scratch), in the same trainer.
"""

import dataclasses
from typing import Any, Iterable, Mapping

import flax.linen as nn
import jax
import numpy as np

from mtvit import errors
from mtvit.models import heads
from mtvit.tasks import base


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Supervised(base.Task):
  """Tells the class of a view, from labelled data.

  Attributes:
    num_classes: of the data set.
  """
  name = "supervised"

  num_classes: int

  def __post_init__(self):
    super().__post_init__()
    self.check_least(num_classes=2)

  @property
  def trivial_loss(self) -> float:
    return float(np.log(self.num_classes))

  @property
  def chance(self) -> float:
    return 1 / self.num_classes

  def corrupt(
      self, patches: Any, ids: Any, layout: Any, draw: Any
  ) -> base.Corrupted:
    return base.Corrupted(patches, answers={"label": layout.label})

  def head(self) -> nn.Module:
    return heads.TokenHead("cls", (), self.num_classes, name="head_supervised")

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    return base.classification(predicted, answers["label"])

  def measure(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """Nothing to know; refuses data without labels, or with too many."""
    labels = np.concatenate([batch["label"] for batch in batches])
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= self.num_classes:
      raise errors.ConfigError(
          f"tasks.supervised.num_classes={self.num_classes}: the data have "
          f"labels {low} .. {high}", f"set it to {high + 1} at least" if
          low >= 0 else "use data with labels, or another task")
    return {}

"""One encoder and one head for each task."""

from typing import TYPE_CHECKING, Any, Iterable, Mapping

import flax.linen as nn
import jax

from mtvit.models import interface
from mtvit.models import parameter_names

if TYPE_CHECKING:
  from mtvit.tasks import base

SHARED = "shared"


def pass_of(task_name: str, passes: Iterable[str]) -> str:
  """Which forward pass a task is in: the one of its name, or the shared one."""
  return task_name if task_name in passes else SHARED


class EncoderAlone(nn.Module):
  """The encoder under the name that it has in a `Pretrainer`.

  So that a key draws the same first parameters without any head.
  """
  encoder: interface.Encoder

  def __call__(
      self, image: jax.Array, hide_position: jax.Array
  ) -> interface.Features:
    return self.encoder(image, hide_position)


class Pretrainer(nn.Module):
  """The report's model (its Figure 1).

  Attributes:
    config: the `model` section.
    tasks: built tasks; those that train have a `head()` and perhaps a token.
  """
  config: interface.EncoderConfig
  tasks: "tuple[base.Task, ...]"

  @nn.compact
  def __call__(
      self, inputs: Mapping[str, Any], train: bool = False
  ) -> tuple[dict[str, interface.Features], dict[str, Any]]:
    """Runs the encoder once for each pass, and every head on its outputs.

    Args:
      inputs: `passes`, pass name -> `image` uint8 [b, h, w, 3] and
        `hide_position` bool [b, n]; and `queries`, task name -> field ->
        [b, ...]. Never the answers. Normally there is one pass, for all tasks.
      train: see `interface.Encoder`.

    Returns:
      Pass name -> features, and task name -> prediction.
    """
    encoder = self.encoder()
    features = {
        name: encoder(views["image"], views["hide_position"], train=train)
        for name, views in inputs["passes"].items()}
    predicted = {
        task.name: task.head().copy(name=parameter_names.head(task.name))(
            features[pass_of(task.name, features)],
            inputs["queries"].get(task.name, {}))
        for task in self.tasks if task.trains
    }
    return features, predicted

  @nn.nowrap
  def encoder(self) -> interface.Encoder:
    """The encoder that the tasks need: their tokens, their position policy."""
    return self.config.encoder(self.token_names, self.position_policy)

  @property
  def token_names(self) -> tuple[str, ...]:
    """"cls" and the tokens of the tasks that train."""
    return ("cls",) + tuple(
        task.token for task in self.tasks if task.trains and task.token)

  @property
  def position_policy(self) -> str:
    """What the encoder does with hidden positions; see `interface.Encoder`."""
    policies = {task.position_policy for task in self.tasks}
    return next((p for p in ("drop_all", "mask_token") if p in policies),
                "drop")

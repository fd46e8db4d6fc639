"""One ViT and one head for each task: a single forward pass for all of them."""

from typing import Any, Mapping

import flax.linen as nn
import jax

from mtvit.models import vit


class Pretrainer(nn.Module):
  """The report's model (its Figure 1).

  Attributes:
    config: the `model` section.
    tasks: built tasks; those that train have a `head()` and perhaps a token.
  """
  config: vit.ModelConfig
  tasks: tuple[Any, ...]

  @nn.compact
  def __call__(
      self, inputs: Mapping[str, Any]
  ) -> tuple[vit.Features, dict[str, jax.Array]]:
    """Runs the encoder once and every head on its outputs.

    Args:
      inputs: `image` uint8 [b, h, w, 3], `hide_position` bool [b, n] and
        `queries`, task name -> field -> [b, ...]. Never the answers.

    Returns:
      The features, and task name -> prediction.
    """
    encoder = self.config.encoder(self.token_names)
    features = encoder(inputs["image"], inputs["hide_position"])
    predicted = {
        task.name: task.head()(features, inputs["queries"].get(task.name, {}))
        for task in self.tasks if task.trains
    }
    return features, predicted

  @property
  def token_names(self) -> tuple[str, ...]:
    """"cls" and the tokens of the tasks that train."""
    return ("cls",) + tuple(
        task.token for task in self.tasks if task.trains and task.token)

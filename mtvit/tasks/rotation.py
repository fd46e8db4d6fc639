"""Four-way rotation (report, Fig. 1; Gidaris et al. 2018, arXiv:1803.07728).

A view is turned by 0, 90, 180 or 270 degrees counter-clockwise, after crop and
flip and before its patches are cut, so every other task works in the rotated
frame. The [ROT] token says by how much.

Rotation fights the contrastive task (views of an image that are turned
differently shall be alike) and the upright prior of the position tasks; hence
`views`.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epy

from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import picture

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import views as views_lib

if TYPE_CHECKING:
  from mtvit.data import draws

VIEWS = ("both_views", "one_view", "shared")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rotation(base.Task):
  """Tells by how many quarter turns a view was rotated.

  Attributes:
    views: "both_views" turns each view on its own; "one_view" only the second
      of each image, and the loss counts only those; "shared" turns the views of
      an image together.
    hidden_dim: width of the MLP's hidden layer; 0 for a linear head.
  """
  name = "rotation"
  token = "rot"
  shows = ("Whole views are turned; the model says by how much. The middle is "
           "upright where it is right.")

  views: str = "both_views"
  hidden_dim: int = 256

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("views", VIEWS)
    self.check_least(hidden_dim=0)

  @property
  def trivial_loss(self) -> float:
    return float(np.log(4))

  @property
  def chance(self) -> float:
    return 1 / 4

  def corrupt_image(self, images: Any, draw: "draws.Draw") -> base.Corrupted:
    turns = draw.integers("turns", (), 4)                   # [b]
    second = tf.range(tf.shape(turns)[0]) % 2 == 1          # [b]
    if self.views == "shared":
      turns = tf.repeat(turns[::2], 2)                      # [b]
    elif self.views == "one_view":
      turns = tf.where(second, turns, 0)                    # [b]
    rotated = tf.numpy_function(                            # [b, s, s, 3]
        views_lib.rotate, [images, turns], tf.uint8, stateful=False)
    counts = second if self.views == "one_view" else tf.ones_like(second)
    return base.Corrupted(
        tf.ensure_shape(rotated, images.shape),
        answers={"label": turns, "counts": counts})         # [b], bool [b]

  def head(self) -> nn.Module:
    hidden = (self.hidden_dim,) if self.hidden_dim else ()
    return heads.TokenHead(self.token, hidden, 4)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    logits = predicted.astype(jnp.float32)                  # [b, 4]
    each = optax.losses.softmax_cross_entropy_with_integer_labels(
        logits, answers["label"])                           # [b]
    right = logits.argmax(-1) == answers["label"]           # [b]
    mean = lambda x: jnp.mean(x, where=answers["counts"])
    loss = mean(each)
    return loss, {
        "accuracy": mean(right), "skill": 1 - loss / self.trivial_loss}

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    label = int(answers["label"])
    panels = [picture.Panel(f"turned by {90 * label}°", image)]
    if predicted is not None:
      guess = int(predicted.argmax())
      panels.append(picture.Panel(
          f"turned back by the {90 * guess}° that the model says",
          np.rot90(image, -guess)))
    return panels + [picture.Panel("upright", np.rot90(image, -label))]

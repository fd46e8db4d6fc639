"""Contrastive learning on the [CT] token (report, section 2).

NT-Xent, the InfoNCE loss of SimCLR (Chen et al. 2020, arXiv:2002.05709, eq. 1).
"""

import dataclasses
from typing import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtvit.models import heads
from mtvit.tasks import base


def ntxent(z: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
  """NT-Xent over all views, with the two views of an image adjacent.

  Args:
    z: [b, c] embeddings of views; rows 2i and 2i+1 come from one image.
    temperature: of the softmax over cosine similarities.

  Returns:
    The scalar loss in float32, and the share of views whose positive is the
    most similar of all b - 1 other views.
  """
  z = z.astype(jnp.float32)
  z = z / jnp.maximum(jnp.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
  b = z.shape[0]
  rows = jnp.arange(b)
  logits = z @ z.T / temperature                            # [b, b]
  logits = jnp.where(jnp.eye(b, dtype=bool), -jnp.inf, logits)
  partners = rows ^ 1                                       # [b]
  positives = jnp.sum(z * z[partners], axis=-1) / temperature
  loss = jnp.mean(jax.nn.logsumexp(logits, axis=-1) - positives)
  return loss, jnp.mean(logits.argmax(-1) == partners)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contrastive(base.Task):
  """Tells the other view of the same image from all other views.

  Attributes:
    temperature: 0.2 in ViT recipes; 0.1 to 0.5 in use.
    hidden_dim: width of the MLP's hidden layers.
    num_hidden: how many hidden layers.
    out_dim: width of the embedding that the loss compares.
  """
  name = "contrastive"
  token = "ct"

  temperature: float
  hidden_dim: int
  num_hidden: int
  out_dim: int

  def __post_init__(self):
    super().__post_init__()
    if not self.temperature > 0:
      raise ValueError(f"temperature={self.temperature} must be above 0")

  @property
  def trivial_loss(self) -> float:
    return float(np.log(self.geometry.num_views - 1))

  def head(self) -> nn.Module:
    return heads.TokenHead(
        self.token, (self.hidden_dim,) * self.num_hidden, self.out_dim,
        name="head_contrastive")

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    del answers                  # Which views belong together is their order.
    loss, accuracy = ntxent(predicted, self.temperature)
    return loss, {"accuracy": accuracy, "skill": 1 - loss / self.trivial_loss}

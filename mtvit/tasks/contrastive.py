"""Contrastive learning on the [CT] token (report, section 2).

Three losses, the ones that the report cites:

infonce: NT-Xent over all views of the global batch, as in SimCLR (Chen et al.
  2020, arXiv:2002.05709, eq. 1).
moco: the other view's embedding by the momentum encoder, against a queue of
  earlier ones (He et al. 2020, arXiv:1911.05722, eq. 1), for both views.
byol: the other view's embedding by the momentum encoder is predicted; there
  are no negatives (Grill et al. 2020, arXiv:2006.07733, eq. 2). Its loss is 0
  for collapsed features too, so watch `features/ct_spread`.
"""

import dataclasses
from typing import Any, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtvit.models import chunks
from mtvit.models import heads
from mtvit.models import interface
from mtvit.tasks import base
from mtvit.tasks import picture

SHOWN = 4        # Similar views in a picture.
BLOCK_BYTES = 2**26     # Similarities that a device holds at a time.
LOSSES = ("infonce", "moco", "byol")


def partners(x: jax.Array) -> jax.Array:
  """Swaps the rows of the two views of each image: [b, ...] -> [b, ...]."""
  return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def ntxent(z: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
  """NT-Xent over all views, with the two views of an image adjacent.

  Args:
    z: [b, c] embeddings of views; rows 2i and 2i+1 come from one image.
    temperature: of the softmax over cosine similarities.

  Returns:
    The scalar loss in float32, and the share of views whose positive is the
    most similar of all b - 1 other views.
  """
  z = heads.normalise(z)
  b = z.shape[0]

  def block(rows, _):
    """Log-sum-exp over the other views, and whether the positive is largest."""
    views, number = rows
    logits = jnp.matmul(
        views, z.T, precision=jax.lax.Precision.HIGHEST) / temperature
    itself = number[:, None] == jnp.arange(b)               # [rows, b]
    logits = jnp.where(itself, -jnp.inf, logits)
    return jax.nn.logsumexp(logits, axis=-1), logits.argmax(-1) == number ^ 1

  total, right = chunks.in_chunks(
      block, (z, jnp.arange(b)), num_blocks(b))             # [b] each
  positives = jnp.sum(z * partners(z), axis=-1) / temperature
  return jnp.mean(total - positives), jnp.mean(right)


def num_blocks(b: int) -> int:
  """In how many pieces the [b, b] similarities are computed.

  The fewest for which a device holds at most `BLOCK_BYTES` of them. They divide
  its rows, so where rows have no fitting divisor near that, it holds more.
  """
  rows = max(1, b // chunks.shards())                       # Of a device.
  least = -(-rows * b * 4 // BLOCK_BYTES)
  divisors = [n for n in range(1, min(rows, 4 * least) + 1) if rows % n == 0]
  return next((n for n in divisors if n >= least), divisors[-1])


def queue_loss(
    q: jax.Array, k: jax.Array, queue: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
  """InfoNCE of each query against its key and a queue of negatives.

  Args:
    q: [b, c] embeddings of views.
    k: [b, c] momentum embeddings of the other views of the same images.
    queue: [m, c] normalised momentum embeddings of earlier views.
    temperature: of the softmax over cosine similarities.

  Returns:
    The scalar loss in float32, and the share of views whose key is more similar
    than all of the queue.
  """
  q, k = heads.normalise(q), heads.normalise(k)
  positives = jnp.sum(q * k, axis=-1, keepdims=True)        # [b, 1]
  negatives = jnp.matmul(
      q, queue.T, precision=jax.lax.Precision.HIGHEST)      # [b, m]
  logits = jnp.concatenate([positives, negatives], axis=-1) / temperature
  loss = jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[:, 0])
  return loss, jnp.mean(logits.argmax(-1) == 0)


class PredictorHead(nn.Module):
  """Projects [CT], and predicts from it the momentum encoder's projection.

  Attributes:
    token: which token it reads.
    hidden: widths of the projector's hidden layers; the predictor has one, of
      the first width.
    out: width of both outputs.
  """
  token: str
  hidden: tuple[int, ...]
  out: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: heads.Queries
  ) -> dict[str, jax.Array]:
    del queries
    x = features.tokens[self.token]
    projection = heads.Mlp(self.hidden, self.out, name="mlp")(x)
    predictor = heads.Mlp(self.hidden[:1], self.out, name="predictor")
    return {"projection": projection,
            "prediction": predictor(projection.astype(x.dtype))}  # [b, out]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contrastive(base.Task):
  """Tells the other view of the same image from all other views.

  Attributes:
    kind: "infonce", "moco" or "byol".
    temperature: 0.2 in ViT recipes; 0.1 to 0.5 in use. Not for byol.
    hidden_dim: width of the MLP's hidden layers.
    num_hidden: how many hidden layers.
    out_dim: width of the embedding that the loss compares.
    momentum: of the momentum encoder, at the first step. Not for infonce.
    queue_size: negatives of moco; a multiple of the views in a batch.
  """
  name = "contrastive"
  token = "ct"
  shows = ("Two views of an image should have like features. The rank of the "
           "other view is 1 if no other is as similar. On the right the most "
           "similar views of other images, with their cosines.")

  kind: str = "infonce"
  temperature: float = 0.2
  hidden_dim: int = 256
  num_hidden: int = 2
  out_dim: int = 128
  momentum: float = 0.99
  queue_size: int = 4096

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("kind", LOSSES)
    self.check_least(temperature=1e-3, hidden_dim=1, num_hidden=0, out_dim=1)
    if not 0 <= self.momentum < 1:
      raise ValueError(f"momentum={self.momentum} must lie in 0 .. 1")
    views = self.geometry.num_views if self.geometry else 1
    if self.kind == "moco" and (
        self.queue_size < 1 or self.queue_size % views):
      raise ValueError(
          f"queue_size={self.queue_size} must be a multiple of the {views} "
          "views in a batch")

  @property
  def trivial_loss(self) -> float:
    if self.kind == "byol":
      return 2.0                     # Of orthogonal directions.
    others = (self.queue_size if self.kind == "moco" else
              self.geometry.num_views - 2)
    return float(np.log(1 + others))

  @property
  def teacher_momentum(self) -> float | None:
    return None if self.kind == "infonce" else self.momentum

  def head(self) -> nn.Module:
    hidden = (self.hidden_dim,) * self.num_hidden
    kind = PredictorHead if self.kind == "byol" else heads.TokenHead
    return kind(self.token, hidden, self.out_dim)

  def loss(
      self, predicted: Any, answers: Mapping[str, Any]
  ) -> tuple[jax.Array, base.Metrics]:
    # Which views belong together is told by their order.
    if self.kind == "byol":
      online, target = map(heads.normalise, (
          predicted["prediction"], answers["teacher"]["projection"]))
      cosine = jnp.sum(online * partners(target), axis=-1)
      loss = jnp.mean(2 - 2 * cosine)
      return loss, {"skill": 1 - loss / self.trivial_loss}
    if self.kind == "moco":
      loss, accuracy = queue_loss(
          predicted, partners(answers["teacher"]), answers["state"]["queue"],
          self.temperature)
    else:
      loss, accuracy = ntxent(predicted, self.temperature)
    return loss, {"accuracy": accuracy, "skill": 1 - loss / self.trivial_loss}

  def rows(
      self, images: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: Any, limit: int
  ) -> list[list[picture.Panel]]:
    """Views, the other view of each, and similar views of other images."""
    if predicted is None:
      return []
    z = predicted["projection"] if self.kind == "byol" else predicted
    z = np.asarray(heads.normalise(z))                            # [b, c]
    similar = z @ z.T                                       # [b, b]
    rows = []
    for view in range(0, len(z), 2)[:limit]:
      order = np.argsort(-similar[view], kind="stable")
      order = order[order != view]
      rank = 1 + int(np.flatnonzero(order == view + 1)[0])
      # The more similar one of the two views of each other image.
      images_of, first = np.unique(order // 2, return_index=True)
      others = order[np.sort(first[images_of != view // 2])]
      rows.append([
          picture.Panel("a view", images[view]),
          picture.Panel(f"its other view · rank {rank}", images[view + 1])] + [
              picture.Panel(f"similar · {similar[view, i]:.2f}", images[i])
              for i in others[:SHOWN]])
    return rows

  def init_state(self) -> dict[str, jax.Array]:
    """The queue, filled with random directions as in MoCo."""
    if self.kind != "moco":
      return {}
    return {"queue": heads.normalise(jax.random.normal(
        jax.random.key(0), (self.queue_size, self.out_dim)))}

  def update_state(
      self, answers: Mapping[str, Any]
  ) -> dict[str, jax.Array]:
    """Drops the oldest keys of the queue and appends this step's."""
    keys = heads.normalise(answers["teacher"])                    # [b, c]
    queue = answers["state"]["queue"]                       # [m, c]
    return {"queue": jnp.concatenate([queue[keys.shape[0]:], keys])}

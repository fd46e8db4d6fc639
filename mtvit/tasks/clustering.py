"""Online clustering on the [CLU] token (report: an image-level task).

Swapped prediction with prototypes, as in SwAV (Caron et al. 2020,
arXiv:2006.09882): the prototype of one view is predicted from the other view.
The assignments come from Sinkhorn-Knopp over the global batch, which shares the
views out equally among the prototypes, so that not all can end in one.
"""

import dataclasses
from typing import Any, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtvit.models import heads
from mtvit.models import interface
from mtvit.tasks import base
from mtvit.tasks import picture

COLUMNS = 6          # Images in a row of the picture.


def sinkhorn(
    scores: jax.Array, epsilon: float, iterations: int
) -> jax.Array:
  """Assigns views to prototypes such that each prototype gets an equal share.

  Alternately scales the columns and the rows of exp(scores / epsilon), in the
  log domain, since the exponential of a cosine over 0.01 overflows.

  Args:
    scores: [b, k] similarities of views and prototypes.
    epsilon: how soft the assignment is; 0.05 in SwAV.
    iterations: 3 in SwAV. The columns' sums tend to b / k.

  Returns:
    float32 [b, k]; the rows sum to 1.
  """
  log_q = scores.astype(jnp.float32) / epsilon              # [b, k]
  for _ in range(iterations):
    log_q -= jax.nn.logsumexp(log_q, axis=0, keepdims=True)
    log_q -= jax.nn.logsumexp(log_q, axis=1, keepdims=True)
  return jnp.exp(log_q)


class PrototypeHead(nn.Module):
  """Cosines of a token's embedding with learned prototypes: [b, k].

  Attributes:
    token: which token it reads.
    hidden: widths of the hidden layers.
    out: width of the embedding.
    num_prototypes: k.
  """
  token: str
  hidden: tuple[int, ...]
  out: int
  num_prototypes: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: heads.Queries
  ) -> jax.Array:
    del queries
    z = heads.Mlp(self.hidden, self.out, name="mlp")(
        features.tokens[self.token])                        # [b, c]
    prototypes = self.param(
        "prototypes", nn.initializers.normal(1.0),
        (self.out, self.num_prototypes))                    # [c, k]
    return heads.normalise(z) @ heads.normalise(prototypes.T).T


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clustering(base.Task):
  """Predicts the prototype of the other view of the same image.

  Attributes:
    num_prototypes: k; a few times the classes one expects.
    temperature: of the prediction's softmax; 0.1 in SwAV.
    epsilon: of the assignment; see `sinkhorn`.
    iterations: of Sinkhorn-Knopp.
    hidden_dim: width of the MLP's hidden layers.
    num_hidden: how many hidden layers.
    out_dim: width of the embedding.
  """
  name = "clustering"
  token = "clu"
  shows = ("A row shows the images that the model puts into one cluster, the "
           "nearest to its prototype first, with their cosines. The clusters "
           "with most views come first; a good one shows one kind of image.")

  num_prototypes: int = 128
  temperature: float = 0.1
  epsilon: float = 0.05
  iterations: int = 3
  hidden_dim: int = 256
  num_hidden: int = 2
  out_dim: int = 128

  def __post_init__(self):
    super().__post_init__()
    self.check_least(
        temperature=1e-3, epsilon=1e-3, num_prototypes=2, iterations=1,
        hidden_dim=1, num_hidden=0, out_dim=1)

  @property
  def trivial_loss(self) -> float:
    return float(np.log(self.num_prototypes))

  def head(self) -> nn.Module:
    return PrototypeHead(
        self.token, (self.hidden_dim,) * self.num_hidden, self.out_dim,
        self.num_prototypes)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    del answers                  # Which views belong together is their order.
    b, k = predicted.shape
    scores = predicted.astype(jnp.float32).reshape(b // 2, 2, k)
    assign = jax.vmap(
        lambda x: sinkhorn(x, self.epsilon, self.iterations), 1, 1)
    codes = jax.lax.stop_gradient(assign(scores))           # [b/2, 2, k]
    log_p = jax.nn.log_softmax(scores / self.temperature)   # [b/2, 2, k]
    loss = -jnp.mean(jnp.sum(codes[:, ::-1] * log_p, axis=-1))
    chosen = codes.argmax(-1)                               # [b/2, 2]
    used = jnp.zeros(k, bool).at[chosen.ravel()].set(True)
    return loss, {
        "skill": 1 - loss / self.trivial_loss,
        "agreement": jnp.mean(chosen[:, 0] == chosen[:, 1]),
        "used": jnp.mean(used)}

  def rows(
      self, images: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: Any, limit: int
  ) -> list[list[picture.Panel]]:
    """Prototypes by how many views are nearest to them, and their nearest."""
    if predicted is None:
      return []
    scores = np.asarray(predicted)                          # [b, k]
    sizes = np.bincount(scores.argmax(1), minlength=scores.shape[1])

    def nearest(prototype):                 # One view of an image: int [m]
      order = np.argsort(-scores[:, prototype], kind="stable")
      _, first = np.unique(order // self.geometry.views, return_index=True)
      return order[np.sort(first)][:COLUMNS]

    return [[
        picture.Panel(f"prototype {prototype} · {scores[view, prototype]:.2f}",
                      images[view])
        for view in nearest(prototype)]
        for prototype in np.argsort(-sizes, kind="stable")[:limit]]

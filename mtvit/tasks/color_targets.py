"""What colorization predicts for each cell of a patch, and how it is scored.

A cell is a square of pixels; its colour is the mean of a and b of CIE Lab.
`Regression` predicts that colour, `Bins` a distribution over quantised colours
(Zhang et al. 2016, arXiv:1603.08511).
"""

import dataclasses
import functools
from typing import Any, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtvit.tasks import color
from mtvit.tasks import stored

GRID = 10.0         # side of a bin, in units of a and b
NEIGHBOURS = 5      # bins that share a colour
SIGMA = 5.0         # of the Gaussian by which they share it
UNIFORM = 0.5       # lambda: share of the uniform prior in rebalancing
TEMPERATURE = 0.38  # of the annealed mean
BINS_CELL = 4       # pixels; Zhang et al. predict at 1/4 of the resolution


@functools.partial(jax.jit, static_argnames="side")
def cell_colors(pixels: jax.Array, side: int) -> jax.Array:
  """Mean a and b of square cells, in reading order.

  Args:
    pixels: uint8 [..., h, w, 3].
    side: of a cell; divides h and w.

  Returns:
    float32 [..., h w / side², 2].
  """
  ab = color.rgb_to_lab(pixels.astype(jnp.float32) / 255)[..., 1:]
  *lead, h, w, _ = ab.shape
  ab = ab.reshape(*lead, h // side, side, w // side, side, 2)
  return ab.mean(axis=(-4, -2)).reshape(*lead, -1, 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Regression:
  """The colour itself, standardised; squared error.

  Attributes:
    mean: of a and b over the training views, [2].
    deviation: likewise.
  """
  mean: np.ndarray
  deviation: np.ndarray

  @classmethod
  def create(cls, statistics: Mapping[str, Any]) -> "Regression":
    """From what `statistics_of` found."""
    return cls(stored.numbers(statistics["mean"], 2),
               stored.numbers(statistics["deviation"], 2))

  @property
  def channels(self) -> int:
    """Outputs for a cell."""
    return 2

  @property
  def trivial_loss(self) -> float:
    """Of the best constant, on the training views."""
    return 1.0

  def error(self, predicted: jax.Array, ab: jax.Array) -> jax.Array:
    """The loss of each cell: two of [..., 2] -> [...]."""
    return self.distance(self.decode(predicted), ab)

  def constant_error(self, ab: jax.Array) -> jax.Array:
    """The loss of each cell if nothing is known: [..., 2] -> [...]."""
    return self.distance(self.mean, ab)

  def distance(
      self, guess: jax.Array | np.ndarray, ab: jax.Array
  ) -> jax.Array:
    """Squared distance of two colours, standardised: [..., 2] -> [...]."""
    return jnp.mean(jnp.square((guess - ab) / self.deviation), axis=-1)

  def decode(self, predicted: Any) -> Any:
    """a and b that were predicted: [..., 2]."""
    return predicted * self.deviation + self.mean


@functools.cache
def gamut() -> np.ndarray:
  """Centres of the bins that sRGB colours fall into: float32 [Q, 2].

  A line of constant a and b leaves the gamut through its surface, so the faces
  of the RGB cube have all a and b that there are.
  """
  level = np.linspace(0, 1, 256, dtype=np.float32)
  u, v = np.meshgrid(level, level)
  faces = np.stack([
      np.roll(np.stack([u, v, np.full_like(u, end)], axis=-1), axis, axis=-1)
      for axis in range(3) for end in (0, 1)])              # [6, 256, 256, 3]
  ab = np.asarray(color.rgb_to_lab(faces))[..., 1:]
  bins = np.unique(np.round(ab / GRID).reshape(-1, 2).astype(int), axis=0)
  return bins.astype(np.float32) * np.float32(GRID)


def encode(ab: jax.Array, centres: np.ndarray) -> jax.Array:
  """Shares a colour among its nearest bins: [..., 2] -> float32 [..., Q]."""
  squares = jnp.sum(
      jnp.square(ab[..., None, :] - centres), axis=-1)      # [..., Q]
  near, index = jax.lax.top_k(-squares, NEIGHBOURS)         # [..., 5]
  share = jax.nn.softmax(near / (2 * SIGMA**2))
  one_hot = jax.nn.one_hot(index, len(centres))             # [..., 5, Q]
  return jnp.einsum("...k,...kq->...q", share, one_hot)


def rebalanced(prior: np.ndarray) -> np.ndarray:
  """Weights of the bins, that make rare colours count (eq. 4): [Q].

  1 / ((1 - lambda) prior + lambda / Q), with a mean of 1 under the prior.
  """
  weights = 1 / ((1 - UNIFORM) * prior + UNIFORM / len(prior))
  return weights / (prior * weights).sum()


@dataclasses.dataclass(frozen=True, eq=False)
class Bins(Regression):
  """A distribution over bins of a and b; rebalanced cross-entropy.

  Attributes:
    mean: of a and b, [2].
    deviation: likewise.
    centres: of the bins, [Q, 2].
    weights: of a cell whose colour is nearest to a bin, [Q].
    constant: the distribution with the least loss if nothing is known, [Q].
    constant_loss: its loss on the training views.
  """
  centres: np.ndarray
  weights: np.ndarray
  constant: np.ndarray
  constant_loss: float

  @classmethod
  def create(cls, statistics: Mapping[str, Any]) -> "Bins":
    centres = stored.numbers(statistics["centres"], None, 2)
    count = len(centres)
    stored.numbers(statistics["prior"], count)
    weights = rebalanced(np.asarray(statistics["prior"]))   # [Q]
    return cls(
        stored.numbers(statistics["mean"], 2),
        stored.numbers(statistics["deviation"], 2), centres,
        weights.astype(np.float32),
        stored.numbers(statistics["constant"], count),
        constant_loss=float(stored.numbers(statistics["constant_loss"])))

  @property
  def channels(self) -> int:
    return len(self.centres)

  @property
  def trivial_loss(self) -> float:
    return self.constant_loss

  def error(self, predicted: jax.Array, ab: jax.Array) -> jax.Array:
    """The loss of each cell: logits [..., Q] and colours [..., 2] -> [...]."""
    target = encode(ab, self.centres)                       # [..., Q]
    weight = jnp.asarray(self.weights)[target.argmax(-1)]   # [...]
    return weight * optax.losses.softmax_cross_entropy(predicted, target)

  def constant_error(self, ab: jax.Array) -> jax.Array:
    # A bin that no training colour is near keeps a trace of probability.
    return self.error(jnp.log(self.constant + 1e-6), ab)

  def decode(self, predicted: Any) -> Any:
    """The annealed mean of the distribution (eq. 5): [..., Q] -> [..., 2]."""
    return jax.nn.softmax(predicted / TEMPERATURE) @ self.centres


class Measured:
  """Collects colours, for the statistics of both kinds of targets."""

  def __init__(self):
    self._sums = np.zeros((2, 2))      # of a and b, and of their squares
    # How often each a and b, rounded, occurs; -128 to 127.
    self._counts = np.zeros((256, 256), np.int64)

  def add(self, ab: np.ndarray) -> None:
    """Counts the colours [..., 2]."""
    ab = np.asarray(ab, np.float64).reshape(-1, 2)
    self._sums += [ab.sum(0), (ab**2).sum(0)]
    places = np.round(ab).astype(int) + 128                 # [n, 2]
    self._counts += np.bincount(
        places @ [256, 1], minlength=256**2).reshape(256, 256)

  def regression(self) -> dict[str, Any]:
    """Statistics for `Regression.create`, as JSON values."""
    if not self._counts.any():     # Gray data: the skill will say so.
      self.add(np.zeros((1, 2)))
    mean, square = self._sums / self._counts.sum()
    deviation = np.sqrt(np.maximum(square - mean**2, 1.0))
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}

  def bins(self) -> dict[str, Any]:
    """Statistics for `Bins.create`; colours count as if rounded to 1."""
    statistics, centres = self.regression(), gamut()
    places = np.argwhere(self._counts)                      # [m, 2]
    share = self._counts[tuple(places.T)] / self._counts.sum()  # [m]
    target = np.asarray(
        jax.jit(encode)(places - 128.0, centres), np.float64)  # [m, Q]
    prior = share @ target                                  # [Q]
    weighted = share * rebalanced(prior)[target.argmax(1)]  # [m]
    mass = weighted @ target                                # [Q]
    constant = mass / mass.sum()
    seen = mass > 0
    return statistics | {
        "centres": centres.tolist(), "prior": prior.tolist(),
        "constant": constant.tolist(),
        "constant_loss": float(-(mass * np.log(
            constant, where=seen, out=np.zeros_like(mass))).sum())}

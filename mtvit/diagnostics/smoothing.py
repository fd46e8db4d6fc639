"""Over-smoothing, layer by layer: do patch tokens still tell patches apart?

Cosine alone does not say: it falls when positions are added to tokens that are
otherwise alike. So every token is split in two ways,

  x_ip = mean + image_i + position_p + residual_ip,

and the share of the residual in the sum of squares around the mean is what is
neither the same for all patches of an image nor for all images at a place.
"""

import functools
from typing import Any, Callable, Iterable

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np

from mtvit.diagnostics import rank
from mtvit.models import heads

# Effective rank is of so many patches of each image, evenly spaced.
RANK_PATCHES = 64
# A token that is nearer to the mean token than this, in its own length, differs
# by the rounding of float32.
ROUNDING = 1e-6

# Inputs -> patch tokens [l + 1, b, n, d] and attention [l, b, heads, t+n, t+n].
Encode = Callable[[Any], tuple[jax.Array, jax.Array]]
# Makes the batches anew: inputs of `Encode`, and which rows count, bool [b].
Batches = Callable[[], Iterable[tuple[Any, np.ndarray]]]


def by_layer(
    encode: Encode, batches: Batches, grid: tuple[int, int],
    mesh: jax.sharding.Mesh
) -> list[dict[str, Any]]:
  """All measures of every layer, from two passes over the images.

  Args:
    encode: traceable; layer 0 is what goes into the first block, tokens that
      are not patches come first among queries and keys.
    batches: of one shape, the same on every host.
    grid: rows and columns of patches.
    mesh: where it is computed.

  Returns:
    For each layer `cosine`, of two patches of an image, and `cosine_centred`,
    after the mean token is taken off; `image_share`, `position_share` and
    `residual_share`, which sum to 1, or are 0 if all tokens are the same;
    `effective_rank` of the centred tokens; `attention_entropy`, 1 if uniform,
    and `attention_distance` in patches, None for layer 0.
  """
  add, of_batch = _compiled(encode, grid, mesh)
  position, count = _position_means(add, batches)
  mean = position.mean(axis=1, keepdims=True)               # [l+1, 1, d]
  offset = position - mean                                  # [l+1, n, d]
  sums: dict[str, np.ndarray] = {}
  gram: Any = 0.0
  rounded = [np.float32(x) for x in (mean, offset)]
  for inputs, valid in batches():
    found = jax.device_get(of_batch(inputs, *rounded))
    sample = found.pop("sample")[:, valid].astype(np.float64)
    sample = sample.reshape(len(sample), -1, sample.shape[-1])
    gram = gram + np.stack([x.T @ x for x in sample])       # [l+1, d, d]
    for name, x in found.items():                           # [l+1 or l, b]
      x = x[:, valid].sum(axis=1, dtype=np.float64)
      sums[name] = sums.get(name, 0.0) + x
  sums["position"] = count * np.square(offset).sum(axis=(1, 2))  # [l+1]
  # The embedding has no attention.
  attention = {
      f"attention_{name}": [None, *(sums.pop(name) / count).tolist()]
      for name in ("entropy", "distance")}
  return [
      _row(layer, {name: float(x[layer]) for name, x in sums.items()},
           gram[layer], count)
      | {name: x[layer] for name, x in attention.items()}
      for layer in range(len(gram))]


@functools.cache      # Trained and random parameters share the programs.
def _compiled(
    encode: Encode, grid: tuple[int, int], mesh: jax.sharding.Mesh
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """What is done to a batch, in the first pass and in the second."""
  everywhere = NamedSharding(mesh, P())

  @functools.partial(jax.jit, out_shardings=everywhere)
  def add(inputs, valid):
    return jnp.einsum(
        "lbnd,b->lnd", encode(inputs)[0].astype(jnp.float32),
        valid.astype(jnp.float32), precision="highest")

  @functools.partial(jax.jit, out_shardings=everywhere)
  def of_batch(inputs, mean, offset):
    tokens, attention = encode(inputs)
    return (token_statistics(tokens, mean, offset)
            | attention_statistics(attention, grid))

  return add, of_batch


def _position_means(
    add: Callable[..., Any], batches: Batches
) -> tuple[np.ndarray, int]:
  """The mean token at each place, float64 [l+1, n, d], and how many images."""
  total: Any = 0.0
  count = 0
  for inputs, valid in batches():
    total = total + np.asarray(add(inputs, valid), np.float64)
    count += int(valid.sum())
  return total / count, count


def token_statistics(
    tokens: jax.Array, mean: jax.Array, offset: jax.Array
) -> dict[str, jax.Array]:
  """What one image adds to the measures of tokens, for each layer.

  Args:
    tokens: [l, b, n, d].
    mean: [l, 1, d], over all images and patches.
    offset: [l, n, d], the mean token at each place minus `mean`.

  Returns:
    Mean `cosine` and `cosine_centred` of its patches; sums of squares `image`,
    `residual` and `total`; each [l, b]. `sample` [l, b, k, d]: centred tokens.
  """
  x = tokens.astype(jnp.float32)                            # [l, b, n, d]
  n = x.shape[2]
  y = x - mean[:, None]                                     # [l, b, n, d]
  square = lambda v: jnp.sum(v * v, axis=-1, keepdims=True)
  y = jnp.where(square(y) <= ROUNDING**2 * square(x), 0, y)
  image = y.mean(axis=2, keepdims=True)                     # [l, b, 1, d]
  total = lambda v: square(v).sum(axis=(2, 3))              # [l, b]
  places = np.arange(min(n, RANK_PATCHES)) * n // min(n, RANK_PATCHES)
  return {
      "cosine": pairwise_cosine(x), "cosine_centred": pairwise_cosine(y),
      "image": n * total(image), "total": total(y),
      "residual": total(y - image - offset[:, None]),
      "sample": y[:, :, places]}


def pairwise_cosine(x: jax.Array) -> jax.Array:
  """Mean cosine of different rows: [..., n, d] -> [...].

  The squared sum of unit vectors holds each pair twice, and each vector with
  itself. A row of zeros has cosine 0 with all others; so has a single row.
  """
  n = x.shape[-2]
  unit = heads.normalise(x)                                 # [..., n, d]
  pairs = jnp.square(unit.sum(axis=-2)).sum(axis=-1)        # [...]
  return (pairs - jnp.square(unit).sum(axis=(-2, -1))) / max(n * (n - 1), 1)


def grid_distances(grid: tuple[int, int]) -> np.ndarray:
  """Distances between patches, in patches: float64 [n, n]."""
  places = np.stack(np.divmod(np.arange(grid[0] * grid[1]), grid[1]), axis=1)
  return np.linalg.norm(places[:, None] - places[None], axis=-1)


def attention_statistics(
    attention: jax.Array, grid: tuple[int, int]
) -> dict[str, jax.Array]:
  """Entropy and distance of attention, means over heads and patch queries.

  Args:
    attention: weights, [l, b, heads, t+n, t+n]; the t special tokens first.
    grid: rows and columns of the n patches.

  Returns:
    `entropy` over all keys, divided by the log of their number, so 1 is
    uniform; `distance` from query to key in patches, of the weight that goes to
    patches (Dosovitskiy et al. 2021, figure 7); each [l, b].
  """
  far = jnp.asarray(grid_distances(grid), jnp.float32)      # [n, n]
  n, keys = len(far), attention.shape[-1]
  w = attention[..., keys - n:, :].astype(jnp.float32)      # [l, b, h, n, t+n]
  entropy = -jnp.sum(w * jnp.log(jnp.where(w > 0, w, 1)), axis=-1)
  w = w[..., keys - n:]                                     # [l, b, h, n, n]
  distance = jnp.sum(w * far, axis=-1) / jnp.maximum(w.sum(axis=-1), 1e-12)
  return {
      "entropy": entropy.mean(axis=(2, 3)) / np.log(max(keys, 2)),
      "distance": distance.mean(axis=(2, 3))}


def _row(
    layer: int, sums: dict[str, float], gram: np.ndarray, count: int
) -> dict[str, Any]:
  """The measures of tokens of one layer, from sums over so many images."""
  parts = ("image", "position", "residual")
  whole = sum(sums[name] for name in parts) if sums["total"] > 0 else np.inf
  singular_values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))  # [d]
  return {
      "layer": layer, "cosine": sums["cosine"] / count,
      "cosine_centred": sums["cosine_centred"] / count,
      "effective_rank": rank.effective_rank(singular_values),
      **{f"{name}_share": sums[name] / whole for name in parts}}

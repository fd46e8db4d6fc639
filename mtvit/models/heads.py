"""Task heads: small MLPs that read the encoder's outputs and the queries.

A head is called as `head(features, queries)`. It never gets the answers. The
norms are LayerNorm, so a head needs no mutable collections and no statistics
across devices.
"""

from typing import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtvit.models import interface

Queries = Mapping[str, jax.Array]


def normalise(z: jax.Array) -> jax.Array:
  """Rows of length 1 in float32; zero rows stay zero, with finite gradients.

  The square of what is longer than 1e19 or shorter than 1e-19 is no float32, so
  rows are scaled by their largest value first. Lengths do not change the
  result, so that the scale needs no gradient of its own.
  """
  z = z.astype(jnp.float32)
  largest = jax.lax.stop_gradient(
      jnp.max(jnp.abs(z), axis=-1, keepdims=True))
  # XLA divides by reciprocals, and that of 3e38 would be 0.
  rough = jnp.where(largest > 1, 2.0**-64, 2.0**64)
  scaled = (z * rough) / jnp.where(largest > 0, largest * rough, 1)
  square = jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)
  return scaled * jax.lax.rsqrt(jnp.where(largest > 0, square, 1))


class Mlp(nn.Module):
  """Dense layers with LayerNorm and GELU between.

  Computes in the dtype of its input; norms and the output are float32.

  Attributes:
    hidden: widths of the hidden layers; empty for a linear map.
    out: width of the output.
  """
  hidden: tuple[int, ...]
  out: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dtype = x.dtype
    for i, width in enumerate(self.hidden):
      x = nn.Dense(width, dtype=dtype, name=f"fc{i}")(x)
      x = nn.LayerNorm(dtype=jnp.float32, name=f"norm{i}")(x)
      x = jax.nn.gelu(x.astype(dtype))
    return nn.Dense(self.out, dtype=jnp.float32, name="out")(x)


class TokenHead(nn.Module):
  """Reads one special token: [b, out]."""
  token: str
  hidden: tuple[int, ...]
  out: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: Queries
  ) -> jax.Array:
    del queries
    return Mlp(self.hidden, self.out, name="mlp")(features.tokens[self.token])


class ReadoutHead(nn.Module):
  """A linear map of a special token, or of "gap", the mean patch: [b, out].

  It starts at 0, so that the encoder first learns from a head that knows
  something.
  """
  readout: str
  out: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: Queries
  ) -> jax.Array:
    del queries
    x = features.readout(self.readout)                      # [b, d]
    return nn.Dense(
        self.out, dtype=jnp.float32, name="out",
        kernel_init=nn.initializers.zeros)(x)


class PatchHead(nn.Module):
  """One shared MLP on the patches `queries["ids"]` [b, k]: [b, k, out]."""
  hidden: tuple[int, ...]
  out: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: Queries
  ) -> jax.Array:
    return Mlp(self.hidden, self.out, name="mlp")(features.at(queries["ids"]))


class GroupHead(nn.Module):
  """Order-sensitive MLP on groups `queries["ids"]` [b, m, s]: [b, m, out]."""
  hidden: tuple[int, ...]
  out: int

  @nn.compact
  def __call__(
      self, features: interface.Features, queries: Queries
  ) -> jax.Array:
    b, m, s = queries["ids"].shape
    groups = features.at(queries["ids"].reshape(b, m * s))  # [b, m s, d]
    groups = groups.reshape(b, m, -1)                       # [b, m, s d]
    return Mlp(self.hidden, self.out, name="mlp")(groups)

"""The transformer block, pre-norm as in Dosovitskiy et al. 2021."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

REMAT_POLICIES = ("none", "dots", "full")
# GELU by its tanh approximation (big_vision, AugReg), or exact (timm, DeiT).
ACTIVATIONS = {
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class Attention(nn.Module):
  """Multi-head self-attention with one fused product for q, k and v."""
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[b, t, d] -> the same, and the weights, float32 [b, h, t, t]."""
    d = x.shape[-1]
    e = d // self.heads
    init = nn.initializers.xavier_uniform()
    qkv = nn.DenseGeneral(
        (3, self.heads, e), dtype=self.dtype, name="qkv",
        kernel_init=init)(x)                                # [b, t, 3, h, e]
    q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))             # [b, h, t, e] each
    logits = jnp.einsum("bhqe,bhke->bhqk", q * e**-0.5, k)  # [b, h, t, t]
    weights = jax.nn.softmax(logits.astype(jnp.float32))    # [b, h, t, t]
    out = jnp.einsum("bhqk,bhke->bqhe", weights.astype(self.dtype), v)
    out = nn.DenseGeneral(
        d, axis=(-2, -1), dtype=self.dtype, name="out",
        kernel_init=init)(out)                              # [b, t, d]
    return out, weights


class Block(nn.Module):
  """One pre-norm transformer block, in the form that `nn.scan` wants.

  Attributes:
    heads: of the attention.
    mlp_dim: hidden units of the MLP.
    activation: one of `ACTIVATIONS`.
    dtype: of activations.
    layers: give the output too, for each layer.
    attention: give the attention weights too.
  """
  heads: int
  mlp_dim: int
  activation: str
  dtype: Any
  layers: bool
  attention: bool

  @nn.compact
  def __call__(
      self, x: jax.Array, drop: jax.Array | None
  ) -> tuple[jax.Array, tuple[jax.Array | None, jax.Array | None]]:
    """One layer.

    Args:
      x: [b, t, d].
      drop: for which share of the examples each branch is dropped, or None.

    Returns:
      [b, t, d]; and that again and the attention weights, if asked for.
    """
    y = nn.LayerNorm(dtype=jnp.float32, name="norm1")(x).astype(self.dtype)
    y, weights = Attention(self.heads, self.dtype, name="attn")(y)
    x = x + self._kept(y, drop)
    y = nn.LayerNorm(dtype=jnp.float32, name="norm2")(x).astype(self.dtype)
    dense = lambda dim, name: nn.Dense(
        dim, dtype=self.dtype, name=name,
        kernel_init=nn.initializers.xavier_uniform())
    y = ACTIVATIONS[self.activation](dense(self.mlp_dim, "fc1")(y))
    x = x + self._kept(dense(x.shape[-1], "fc2")(y), drop)  # [b, t, d]
    return x, (
        x if self.layers else None, weights if self.attention else None)

  def _kept(self, y, drop):
    """Drops the branch of some examples, and makes up for it in the others."""
    if drop is None:
      return y
    kept = jax.random.bernoulli(
        self.make_rng("dropout"), 1 - drop, (len(y), 1, 1))  # [b, 1, 1]
    return jnp.where(kept, y / (1 - drop).astype(y.dtype), 0)


def remat(policy: str) -> type[nn.Module]:
  """`Block` under activation rematerialisation; "none" leaves it as is."""
  if policy == "none":
    return Block
  saveable = {
      "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
      "full": jax.checkpoint_policies.nothing_saveable,
  }[policy]
  return nn.remat(Block, prevent_cse=False, policy=saveable)

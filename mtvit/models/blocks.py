"""The transformer block, pre-norm as in Dosovitskiy et al. 2021."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtvit.models import affine
from mtvit.models import chunks
from mtvit.models import cpu_forms
from mtvit.models import recompute
from mtvit.models import self_attention

REMAT_POLICIES = ("none", "dots", "full")
# GELU by its tanh approximation (big_vision, AugReg), or exact (timm, DeiT).
ACTIVATIONS = {
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


def in_dtype(params: Any, dtype: Any) -> Any:
  """An encoder's parameters with the matrices of its blocks in a dtype.

  Cast once, before they are used, they go over the network and into the
  products in it; XLA would fuse the cast into each product, which takes longer.

  Args:
    params: of a model with an `encoder`, float32.
    dtype: of activations.
  """
  if jnp.dtype(dtype) == jnp.float32:
    return params

  def cast(path, x):
    names = [key.key for key in path]
    if names[:2] != ["encoder", "blocks"] or names[-1] != "kernel":
      return x
    return jax.lax.optimization_barrier(x.astype(dtype))

  return jax.tree_util.tree_map_with_path(cast, params)


class Block(nn.Module):
  """One pre-norm transformer block, in the form that `nn.scan` wants.

  Attributes:
    heads: of the attention.
    mlp_dim: hidden units of the MLP.
    activation: one of `ACTIVATIONS`.
    dtype: of activations.
    layers: give the output too, for each layer.
    weights: give the attention weights too.
    layer_scale: where the learned scales of each branch's channels start; 0 for
      none (LayerScale, Touvron et al. 2021, arXiv:2103.17239).
    norm_epsilon: of the norms.
    form: of attention, one of `attention.FORMS`.
    scanned: layers are the steps of a loop.
  """
  heads: int
  mlp_dim: int
  activation: str
  dtype: Any
  layers: bool
  weights: bool
  layer_scale: float = 0.0
  norm_epsilon: float = 1e-6
  form: str = "auto"
  scanned: bool = False

  @nn.compact
  def __call__(
      self, x: jax.Array, drop: jax.Array | None,
      angles: jax.Array | None = None
  ) -> tuple[jax.Array, tuple[jax.Array | None, jax.Array | None]]:
    """One layer.

    Args:
      x: [b, t, d].
      drop: for which share of the examples each branch is dropped, or None.
      angles: see `self_attention.Attention`.

    Returns:
      [b, t, d]; and that again and the attention weights, if asked for.
    """
    x = chunks.row_major(chunks.by_rows(x))
    norm = lambda name: affine.Norm(self.norm_epsilon, name=name)(x.shape[-1])
    attend = self_attention.Attention(
        self.heads, self.dtype, self.form, self.scanned, name="attn")
    y, weights = attend(x, norm("norm1"), angles, self.weights)
    x = chunks.by_rows(x + self._kept(self._scaled(y, 1), drop))
    y = self._mlp(x, *norm("norm2"))
    x = chunks.by_rows(x + self._kept(self._scaled(y, 2), drop))
    return x, (
        x if self.layers else None, weights)

  def _mlp(self, x, params, norm):
    """A norm and the MLP: [b, t, d] -> the same."""
    d = x.shape[-1]
    product = cpu_forms.product if cpu_forms.target() else jnp.matmul

    @recompute.for_gradient
    def widen(x, params, kernel, bias):
      return product(norm(params, x).astype(self.dtype), kernel) + bias

    @recompute.for_gradient
    def narrow(y, kernel, bias):
      return product(ACTIVATIONS[self.activation](y), kernel) + bias

    of_shape = lambda *shape, name: affine.Affine(
        shape[:1], shape[1:], self.dtype, name=name)()
    y = widen(x, params, *of_shape(d, self.mlp_dim, name="fc1"))
    return narrow(y, *of_shape(self.mlp_dim, d, name="fc2"))  # [b, t, d]

  def _scaled(self, y, branch):
    """A branch [b, t, d], each of its channels scaled."""
    if not self.layer_scale:
      return y
    scale = self.param(
        f"layer_scale{branch}", nn.initializers.constant(self.layer_scale),
        y.shape[-1:])
    return y * scale.astype(y.dtype)

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

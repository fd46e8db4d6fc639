"""The transformer block, pre-norm as in Dosovitskiy et al. 2021."""

import functools
import math
from typing import Any, Callable, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtvit.models import attention
from mtvit.models import chunks
from mtvit.models import cpu_forms
from mtvit.models import positions
from mtvit.models import recompute
from mtvit.models import target

REMAT_POLICIES = ("none", "dots", "full")
# GELU by its tanh approximation (big_vision, AugReg), or exact (timm, DeiT).
ACTIVATIONS = {
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class Affine(nn.Module):
  """Kernel and bias of `nn.DenseGeneral`, for products of another form."""
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  dtype: Any

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    """[*inputs, *outputs] and [*outputs], in the dtype of activations."""
    def init(rng, shape):
      flat = math.prod(self.inputs), math.prod(self.outputs)
      return nn.initializers.xavier_uniform()(rng, flat).reshape(shape)
    kernel = self.param("kernel", init, self.inputs + self.outputs)
    bias = self.param("bias", nn.initializers.zeros, self.outputs)
    return kernel.astype(self.dtype), bias.astype(self.dtype)


class Norm(nn.Module):
  """`nn.LayerNorm` as its parameters and a function of arrays."""
  epsilon: float

  @nn.compact
  def __call__(
      self, width: int
  ) -> tuple[dict[str, jax.Array], Callable[..., jax.Array]]:
    """Scale and bias, [width] each, and the function of these and [..., width].

    It gives float32.
    """
    params = {
        "scale": self.param("scale", nn.initializers.ones, (width,)),
        "bias": self.param("bias", nn.initializers.zeros, (width,))}
    norm = nn.LayerNorm(self.epsilon, dtype=jnp.float32, parent=None)

    def apply(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
      return cast(jax.Array, norm.apply({"params": params}, x))
    return params, apply


class Attention(nn.Module):
  """A norm and multi-head self-attention.

  Attributes:
    heads: of it.
    dtype: of activations.
    form: one of `attention.FORMS`.
    scanned: layers are the steps of a loop.
  """
  heads: int
  dtype: Any
  form: str
  scanned: bool

  @nn.compact
  def __call__(
      self, x: jax.Array,
      norm: tuple[dict[str, jax.Array], Callable[..., jax.Array]],
      angles: jax.Array | None = None, weights: bool = False
  ) -> tuple[jax.Array, jax.Array | None]:
    """[b, t, d] -> the same, and the weights, float32 [b, h, t, t], if asked.

    Args:
      x: [b, t, d].
      norm: of a `Norm`, to apply to it.
      angles: by which queries and keys are turned, [1 or b, t, e / 2], or None.
      weights: give them too.
    """
    b, t, d = x.shape
    split = self.heads, d // self.heads
    kernel, bias = Affine((d,), (3, *split), self.dtype, name="qkv")()
    on_cpu = cpu_forms.target()
    qkv = cpu_forms.heads_first if on_cpu else _qkv(
        angles is not None, self.scanned)
    params, normed = norm

    @recompute.for_gradient
    def project(x, params, kernel, bias):
      return qkv(normed(params, x).astype(self.dtype), kernel, bias)

    # [b, t, h, e] each, on a CPU h before t.
    q, k, v = project(x, params, kernel, bias)
    if angles is not None:
      angles = jnp.expand_dims(angles, 1 if on_cpu else 2)
      q, k = (positions.rotate(x, angles) for x in (q, k))
    given = None
    if weights:
      out, given = attention.with_weights(q, k, v, on_cpu)
    else:
      out = attention.attend(q, k, v, self.form, on_cpu)
    kernel, bias = Affine(split, (d,), self.dtype, name="out")()
    if on_cpu:
      out = out.swapaxes(1, 2).reshape(b, t, d)
      out = cpu_forms.product(out, kernel.reshape(d, d))
    elif target.is_tpu() and not self.scanned:
      out = out.reshape(b, t, d) @ kernel.reshape(d, d)
    else:   # What is kept of it for the gradient is what `attend` keeps.
      out = jnp.einsum("bthe,hed->btd", out, kernel)
    return out + bias, given                                # out: [b, t, d]


def _qkv(
    rotary: bool, scanned: bool
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
  """What gives queries, keys and values, [b, t, h, e] each."""
  if target.splits_heads():
    # Each device has its heads, which a flat product would gather.
    return _products
  if not target.is_tpu():
    return _flat
  # In a loop the gradient of `project` is copied between layouts. And the bias
  # of keys that are turned has a gradient.
  return _products if rotary or scanned else project


def _products(x, kernel, bias):
  return tuple(jnp.einsum("btd,dhe->bthe", x, kernel[:, i]) + bias[i]
               for i in range(3))


def _flat(x, kernel, bias):
  b, t, d = x.shape
  y = x @ kernel.reshape(d, -1) + bias.reshape(-1)          # [b, t, 3 d]
  return tuple(jnp.moveaxis(y.reshape(b, t, *bias.shape), 2, 0))


@jax.custom_vjp
def project(
    x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Queries, keys and values of softmax attention; gradients that suit a TPU.

  Three products that end in heads, but the gradients of one flat product: of
  the forms tried, the one for which XLA copies least between layouts. The keys'
  bias gets the gradient 0 that softmax over the keys gives it.

  Args:
    x: [b, t, d].
    kernel: [d, 3, h, e].
    bias: [3, h, e].

  Returns:
    [b, t, h, e] each.
  """
  return _products(x, kernel, bias)


def _project_forward(x, kernel, bias):
  return _products(x, kernel, bias), (x, kernel)


def _project_backward(saved, grads):
  x, kernel = saved
  q, k, v = grads
  # A bias of the keys adds the same to all logits of a query, which softmax
  # does not see.
  bias = jnp.stack([q.sum((0, 1)), jnp.zeros(k.shape[2:], k.dtype),
                    v.sum((0, 1))])                         # [3, h, e]
  flat = jnp.concatenate([g.reshape(x.shape) for g in grads], -1)  # [b, t, 3d]
  dx = jnp.einsum("btn,dn->btd", flat, kernel.reshape(x.shape[-1], -1))
  dkernel = jnp.einsum("btd,btn->dn", x, flat)              # [d, 3 d]
  return dx, dkernel.reshape(kernel.shape), bias


project.defvjp(_project_forward, _project_backward)


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
      angles: see `Attention`.

    Returns:
      [b, t, d]; and that again and the attention weights, if asked for.
    """
    x = chunks.row_major(chunks.by_rows(x))
    norm = lambda name: Norm(self.norm_epsilon, name=name)(x.shape[-1])
    attend = Attention(
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

    affine = lambda *shape, name: Affine(
        shape[:1], shape[1:], self.dtype, name=name)()
    y = widen(x, params, *affine(d, self.mlp_dim, name="fc1"))
    return narrow(y, *affine(self.mlp_dim, d, name="fc2"))  # [b, t, d]

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

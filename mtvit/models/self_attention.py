"""The attention branch of a block: queries, keys, values, and what is read."""

from typing import Any, Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtvit.models import affine
from mtvit.models import attention
from mtvit.models import cpu_forms
from mtvit.models import positions
from mtvit.models import recompute
from mtvit.models import target


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
      norm: of an `affine.Norm`, to apply to it.
      angles: by which queries and keys are turned, [1 or b, t, e / 2], or None.
      weights: give them too.
    """
    b, t, d = x.shape
    split = self.heads, d // self.heads
    kernel, bias = affine.Affine((d,), (3, *split), self.dtype, name="qkv")()
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
    kernel, bias = affine.Affine(split, (d,), self.dtype, name="out")()
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

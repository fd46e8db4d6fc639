"""Forms of a block's parts that XLA's CPU compiler makes fast programs of.

They compute what the others do, up to rounding. For TPUs and GPUs the compiler
chooses layouts itself; here it takes them as they are written.
"""

from typing import Any, Callable

import jax
import jax.numpy as jnp

from mtvit.models import target as target_lib


def target() -> bool:
  """Whether the program that is traced is for CPUs, with all heads on each."""
  return (target_lib.device_kind() == "cpu"
          and not target_lib.splits_heads())


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x @ kernel, with a gradient that copies less.

  The kernel's gradient is a sum over rows. Of rows in two dimensions, [b, t],
  XLA first writes one operand transposed; of two matrices the product reads the
  left one across its rows, which should be the smaller one.

  Args:
    x: [..., k].
    kernel: [k, n].

  Returns:
    [..., n].
  """
  return x @ kernel


def _product_forward(x, kernel):
  return x @ kernel, (x, kernel)


def _product_backward(saved, grad):
  x, kernel = saved
  k, n = kernel.shape
  dx = grad @ kernel.T                                      # [..., k]
  x, grad = x.reshape(-1, k), grad.reshape(-1, n)           # [m, k], [m, n]
  if k <= n:
    return dx, jnp.einsum("mk,mn->kn", x, grad)
  # Without the barrier XLA would swap the operands.
  dkernel = jnp.einsum("mn,mk->nk", grad, x)                # [n, k]
  return dx, jax.lax.optimization_barrier(dkernel).T


product.defvjp(_product_forward, _product_backward)


def dot_general() -> Callable[..., Any] | None:
  """Of an `nn.Dense`: `product` on a CPU, else None, the usual one."""
  return (lambda x, kernel, *_, **__: product(x, kernel)) if target() else None


def heads_first(
    x: jax.Array, kernel: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Queries, keys and values, for products that are one for each head.

  Args:
    x: [b, t, d].
    kernel: [d, 3, h, e].
    bias: [3, h, e].

  Returns:
    [b, h, t, e] each.
  """
  b, t, d = x.shape
  h, e = bias.shape[1:]

  # Flat, since XLA sums rows in two dimensions, for the bias, in a slow way.
  x = x.reshape(b * t, d)                                   # [b t, d]

  def project(kernel, bias):
    y = product(x, kernel.reshape(d, h * e)) + bias.reshape(-1)  # [b t, h e]
    return y.reshape(b, t, h, e).swapaxes(1, 2)             # [b, h, t, e]

  return tuple(project(kernel[:, i], bias[i]) for i in range(3))

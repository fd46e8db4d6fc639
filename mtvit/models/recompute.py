"""What is computed again for the gradient, where reading it would cost more."""

from typing import Any, Callable

import jax

from mtvit.models import target


def after(grad: Any, saved: Any) -> tuple[Any, Any]:
  """A gradient, and what was kept for it, of which more is computed again.

  XLA may not take the two computations for one and hold the result of the
  first, nor do the second before the gradient is there. For TPUs it may, since
  it weighs time against memory there.
  """
  if target.is_tpu():
    return grad, saved
  return jax.lax.optimization_barrier((grad, saved))


def for_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function of arrays that keeps its arguments alone for the gradient.

  As `jax.checkpoint`, but for TPUs, where it leaves the gradient of the result
  free to be fused with what comes before.
  """
  def backward(saved, grad):
    grad, saved = after(grad, saved)
    return jax.vjp(function, *saved)[1](grad)

  made = jax.custom_vjp(lambda *args: function(*args))
  made.defvjp(lambda *args: (function(*args), args), backward)
  return made

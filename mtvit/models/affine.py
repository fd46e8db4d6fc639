"""Kernels, biases and norms whose arithmetic is left to the caller."""

import math
from typing import Any, Callable, cast

import flax.linen as nn
import jax
import jax.numpy as jnp


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

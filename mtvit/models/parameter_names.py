"""The names of parameters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from mtvit.models import interface


def head(task: str) -> str:
  """Of the head of a task, and of the branch of its parameters."""
  return f"head_{task}"


def path_name(path: tuple[Any, ...]) -> str:
  """"params/encoder/embed/kernel" for a key path of jax.tree_util."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


@functools.lru_cache
def encoder_shapes(
    module: interface.Encoder, side: int
) -> dict[str, tuple[int, ...]]:
  """Path -> shape of an encoder's parameters, for images of a side, pixels."""
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
  shapes = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
  return {path_name(path): tuple(x.shape)
          for path, x in jax.tree_util.tree_leaves_with_path(shapes)}

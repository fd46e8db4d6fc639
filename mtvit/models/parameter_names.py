"""The names of parameters."""

from typing import Any

import jax


def path_name(path: tuple[Any, ...]) -> str:
  """"params/encoder/embed/kernel" for a key path of jax.tree_util."""
  return jax.tree_util.keystr(path, simple=True, separator="/")

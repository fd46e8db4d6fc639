"""The names of parameters."""

from typing import Any

import jax


def head(task: str) -> str:
  """Of the head of a task, and of the branch of its parameters."""
  return f"head_{task}"


def path_name(path: tuple[Any, ...]) -> str:
  """"params/encoder/embed/kernel" for a key path of jax.tree_util."""
  return jax.tree_util.keystr(path, simple=True, separator="/")

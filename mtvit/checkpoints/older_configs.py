"""Configs of older checkpoints, in the words of today."""

from typing import Any, Mapping

# The format that brought them -> key -> {old value: new value}.
_RENAMED = {
    6: {"tasks.relative_position.pairs": {"block": "neighbours"}},
}


def translate(config: Any, version: int) -> Any:
  """A config that a checkpoint of this format version holds, as one of today.

  What it says of the past, such as how patches were claimed, it now says of
  what comes nearest to it.
  """
  for since, keys in _RENAMED.items():
    if version < since:
      for key, values in keys.items():
        config = _renamed(config, key.split("."), values)
  return config


def _renamed(
    config: Any, path: list[str], values: Mapping[str, str]
) -> Any:
  """A copy in which the value at the path, if it is there, is another one."""
  first, *rest = path
  if not isinstance(config, Mapping) or first not in config:
    return config
  value = config[first]
  if rest:
    return {**config, first: _renamed(value, rest, values)}
  new = values.get(value, value) if isinstance(value, str) else value
  return {**config, first: new}

"""Configs of older checkpoints, in the words of today."""

from typing import Any, Mapping

from mtvit import config as config_lib

# The format that brought them -> key -> {old value: new value}.
_RENAMED = {
    6: {"tasks.relative_position.pairs": {"block": "neighbours"}},
}


def of_today(config: Mapping[str, Any], version: int) -> dict[str, Any]:
  """What a checkpoint of this format version holds, with every key of today.

  A key that came later has its default, which is what runs did before. A task
  that this program lacks is left out if the run did not use it; its other
  keys that are gone stay, and who parses them names them.
  """
  config = translate(config, version)
  tasks = config.get("tasks")
  if isinstance(tasks, Mapping):
    known = config_lib.defaults()["tasks"]
    off = lambda fields: isinstance(fields, Mapping) and (
        fields.get("mode") == "off")
    config = {**config, "tasks": {
        name: fields for name, fields in tasks.items()
        if name in known or not off(fields)}}
  return config_lib.resolved(config)


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

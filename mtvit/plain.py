"""Configs as plain values: dicts, lists and what JSON has."""

import json
import math
import typing
from typing import Any, Mapping

import ml_collections

from mtvit import errors


def to_plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as dicts, lists and JSON values."""
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  return json.loads(json.dumps(config))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """"key (old -> new)" for every key in which two plain configs differ."""
  old, new = flatten(old), flatten(new)
  return [f"{key} ({old.get(key)} -> {new.get(key)})"
          for key in sorted(old.keys() | new.keys())
          if old.get(key) != new.get(key)]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested keys joined by dots: {"a": {"b": 1}} -> {"a.b": 1}."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def check_type(value: Any, type_: Any, where: str) -> Any:
  """Returns the value as `type_` (an int may be a float); else ConfigError."""
  origin = typing.get_origin(type_)
  if origin is tuple:
    kinds = typing.get_args(type_)
    if not isinstance(value, (tuple, list)) or len(value) != len(kinds):
      raise errors.ConfigError(
          f"{where}={value!r} must be {len(kinds)} values, such as (0, 1)")
    return tuple(check_type(v, k, where) for v, k in zip(value, kinds))
  if origin is not None:
    return value
  if type_ is float and type(value) is int:
    value = float(value)
  if type(value) is not type_:
    raise errors.ConfigError(
        f"{where}={value!r} must be of type {type_.__name__}")
  if type_ is float and math.isnan(value):
    raise errors.ConfigError(f"{where} is nan")
  return value

"""Configs as plain values: dicts, lists and what JSON has."""

import json
from typing import Any, Mapping

import ml_collections


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

"""Configs as plain values: dicts, lists and what JSON has."""

import dataclasses
import json
import math
import typing
from typing import TYPE_CHECKING, Any, Mapping, Sequence, TypeVar

import ml_collections

from mtvit import errors

if TYPE_CHECKING:
  from _typeshed import DataclassInstance

Section = TypeVar("Section", bound="DataclassInstance")
# How long a run is; whoever continues it may change that.
LENGTH = ("total_steps", "total_epochs")
# Where its files are; those of who continues it may be elsewhere.
PLACES = ("data.cache_dir", "data.data_dir")


def to_plain(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as dicts, lists and JSON values."""
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  return json.loads(json.dumps(config))


def defaults(section: type) -> dict[str, Any]:
  """The defaults of a dataclass whose fields are keys, or sections of keys."""
  result = {}
  for field in dataclasses.fields(section):
    if field.default_factory is not dataclasses.MISSING:
      result[field.name] = field.default_factory()
    elif dataclasses.is_dataclass(field.default) and not isinstance(
        field.default, type):
      result[field.name] = dataclasses.asdict(field.default)
    elif field.default is not dataclasses.MISSING:
      result[field.name] = field.default
  return result


def over(
    values: Mapping[str, Any], others: Mapping[str, Any]
) -> dict[str, Any]:
  """All values, and of the others those whose keys they lack.

  None without another value is a placeholder that nobody filled: left out.
  """
  result = dict(others)
  for key, value in values.items():
    if value is None and key not in others:
      continue
    both = isinstance(value, Mapping) and isinstance(others.get(key), Mapping)
    result[key] = over(value, others[key]) if both else value
  return result


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
  """"key (old -> new)" for every key in which two plain configs differ."""
  old, new = flatten(old), flatten(new)
  return [f"{key} ({old.get(key)} -> {new.get(key)})"
          for key in sorted(old.keys() | new.keys())
          if old.get(key) != new.get(key)]


def check_same(
    saved: Mapping[str, Any], config: Mapping[str, Any],
    free: Sequence[str] = ()
) -> None:
  """Refuses to go on with another config than a checkpoint's.

  Args:
    saved: of the checkpoint, plain.
    config: to go on with, plain.
    free: keys that may differ.

  Raises:
    ConfigError: others differ; it names them.
  """
  changed = changes(saved, config)
  keys = {change.partition(" ")[0] for change in changed}
  if keys - set(free):
    longer = keys <= set(LENGTH)
    raise errors.ConfigError(
        "the run in this workdir has another config: " + ", ".join(changed),
        "to train it for longer, --config.total_steps=N and --workdir, without "
        "--config; else another --workdir" if longer else
        "another --workdir, or --allow_config_change")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested keys joined by dots: {"a": {"b": 1}} -> {"a.b": 1}."""
  flat: dict[str, Any] = {}
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
    if not isinstance(value, origin):
      raise errors.ConfigError(f"{where} must be a section")
    return value
  if type_ is float and type(value) is int and abs(value) < 2**53:
    value = float(value)
  if type(value) is not type_:
    raise errors.ConfigError(
        f"{where}={value!r} must be of type {type_.__name__}")
  if type_ is float and math.isnan(value):
    raise errors.ConfigError(f"{where} is nan")
  if type_ is float and math.isinf(value):
    raise errors.ConfigError(f"{where}={value} must be finite")
  if type_ is str and "\0" in value:
    raise errors.ConfigError(f"{where}={value!r} must not contain 0 bytes")
  return value


def parse_section(
    kind: type[Section], values: Mapping[str, Any], prefix: str = "",
    sections: Mapping[str, type] | None = None
) -> Section:
  """A section as its dataclass, whose fields are the keys.

  A key that is missing has the default of its field.

  Args:
    kind: the dataclass; a field of another dataclass is a section in it.
    values: plain.
    prefix: what messages put before a key, such as "optimizer.".
    sections: field -> dataclass, if another than the type of the field.

  Raises:
    ConfigError: names the key, what is wrong, and the nearest right name.
  """
  fields: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(kind)}
  fields |= sections or {}
  parsed = {}
  for key, value in values.items():
    if key not in fields:
      raise errors.ConfigError(
          f"{prefix}{key}: no such key" + errors.suggest(key, fields))
    type_, where = fields[key], f"{prefix}{key}"
    if isinstance(type_, type) and dataclasses.is_dataclass(type_):
      if not isinstance(value, dict):
        raise errors.ConfigError(f"{where} must be a section")
      parsed[key] = parse_section(type_, value, prefix=f"{where}.")
    else:
      parsed[key] = check_type(value, type_, where)
  try:
    return kind(**parsed)
  except ValueError as e:
    raise errors.ConfigError(prefix + str(e).removeprefix(prefix)) from e

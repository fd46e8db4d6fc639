"""--config=FILE and --config.KEY=VALUE, in any order; --plugin=MODULE.

`ml_collections` wants the file first, since it tells the types of its keys. A
run that is continued has its config in its checkpoint, and so needs no file.
"""

import difflib
import importlib
import pathlib
import re
from typing import Any, Mapping, NoReturn, Sequence

from absl import flags
import ml_collections
from ml_collections import config_flags

from mtvit import errors
from mtvit.run import config_values
from mtvit.run import flag_errors
from mtvit.run import paths

_FILE = re.compile("--?config(=|$)")
_PLUGIN = re.compile("--?plugin(=|$)")
_OVERRIDE = re.compile(r"--?(no)?config\.")


def in_order(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Puts --config before what overrides it.

  Args:
    arguments: of a command, without its name.

  Returns:
    The arguments to parse; and the overrides, if there is no --config, which
    then are not among those.

  Raises:
    ConfigError: --config is neither a file nor missing.
  """
  files: list[str] = []
  overrides: list[str] = []
  others: list[str] = []
  left = list(arguments)
  while left:
    kind = (files if _FILE.match(left[0]) else
            overrides if _OVERRIDE.match(left[0]) else others)
    kind.append(left.pop(0))
    # "--config FILE"; a switch stands alone, or another flag comes next.
    if kind is not others and "=" not in kind[-1] and left and (
        not left[0].startswith("-")):
      kind.append(left.pop(0))
  for i, word in enumerate(files):
    value = re.sub("^--?config=?", "", word)
    if value or word.endswith("="):
      files[i] = word.removesuffix(value) + with_file(value)
  if files:
    return [*files, *overrides, *others], []
  return others, overrides


def with_file(value: str) -> str:
  """NAME:ARGUMENT with the file of the shipped config NAME in its place.

  Raises:
    ConfigError: no such config is shipped, or it is no file.
  """
  name, colon, argument = value.partition(":")
  if not value:
    _refuse("", names())
  if re.fullmatch(r"\w+", name):
    if name not in names():
      _refuse(name, names())
    name = str(flag_errors.CONFIGS / f"{name}.py")
  paths.check_file(**{"--config": name})
  if not pathlib.Path(name).is_file():
    _refuse(name, names())
  return name + colon + argument


def _refuse(given: str, known: Sequence[str]) -> NoReturn:
  """Raises ConfigError: no shipped config has this name, and no file."""
  path = pathlib.Path(given)
  close = difflib.get_close_matches(path.stem, known, n=1)
  if path.is_dir() and given:
    beside = [file.name for file in sorted(path.glob("*.py"))[:5]]
    raise errors.ConfigError(
        f"--config={given} is a folder", f"--config={path / beside[0]}"
        if beside else "--config=NAME of a shipped config, or a Python file")
  what = (f"there is no file {given}" if given != path.stem
          else f"no shipped config has the name {given}" if given
          else "it names no config")
  shipped = ", ".join(known)
  if close:
    what += f" (did you mean {close[0]}?)" * (close[0] != path.stem)
    fix = f"--config={close[0]}, which works from any folder"
  else:
    fix = (f"a shipped config by its name ({shipped}), from any folder, or "
           "PATH/FILE.py")
  raise errors.ConfigError(f"--config={given}: {what}", fix)


def names() -> list[str]:
  """The shipped configs."""
  return sorted(
      file.stem for file in flag_errors.CONFIGS.glob("*.py")
      if "def get_config(" in file.read_text(encoding="utf-8"))


def config_help() -> str:
  """What --help says of --config."""
  return (
      f"A shipped config by its name ({', '.join(names())}), or PATH/FILE.py. "
      "--config=NAME:OPTION=VALUE sets what its first lines name, as in "
      "cifar10:variant=nano/4, and --config.KEY=VALUE any key, as in "
      "--config.tasks.jigsaw.mode=off.")


def import_plugins(arguments: Sequence[str]) -> None:
  """Imports the modules of --plugin=MODULE, which list what they add.

  This comes before a config is read, which may have keys of theirs.

  Raises:
    ConfigError: there is no such module.
  """
  words = iter(arguments)
  for word in words:
    if not _PLUGIN.match(word):
      continue
    _, equals, module = word.partition("=")
    module = module if equals else next(words, "")
    try:
      importlib.import_module(module)
    except (ModuleNotFoundError, ValueError, TypeError) as e:
      if getattr(e, "name", None) not in (None, *_parents(module)):
        raise
      raise errors.ConfigError(
          f"--plugin={module}: there is no such module",
          "the import path of one in this folder, on PYTHONPATH or installed"
      ) from e


def _parents(module: str) -> list[str]:
  """"a.b.c" -> "a", "a.b", "a.b.c"."""
  parts = module.split(".")
  return [".".join(parts[:n + 1]) for n in range(len(parts))]


def keys(overrides: Sequence[str]) -> set[str]:
  """The keys that --config.KEY=VALUE names, such as "data.cache_dir"."""
  return {_OVERRIDE.sub("", word).partition("=")[0]
          for word in overrides if _OVERRIDE.match(word)}


def overridden(
    values: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
  """A plain config, changed by --config.KEY=VALUE.

  Raises:
    ConfigError: there is no such key, or its value has another type.
  """
  if not overrides:
    return dict(values)
  own, argv = flags.FlagValues(), ["", *overrides]
  with flag_errors.clear():
    # Lists are JSON's tuples.
    config = ml_collections.ConfigDict(_with_tuples(values))
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=own, sys_argv=argv)
    own(argv)
    return config_values.to_plain(own.config)


def _with_tuples(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _with_tuples(x) for key, x in value.items()}
  return tuple(map(_with_tuples, value)) if isinstance(value, list) else value

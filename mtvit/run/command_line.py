"""--config=FILE and --config.KEY=VALUE, in any order; --plugin=MODULE.

`ml_collections` wants the file first, since it tells the types of its keys. A
run that is continued has its config in its checkpoint, and so needs no file.
"""

import contextlib
import importlib
import pathlib
import re
from typing import Any, Iterator, Mapping, Sequence

from absl import flags
import ml_collections
from ml_collections import config_flags

from mtvit import errors
from mtvit.run import config_values
from mtvit.run import paths

# The configs that are shipped, by name.
CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
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
    if value:
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
  if re.fullmatch(r"\w+", name):
    shipped = CONFIGS / f"{name}.py"
    if not shipped.is_file():
      raise errors.ConfigError(
          f"--config={name}: no such config is shipped"
          + errors.suggest(name, names()),
          "--config=PATH/FILE.py for one of your own")
    name = str(shipped)
  paths.check_file(**{"--config": name})
  return name + colon + argument


def names() -> list[str]:
  """The shipped configs."""
  return sorted(
      file.stem for file in CONFIGS.glob("*.py")
      if file.stem not in ("__init__", "common"))


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
  with clear_errors():
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


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
  """Makes what parsing flags raises a ConfigError."""
  try:
    yield
  except flags.Error as e:
    # A config file that raises comes with its traceback; the last line says it.
    lines = [line for line in str(e).splitlines() if line.strip()]
    raise errors.ConfigError(
        "command line: " + " ".join([lines[0], *lines[1:][-1:]])) from e
  except (AttributeError, KeyError, ValueError, TypeError, OSError) as e:
    # From the config file, or from an override of it.
    raise errors.ConfigError(f"--config: {one_line(e)}") from e


def one_line(error: Exception) -> str:
  """The message of an error; that of a KeyError without its quotes."""
  text = str(error.args[0] if error.args else error)
  # ml_collections raises KeyErrors of the text of KeyErrors.
  text = text.replace("\\n", " ").replace("\\'", "'")
  return " ".join(text.split()).strip("'")

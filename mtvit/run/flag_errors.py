"""What is wrong with a command line or a config file, in two lines.

absl and ml_collections put messages into messages; what is told here is the
innermost error, and, if it is a config file's, the line.
"""

import contextlib
import difflib
import importlib
import pathlib
import re
import sys
import sysconfig
import traceback
from typing import Iterator

from absl import flags

from mtvit import errors

PACKAGE = pathlib.Path(__file__).parents[1]
# The configs that are shipped; in a checkout, on the top level.
CONFIGS = pathlib.Path(importlib.import_module("mtvit.configs").__path__[0])
_TRACE = "--traceback shows the way to it"
_NO_VALUE = "is no value"
# What parsers of values raise, and what they mean.
_REASONS = (
    (r"invalid literal for int|'float' object cannot be interpreted as an int",
     "must be a whole number"),
    (r"could not convert string to float|invalid literal for float",
     "must be a number"),
    (r"[Nn]on-boolean argument", "must be true or false"),
    (r"is not (a )?non-negative", "must be 0 or more"),
    (r"is not (a )?positive", "must be above 0"),
    (r"invalid syntax|malformed node|was never closed|unterminated|"
     r"could not be parsed|invalid decimal|leading zeros",
     _NO_VALUE))


@contextlib.contextmanager
def clear() -> Iterator[None]:
  """Makes what parsing flags raises a ConfigError; a crash stays one."""
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:
    raise _explained(e) from e


def _explained(error: Exception) -> errors.ConfigError:
  """The error, for its user."""
  if isinstance(error, flags.UnrecognizedFlagError):
    return _no_such_flag(error.flagname)
  inner = innermost(error)
  if isinstance(inner, errors.ConfigError):
    return inner
  if missing := re.match("Missing value for flag --?(.+)", str(error)):
    return errors.ConfigError(
        f"--{missing[1]} has no value", f"--{missing[1]}=VALUE")
  if told := in_config(error):
    return told
  if "no attribute 'get_config'" in str(inner):
    return errors.ConfigError(
        "the file of --config has no function get_config",
        "def get_config(arg=\"\"), as the shipped ones in mtvit/configs have")
  if isinstance(inner, KeyError | AttributeError):
    return _no_such_key(str(inner.args[0]), str(error))
  found = re.match(r"flag --([\w.]+)=(.*?): (.*)", str(error), re.S)
  if found:
    return _illegal(found[1], found[2], found[3], inner)
  # Of what absl wraps, the inner error tells more; of ml_collections, theirs.
  best = inner if isinstance(error, flags.Error) else error
  return errors.ConfigError(f"--config: {one_line(best)}")


def innermost(error: BaseException) -> BaseException:
  """What was raised first, of errors that were raised over others."""
  seen: list[BaseException] = []
  while error not in seen:
    seen.append(error)
    error = error.__cause__ or error.__context__ or error
  return error


def in_config(error: BaseException) -> errors.ConfigError | None:
  """What a config file of the user's raised; None if none did."""
  inner = innermost(error)
  fix = f"correct that line; {_TRACE}"
  if isinstance(inner, SyntaxError) and _is_users(inner.filename or ""):
    return errors.ConfigError(
        f"{_place(inner.filename, inner.lineno)}: {inner.msg}", fix)
  steps = traceback.extract_tb(inner.__traceback__)
  loads = next((i for i, step in enumerate(steps) if step.filename.endswith(
      "config_flags.py") or _is_ours(step.filename)), len(steps))
  theirs = [step for step in steps[loads:] if _is_users(step.filename)]
  if not theirs:
    return None
  if isinstance(inner, ModuleNotFoundError):
    fix = (f"install {inner.name}, or have its folder on PYTHONPATH; the "
           "shipped configs are `from mtvit.configs import common`")
  told = one_line(inner)
  return errors.ConfigError(
      f"{_place(theirs[-1].filename, theirs[-1].lineno)}: "
      f"{type(inner).__name__}" + f": {told}" * (told != ""), fix)


def _place(file: str | None, line: int | None) -> str:
  return f"{file}, line {line}"


def _is_users(file: str) -> bool:
  """Whether a file is neither ours nor installed."""
  path = pathlib.Path(file).absolute()
  return path.is_file() and not _is_ours(file) and (
      "site-packages" not in path.parts) and not path.is_relative_to(
          sysconfig.get_path("stdlib"))


def _is_ours(file: str) -> bool:
  path = pathlib.Path(file).resolve()
  # In a checkout the configs stand beside the package.
  return any(map(path.is_relative_to, (PACKAGE.resolve(), CONFIGS.resolve())))


def _no_such_flag(name: str) -> errors.ConfigError:
  """With the nearest flag."""
  known = [x for x in flags.FLAGS if flags.FLAGS[x].name == x]
  first, dot, key = name.partition(".")
  if first == "config":
    return errors.ConfigError(
        f"--{name}: this command has no --config",
        "the command without it, or --workdir of a run with another config")
  close = difflib.get_close_matches(first, known, n=1)
  return errors.ConfigError(
      f"there is no flag --{name}"
      + (f" (did you mean --{close[0]}{dot}{key}?)" if close else ""),
      "--help lists the flags")


def _no_such_key(name: str, said: str) -> errors.ConfigError:
  """With the nearest key, which ml_collections names."""
  name = name.partition("\n")[0].strip("'\"")
  word = next((x.partition("=")[0] for x in sys.argv
               if re.match(r"--?(no)?config\.", x)
               and name in x.partition("=")[0].split(".")), "--config")
  close = re.search('[Dd]id you mean "([^"]+)"', said)
  return errors.ConfigError(
      f"{word}: there is no key {name}"
      + (f" (did you mean {close[1]}?)" if close else ""),
      "the keys are in config.json of a run, and in mtvit/config.py")


def _illegal(
    flag: str, value: str, reason: str, inner: BaseException
) -> errors.ConfigError:
  """What a flag does not take."""
  told = one_line(inner)
  if flag == "config":
    value = re.sub(rf"^{re.escape(str(CONFIGS))}/(\w+)\.py", r"\1", value)
    if "get_config() takes 0 positional" in told:
      return errors.ConfigError(
          f"--config={value}: this config takes no option",
          f"--config={value.partition(':')[0]}")
    return errors.ConfigError(f"--config={value}: {told}")
  for pattern, must in _REASONS:
    if re.search(pattern, f"{reason} {told}"):
      return errors.ConfigError(
          f"--{flag}={value} {must}",
          f"--{flag}.KEY=VALUE for a key of a section"
          if must is _NO_VALUE else "")
  return errors.ConfigError(f"--{flag}={value}: {told}")


def one_line(error: BaseException) -> str:
  """The message of an error; that of a KeyError without its quotes."""
  text = error.args[0] if isinstance(error, KeyError) and error.args else error
  # ml_collections raises KeyErrors of the text of KeyErrors.
  text = str(text).replace("\\n", " ").replace("\\'", "'")
  text = " ".join(text.split())
  if text[:1] in "'\"" and text[-1:] == text[:1] and text.count(text[:1]) == 2:
    text = text[1:-1]
  return text or type(error).__name__

"""What can go wrong for a user, and the exit code that says which it was.

0 done, 75 preempted (saved; run the command again), 2 configuration,
3 non-finite loss, 4 data, 5 checkpoint, 130 Ctrl-C at once, 1 crash, lost
process or full disk.
"""

import contextlib
import difflib
import errno
import re
from typing import Any, Iterable, Iterator, Sequence

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)      # Of an OSError.


class UserError(Exception):
  """An error with a clear message: what is wrong, and what to do.

  Attributes:
    exit_code: of the program.
    alone: whether, of several processes, only one may have it; then it does
      not wait for the others when it exits.
  """
  exit_code = 1
  alone = False

  def __init__(self, what: str, fix: str = ""):
    super().__init__(printable(f"{what}\n  fix: {fix}" if fix else what))


def printable(text: str) -> str:
  """A message whose control characters became escapes, but for line ends.

  It may hold names from a stranger's files, and a terminal obeys some of them.
  """
  return "".join(
      c if c.isprintable() or c == "\n"
      else c.encode("unicode_escape").decode("ascii") for c in text)


class ConfigError(UserError):
  """The configuration or the command line is wrong."""
  exit_code = 2


class NonFiniteError(UserError):
  """The loss became nan or infinite."""
  exit_code = 3


class DataError(UserError):
  """The data can't be read or do not suffice."""
  exit_code = 4
  alone = True


class CheckpointError(UserError):
  """A checkpoint can't be restored."""
  exit_code = 5


class LostProcess(UserError):
  """Another process of the run died."""
  alone = True


class DiskFull(UserError):
  """A file can't be written."""
  alone = True


class Preempted(UserError):
  """The run was asked to stop; it has saved and can be continued."""
  exit_code = 75


@contextlib.contextmanager
def unwritable(what: str, fix: str) -> Iterator[None]:
  """Has an OSError of what is written inside say what it was, and what to do.

  A full disk is left to the program: its fix is another one.

  Raises:
    ConfigError: `what` can't be written.
  """
  try:
    yield
  except OSError as e:
    if e.errno in DISK_FULL:
      raise
    raise ConfigError(f"{what} can't be written: {e.strerror}", fix) from e


def by_name(name: str) -> type[UserError]:
  """The class of that name among `UserError` and what derives from it."""
  found = [UserError]
  for kind in found:
    found += kind.__subclasses__()
  return next((kind for kind in found if kind.__name__ == name), UserError)


def suggest(name: str, known: Iterable[str]) -> str:
  """" (did you mean X?)" for a misspelt name, or the names that exist."""
  known = list(known)
  close = difflib.get_close_matches(name, known, n=1)
  if close:
    return f" (did you mean {close[0]}?)"
  return f" (there are: {', '.join(known)})"


def check_ranges(**ranges: tuple[float, float, float]) -> None:
  """Raises ValueError naming the first of name=(value, low, high) outside."""
  for name, (value, low, high) in ranges.items():
    if not low <= value <= high:
      raise ValueError(f"{name}={value} must lie in {low} .. {high}")


def check_patterns(**patterns: str) -> None:
  """Raises ValueError naming the first that is no regular expression."""
  for name, pattern in patterns.items():
    try:
      re.compile(pattern)
    except re.error as e:
      raise ValueError(
          f"{name}={pattern!r} is no regular expression: {e}") from e


def check_choices(**choices: tuple[Any, Sequence[Any]]) -> None:
  """Raises ValueError naming the first of name=(value, allowed) outside."""
  for name, (value, allowed) in choices.items():
    if value not in allowed:
      raise ValueError(
          f"{name} is {value!r}; choose one of {', '.join(map(str, allowed))}")

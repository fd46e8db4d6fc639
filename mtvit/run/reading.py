"""Reads files that may be damaged, from another version, or no files at all.

What is written for people (reports, results, caches) is used only if every byte
of it is as it was written: `sealed` adds a digest to JSON, `sealed_line` to a
line of a file that grows, and the readers check them. Older files have none and
are taken as they are. What can't be used raises `Unusable`, whose message says
why; whoever reads then leaves it out, or makes it anew, and says so.

Only regular files are opened, since a FIFO would wait for a writer, and how
much is read, and how deep it may be nested, is limited before it is read.
"""

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
from typing import Any, BinaryIO, Iterator, Mapping, NamedTuple
import zlib

from etils import epath

from mtvit.run import paths

# Bytes: of a JSON file, of a file of JSON lines, and of one line.
MOST_JSON, MOST_LINES, LONGEST_LINE = 2**25, 2**28, 2**20
DEEPEST = 20            # Objects and lists inside each other.
_FORMAT = 2             # Of sealed JSON; what came before had no mark.
_FIRST, _LAST = "format", "digest"
_SEALED_LINE = re.compile(rb'(\{.+), "crc32": ([0-9]{1,10})\}')
# Of a few bytes each, they would take a hundred times their size.
_MOST_VALUES = 2**21


class Unusable(ValueError):
  """Why a file is not used, such as "is not a regular file"."""


def regular(file: str, flags: int) -> int:
  """An `opener` for `open` that takes regular files only, and never waits.

  Raises:
    OSError: it can't be opened, or is a folder, a FIFO or a device.
  """
  handle = os.open(file, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise OSError(errno.EINVAL, "is not a regular file", file)
  return handle


@contextlib.contextmanager
def opened(file: os.PathLike[str]) -> Iterator[tuple[BinaryIO, int]]:
  """Opens a file to read; yields it and its size in bytes.

  Raises:
    FileNotFoundError: there is no such file.
    Unusable: it can't be read.
  """
  path = epath.Path(file)
  try:
    with paths.os_errors(path):
      if paths.is_remote(path):
        size = path.stat().length
        with path.open("rb") as f:
          yield io.BufferedReader(_Object(f)), size
      else:
        with open(path, "rb", opener=regular) as f:
          yield f, os.fstat(f.fileno()).st_size
  except (FileNotFoundError, NotADirectoryError) as e:
    raise FileNotFoundError(*e.args) from e
  except OSError as e:
    raise Unusable(e.strerror or str(e)) from e


class _Object(io.RawIOBase):
  """A file of TensorFlow's, whose lines have no limit, as one of Python's."""

  def __init__(self, file: Any):
    super().__init__()
    self._file = file

  def readable(self) -> bool:
    return True

  def readinto(self, buffer: Any) -> int:
    data = self._file.read(len(buffer))
    buffer[:len(data)] = data
    return len(data)


def content(file: os.PathLike[str], most: int = MOST_JSON) -> bytes:
  """All of a file that has at most so many bytes; raises what `opened` does."""
  with opened(file) as (f, size):
    if size > most:
      raise Unusable(f"has {size:,} bytes, more than {most:,}")
    data = f.read(most + 1)
    if len(data) > most:
      raise Unusable(f"has more than {most:,} bytes")
    return data


def parse(data: bytes) -> Any:
  """JSON in UTF-8; numbers that are not finite become None.

  Raises:
    Unusable: it is not JSON, nested too deeply, or of too many values.
  """
  try:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _MOST_VALUES:
      raise Unusable("holds too many values")
    value = json.loads(
        data.decode("utf-8"), parse_constant=lambda name: None,
        parse_float=_finite)
    check_depth(value)
    return value
  except RecursionError as e:
    raise Unusable("is nested too deeply") from e
  except Unusable:
    raise
  except ValueError as e:            # UnicodeDecodeError is one, too.
    raise Unusable(f"is not JSON: {str(e)[:100]}") from e


def _finite(text: str) -> float | None:
  number = float(text)
  return number if math.isfinite(number) else None


def check_depth(value: Any, most: int = DEEPEST) -> None:
  """Raises Unusable if JSON has more objects and lists inside each other."""
  level, depth = [value], 0
  while level:
    level = [
        child for item in level if isinstance(item, dict | list) for child in
        (item.values() if isinstance(item, dict) else item)]
    depth += 1
    if depth > most:
      raise Unusable("is nested too deeply")


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
  """A JSON object with a mark in front and its digest at the end.

  Numbers that are not finite become None, as they do when it is read.
  """
  finite = json.loads(
      json.dumps(dict(value)), parse_constant=lambda name: None)
  return {_FIRST: _FORMAT} | finite | {_LAST: _digest(finite)}


def _digest(value: Mapping[str, Any]) -> str:
  """BLAKE2b of a JSON value, whatever the order of its keys."""
  return hashlib.blake2b(
      json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def read_json(file: os.PathLike[str]) -> Any:
  """What a JSON file holds, without what `sealed` has added.

  Raises:
    FileNotFoundError: there is no such file.
    Unusable: it can't be used, or is not what was written.
  """
  return unsealed(content(file))


def unsealed(data: bytes) -> Any:
  """The same of what a file has."""
  value = parse(data)
  if not isinstance(value, dict) or not {_FIRST, _LAST} & value.keys():
    return value                     # As versions before this one wrote it.
  mark, digest = value.pop(_FIRST, None), value.pop(_LAST, None)
  if mark != _FORMAT and digest is not None:
    raise Unusable("is of another version, or damaged")
  if digest != _digest(value):
    raise Unusable("is not what was written: its digest is another")
  return value


class Lines(NamedTuple):
  """What a file of JSON lines holds.

  Attributes:
    good: the lines that can be used: objects with an integer `step`.
    bad: how many can't be.
    why: it can't be read at all, or not all of it; "" if it can.
  """
  good: list[dict[str, Any]]
  bad: int = 0
  why: str = ""

  def complaints(self) -> list[str]:
    """What to say of it after its name; nothing if all is well."""
    found = [self.why] if self.why else []
    if self.bad:
      found.append(f"has {self.bad} damaged line{'s' * (self.bad > 1)} of "
                   f"{self.bad + len(self.good)}, left out")
    return found


def sealed_line(value: Mapping[str, Any]) -> str:
  """A line, with its end, for a file of JSON lines: with a checksum."""
  body = json.dumps(dict(value))[:-1]
  return f'{body}, "crc32": {zlib.crc32(body.encode())}}}\n'


def read_lines(file: os.PathLike[str]) -> Lines:
  """The lines of a file that `sealed_line` made, or a version before it.

  A process that is killed, or a full disk, may cut a line short. Of a file that
  has one line with a checksum, those without one are damaged.
  """
  good, bad, why = [], 0, ""         # Of (whether it is sealed, line).
  try:
    with opened(file) as (f, size):
      if size > MOST_LINES:
        why = f"has more than {MOST_LINES:,} bytes; the rest is not read"
      for raw in _raw_lines(f):
        try:
          good.append(_line(raw))
        except Unusable:
          bad += 1
  except FileNotFoundError:
    return Lines([])
  except Unusable as e:
    why = str(e)
  all_sealed = any(is_sealed for is_sealed, _ in good)
  kept = [line for is_sealed, line in good if is_sealed or not all_sealed]
  return Lines(kept, bad + len(good) - len(kept), why)


def _raw_lines(f: BinaryIO) -> Iterator[bytes]:
  """Lines without their ends; of what is too long, the first part."""
  left = MOST_LINES
  while left > 0:
    line = f.readline(min(LONGEST_LINE + 1, left))
    if not line:
      return
    left, rest = left - len(line), line
    while rest and not rest.endswith(b"\n") and left > 0:
      rest = f.readline(min(LONGEST_LINE, left))
      left -= len(rest)
    if line.strip():
      yield line.rstrip(b"\r\n")


def _line(raw: bytes) -> tuple[bool, dict[str, Any]]:
  """(whether it is sealed, a line); raises Unusable."""
  if len(raw) > LONGEST_LINE:
    raise Unusable("is too long")
  found = _SEALED_LINE.fullmatch(raw)
  if found and zlib.crc32(found[1]) != int(found[2]):
    raise Unusable("is not what was written")
  line = parse(found[1] + b"}" if found else raw)
  step = line.get("step") if isinstance(line, dict) else None
  if type(step) is not int or not 0 <= step < 2**62 or "crc32" in line:
    raise Unusable("is not a line with a step")
  return bool(found), line

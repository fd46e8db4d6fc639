"""Arrays in a file of weights, and how much is believed of such a file.

What a file claims of itself is held against these limits before memory or time
is spent on it. All are far above any Vision Transformer that there is.
"""

import collections
import contextlib
import re
from typing import Callable, Iterable, Iterator, NamedTuple

import numpy as np

from mtvit import errors

MAX_HEADER = 2**22                 # Bytes of a file's table of contents.
MAX_TENSORS = 10_000
MAX_NAME = 200                     # Characters.
MAX_TEXT = 2**22                   # Bytes of an array of text; 4 for a letter.
# Uncompressed arrays have at most so many times the bytes of their file, and
# so many bytes more. Weights hardly compress, unless they are not trained.
MAX_RATIO, SLACK = 16, 2**26
_SHOWN = 6                         # Names in a list, before it is a summary.


class Tensor(NamedTuple):
  """An array in a file.

  Attributes:
    shape: of it.
    dtype: of it, as the file's format calls it.
    floating: whether it can be weights; `read` then gives float32.
    read: gives it, checked for values that are not finite.
  """
  shape: tuple[int, ...]
  dtype: str
  floating: bool
  read: Callable[[], np.ndarray]


class Unbelievable(ValueError):
  """A file claims to be larger than any such file is."""

  def __init__(
      self, what: str, count: int, limit: int,
      fix: str = "no Vision Transformer needs that; get another file"):
    super().__init__(f"{what}: {count:,}, and at most {limit:,} are believed")
    self.fix = fix


@contextlib.contextmanager
def guard(what: object) -> Iterator[None]:
  """Makes of whatever a damaged file raises a CheckpointError.

  Args:
    what: the file, or the array in it.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as e:        # The libraries raise what they stumble upon.
    why = " ".join(str(e).split())[:200] or type(e).__name__
    raise errors.CheckpointError(
        f"{what} can't be read: {why}",
        getattr(e, "fix", "get the file again")) from e


def check_names(names: Iterable[str]) -> None:
  """Raises ValueError if there are too many, a long or an unprintable one."""
  names = list(names)
  if len(names) > MAX_TENSORS:
    raise Unbelievable("arrays in it", len(names), MAX_TENSORS)
  for name in names:
    if len(name) > MAX_NAME:
      raise Unbelievable(
          f"letters of the name {name[:40]!r}...", len(name), MAX_NAME)
    if not name.isprintable():
      raise ValueError(f"an array has the name {name!r}")
  if len(set(names)) < len(names):
    name = collections.Counter(names).most_common(1)[0][0]
    raise ValueError(f"there are two arrays {name}")


def to_float32(x: np.ndarray, what: str) -> np.ndarray:
  """Floating point as float32.

  Raises:
    CheckpointError: a value is not finite.
  """
  if x.dtype == np.dtype("V2"):                           # big_vision's npz.
    x = (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
  with np.errstate(over="ignore", invalid="ignore"):
    x = x.astype(np.float32, copy=False)
  if not np.isfinite(x).all():
    raise errors.CheckpointError(
        f"{what} has values that are not finite", "another file")
  return x


def listed(names: Iterable[str]) -> str:
  """Names for a message; many are put together by their first part."""
  names = sorted(names)
  if len(names) <= _SHOWN:
    return ", ".join(names)
  groups = collections.Counter(re.split("[./]", name)[0] for name in names)
  shown = [name if count == 1 else f"{name} ({count} arrays)"
           for name, count in sorted(groups.items())[:_SHOWN]]
  more = len(groups) - len(shown)
  return ", ".join(shown) + (f" and {more} more" if more else "")

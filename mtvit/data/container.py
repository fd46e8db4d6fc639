"""Arrays in a file that is whole, or not used: the format of all caches.

  16 bytes    what it is, and the version
  32 bytes    BLAKE2b of all that follows
   8 bytes    size of the file, little endian
   8 bytes    size of the header, likewise
  header      JSON: {"about": text, "arrays": [[name, type, shape], ...]}
  arrays      in that order, C order, each from a multiple of 64 bytes on

A reader says what it wants. Only if the size of the file is what that takes,
memory is taken for it, and only if the digest is right, it is used.
"""

import hashlib
import json
import math
from typing import Any, BinaryIO, Iterator, Mapping, Sequence

import numpy as np

from mtvit.run import reading

_MAGIC = b"mtvit arrays 1\n\0"
_DIGEST, _NUMBER, _UNIT = 32, 8, 64
_FIXED = len(_MAGIC) + _DIGEST + 2 * _NUMBER
_MOST_HEADER, _CHUNK = 2**16, 2**24
TYPES = ("|u1", "<i4", "<f4")

# Name -> type and shape; None for a length that the file may tell.
Wanted = Mapping[str, tuple[Any, Sequence[int | None]]]


def write(f: BinaryIO, about: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays.

  Args:
    f: to write to.
    about: what a reader has to ask for, such as the key of a cache.
    arrays: of one of `TYPES`, by name.
  """
  arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  for name, x in arrays.items():
    if x.dtype.str not in TYPES:
      raise ValueError(f"{name} is {x.dtype}")
  told = json.dumps({"about": about, "arrays": [
      [name, x.dtype.str, list(x.shape)] for name, x in arrays.items()]})
  header = _padded(told.encode("ascii"), b" ")
  size = _FIXED + len(header) + sum(
      _rounded(x.nbytes) for x in arrays.values())
  sizes = _number(size) + _number(len(header))

  def parts() -> Iterator[Any]:
    yield sizes
    yield header
    for x in arrays.values():
      yield x.reshape(-1).view(np.uint8)
      yield bytes(_rounded(x.nbytes) - x.nbytes)

  digest = hashlib.blake2b(digest_size=_DIGEST)
  for part in parts():
    digest.update(part)
  f.write(_MAGIC + digest.digest())
  for part in parts():
    f.write(part)


def read(
    f: BinaryIO, size: int, about: str, wanted: Wanted
) -> dict[str, np.ndarray]:
  """Reads arrays.

  Args:
    f: to read from.
    size: of the file, bytes.
    about: what `write` was told.
    wanted: the arrays that it has to hold, in any order.

  Raises:
    Unusable: it is damaged, or holds something else.
  """
  fixed = _exactly(f, _FIXED)
  if not fixed.startswith(_MAGIC):
    raise reading.Unusable("is of another format")
  claimed, length = (
      int.from_bytes(fixed[i:i + _NUMBER], "little")
      for i in (_FIXED - 2 * _NUMBER, _FIXED - _NUMBER))
  if claimed != size or length > min(_MOST_HEADER, size):
    raise reading.Unusable("is of another size than it says")
  header = _exactly(f, length)
  shapes = _shapes(reading.parse(header), about, wanted)
  total = _FIXED + length + sum(
      _rounded(np.dtype(kind).itemsize * math.prod(shape))
      for kind, shape in shapes.values())
  if total != size:
    raise reading.Unusable("is of another size than its arrays")
  digest = hashlib.blake2b(digest_size=_DIGEST)
  digest.update(fixed[len(_MAGIC) + _DIGEST:])
  digest.update(header)
  arrays = {
      name: _array(f, kind, shape, digest)
      for name, (kind, shape) in shapes.items()}
  if digest.digest() != fixed[len(_MAGIC):len(_MAGIC) + _DIGEST]:
    raise reading.Unusable("is not what was written: its digest is another")
  return arrays


def _array(
    f: BinaryIO, kind: str, shape: tuple[int, ...], digest: hashlib.blake2b
) -> np.ndarray:
  """The next array; the digest takes in what is read."""
  x = np.empty(shape, kind)
  raw = x.reshape(-1).view(np.uint8)
  for start in range(0, len(raw), _CHUNK):
    part = raw[start:start + _CHUNK]
    part[:] = np.frombuffer(_exactly(f, len(part)), np.uint8)
  digest.update(raw.data)
  digest.update(_exactly(f, _rounded(x.nbytes) - x.nbytes))
  return x


def _shapes(
    header: Any, about: str, wanted: Wanted
) -> dict[str, tuple[str, tuple[int, ...]]]:
  """Name -> type and shape of a header that holds what is wanted."""
  if not isinstance(header, dict) or header.get("about") != about:
    raise reading.Unusable("is about something else")
  shapes, found = {}, header.get("arrays")
  rows = found if isinstance(found, list) else []
  for row in rows:
    if not (isinstance(row, list) and len(row) == 3
            and isinstance(row[0], str) and row[0] in wanted):
      raise reading.Unusable("holds other arrays")
    name, kind, shape = row
    type_, wanted_shape = wanted[name]
    if kind not in TYPES or kind != np.dtype(type_).str or not _fits(
        shape, wanted_shape):
      raise reading.Unusable(f"holds another {name}")
    shapes[name] = kind, tuple(shape)
  if shapes.keys() != wanted.keys() or len(rows) != len(wanted):
    raise reading.Unusable("holds other arrays")
  return shapes


def _fits(found: Any, wanted: Sequence[int | None]) -> bool:
  """Whether a shape is the wanted one."""
  return isinstance(found, list) and len(found) == len(wanted) and all(
      type(x) is int and x >= 0 and (w is None or x == w)
      for x, w in zip(found, wanted))


def _exactly(f: BinaryIO, count: int) -> bytes:
  data = f.read(count)
  if len(data) != count:
    raise reading.Unusable("is cut short")
  return data


def _number(value: int) -> bytes:
  return value.to_bytes(_NUMBER, "little")


def _rounded(count: int) -> int:
  return -(-count // _UNIT) * _UNIT


def _padded(data: bytes, filling: bytes) -> bytes:
  return data.ljust(_rounded(len(data)), filling)

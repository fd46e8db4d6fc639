"""The members of a tar archive, and where the bytes of each begin.

POSIX (ustar, pax) and GNU archives, of which only the headers are read.
Python's tarfile keeps every member in memory, and reads as much as a header
claims.
"""

import os
from typing import BinaryIO, Iterator, NamedTuple
import zlib

from mtvit import errors

BLOCK = 512
_MOST_NAME = 2**16         # Bytes of a long name.
_MOST_PAX = 2**20          # Bytes of the records about one member.
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"), (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"), (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"PK\3\4", "zip", "unzip it, and tar cf the files"))
_LINKS = {b"1": "hard link", b"2": "symbolic link"}
_NO_DATA = b"123456V"      # Links, devices, folders, FIFOs, volume labels.
_FILES = b"\x000" + b"7"


class Member(NamedTuple):
  """A member of an archive.

  Attributes:
    name: may have had any bytes.
    start: where its bytes begin; the `BLOCK` before is its header.
    size: bytes.
    mark: CRC-32 of its header.
    refused: what it is in the place of an ordinary file; else "".
  """
  name: str
  start: int
  size: int
  mark: int
  refused: str = ""


class Damaged(ValueError):
  """Why the rest of an archive can't be read."""


def check_is_tar(file: BinaryIO, shown: str) -> None:
  """Raises DataError unless a file begins as an archive that is not packed."""
  head = file.read(BLOCK)
  for start, name, remedy in _COMPRESSED:
    if head.startswith(start):
      raise errors.DataError(
          f"{shown} is compressed by {name}; images are read in any order, "
          "which takes a plain tar", f"unpack it: {remedy}")
  if not head:
    raise errors.DataError(f"{shown} is empty", "make or copy it again")
  if head.strip(b"\0") and not _is_header(head):
    raise errors.DataError(
        f"{shown} is not a tar archive, or its beginning is damaged",
        "make or copy it again, or give a pattern without it")


def walk(file: BinaryIO, size: int) -> Iterator[Member]:
  """The members of an archive but for folders, in order.

  Args:
    file: of it.
    size: of the file, bytes.

  Raises:
    Damaged: what follows can't be read; what came before is whole.
  """
  at = 0
  told: dict[str, str] = {}         # Of the next member, before its header.
  while at < size:
    head = _read(file, at, BLOCK, size)
    if not head.strip(b"\0"):
      return
    if not _is_header(head):
      raise Damaged(f"has no header at byte {at:,}")
    kind, length = head[156:157], _number(head[124:136])
    start = at + BLOCK
    if kind in b"xXLK":
      most = _MOST_NAME if kind in b"LK" else _MOST_PAX
      if length > most:
        raise Damaged(f"has a header of {length:,} bytes at byte {at:,}")
      data = _read(file, start, length, size)
      told |= _pax(data) if kind in b"xX" else (
          {"path": _text(data)} if kind == b"L" else {})
      at = _after(start, length)
      continue
    if kind == b"S":
      start = _skip_map(file, head, start, size)
    member = _member(head, kind, start, length, told)
    told = {}
    at = _after(start, 0 if kind in _NO_DATA else member.size)
    if start + (0 if kind in _NO_DATA else member.size) > size:
      raise Damaged(f"is cut off in {member.name}")
    if kind not in b"5g" and not (
        kind == b"\0" and member.name.endswith("/")):
      yield member


def _member(
    head: bytes, kind: bytes, start: int, length: int, told: dict[str, str]
) -> Member:
  """A member by its header and by what was told of it before."""
  name = _text(head[:100])
  prefix = _text(head[345:500]) if head[257:263] == b"ustar\0" else ""
  if prefix:
    name = f"{prefix}/{name}"
  refused = _LINKS.get(kind, "" if kind in _FILES else "not an ordinary file")
  if kind == b"S" or any(key.startswith("GNU.sparse.") for key in told):
    refused = "sparse file"
  if "size" in told:
    try:
      length = int(told["size"])
    except ValueError as e:
      raise Damaged(f"has no size of {name}") from e
  if length < 0:
    raise Damaged(f"has no size of {name}")
  return Member(
      told.get("GNU.sparse.name") or told.get("path") or name, start, length,
      zlib.crc32(head), refused)


def _is_header(block: bytes) -> bool:
  """Whether a block has the checksum that it claims."""
  if len(block) < BLOCK:
    return False
  try:
    claimed = _number(block[148:156])
  except Damaged:
    return False
  others = block[:148] + b" " * 8 + block[156:]
  total = sum(others)
  # Some old programs took the bytes for signed ones.
  return claimed == total or (
      claimed == total - 256 * sum(x > 127 for x in others))


def _number(field: bytes) -> int:
  """A number in octal digits, or in base 256; raises Damaged."""
  if field[:1] in (b"\x80", b"\xff"):
    return int.from_bytes(field[1:], "big") - (
        256 ** (len(field) - 1) if field[:1] == b"\xff" else 0)
  digits = field.partition(b"\0")[0].strip()
  try:
    return int(digits or b"0", 8)
  except ValueError as e:
    raise Damaged("has a header without a number") from e


def _text(field: bytes) -> str:
  return os.fsdecode(field.partition(b"\0")[0])


def _pax(data: bytes) -> dict[str, str]:
  """Lines of "LENGTH KEY=VALUE"; raises Damaged."""
  told, at = {}, 0
  while at < len(data) and data[at]:
    digits = data[at:at + 8].partition(b" ")[0]
    length = int(digits) if digits.isdigit() else 0
    record = data[at:at + length]
    key, equals, value = record[len(digits) + 1:-1].partition(b"=")
    if len(record) < length or not equals or not record.endswith(b"\n"):
      raise Damaged("has a damaged pax header")
    told[os.fsdecode(key)] = os.fsdecode(value)
    at += length
  return told


def _skip_map(file: BinaryIO, head: bytes, start: int, size: int) -> int:
  """Where the bytes of GNU's sparse file begin, after the map of its holes."""
  more = head[482]
  while more:
    more = _read(file, start, BLOCK, size)[504]
    start += BLOCK
  return start


def _after(start: int, length: int) -> int:
  """The block after some bytes."""
  return start + -(-length // BLOCK) * BLOCK


def _read(file: BinaryIO, at: int, count: int, size: int) -> bytes:
  """Bytes of a file; raises Damaged where it ends before."""
  if count < 0 or at + count > size:
    raise Damaged(f"is cut off at byte {size:,}")
  file.seek(at)
  data = file.read(count)
  if len(data) < count:
    raise Damaged(f"is cut off at byte {at + len(data):,}")
  return data

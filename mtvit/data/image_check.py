"""Judges an image file by its header and its last bytes."""

import struct
from typing import Any, BinaryIO, NamedTuple

from mtvit.data import images

_TAIL = 4096      # So many last bytes show whether a file is whole.
_NO_IMAGE = ("HTML", "text", "media", "PDF")


class Checked(NamedTuple):
  """What a file is.

  Attributes:
    width: pixels, before any EXIF rotation; 0 if refused.
    height: likewise.
    decoder: "tensorflow" or "pillow"; "" if refused.
    reason: why it is refused, as "kind" or "kind: detail"; else "".
    final: whether the same bytes will always give the same answer.
  """
  width: int = 0
  height: int = 0
  decoder: str = ""
  reason: str = ""
  final: bool = True


def check(path: str, size: int, max_pixels: int) -> Checked:
  """Judges a file by its header and its end; decodes only if they leave doubt.

  Args:
    path: of a regular file.
    size: of it, bytes.
    max_pixels: larger images are never decoded here.
  """
  if size == 0:
    return Checked(reason="empty file")
  try:
    with open(path, "rb") as file:
      return _check(file, size, max_pixels)
  except OSError as e:
    return Checked(reason=f"can't be read: {e.strerror or e}", final=False)


def _check(file: BinaryIO, size: int, max_pixels: int) -> Checked:
  head = file.read(images.HEAD)
  name = images.format_of(head)
  if name not in images.READERS:
    return Checked(reason=_no_reader(name))
  file.seek(0)
  try:
    if name == "WEBP":      # Pillow's class would read and allocate all of it.
      width, height, image = *images.webp_size(head), None
    else:
      image = images.READERS[name](file)
      width, height = image.size
    whole, tail = _ends_well(name, file, head, size)
  except Exception as e:    # Pillow raises whatever its parsers trip over.
    if isinstance(e, OSError) and e.errno is not None:
      raise
    return _damaged(name, e)
  if whole:
    return Checked(width, height, _decoder(name, image, head, tail))
  if width * height > max_pixels:
    return Checked(width, height, "pillow", final=False)
  file.seek(0)
  try:
    images.decode_pillow(file.read(), max_pixels)
  except Exception as e:
    return _damaged(name, e)
  # Pillow could read it; TensorFlow is stricter about how a file ends.
  return Checked(width, height, "pillow")


def _no_reader(name: str) -> str:
  """Why a file of such a format is refused."""
  if not name:
    return "not an image"
  if name in _NO_IMAGE:
    return f"not an image: {name}"
  return f"{name} is not supported: convert it to PNG or JPEG"


def _damaged(name: str, error: Exception) -> Checked:
  text = " ".join(str(error).split()) or type(error).__name__
  return Checked(reason=f"truncated or damaged: {name}, {text[:100]}")


def _ends_well(
    name: str, file: BinaryIO, head: bytes, size: int
) -> tuple[bool, bytes]:
  """(whether the end shows that the file is whole, the last bytes)."""
  header_end = file.tell()      # Of a JPEG: where its scans begin.
  start = max(0, size - _TAIL)
  file.seek(start)
  tail = file.read(_TAIL)
  if name == "JPEG":
    # In scans FF is never followed by D9 but at the end. An EXIF thumbnail,
    # which ends likewise, lies before them.
    end = tail.rfind(b"\xff\xd9")
    return end >= 0 and start + end >= header_end, tail
  if name == "PNG":
    return b"\0\0\0\0IEND\xae\x42\x60\x82" in tail, tail
  if name == "GIF":
    return tail.rstrip(b"\0").endswith(b"\x3b"), tail
  if name == "WEBP":
    return int.from_bytes(head[4:8], "little") + 8 <= size, tail
  if name == "AVIF":
    return _boxes_fill(file, size), tail
  offset, _, width, height, _, bits, packed = struct.unpack_from(
      "<IIiiHHI", head, 10)
  rows = abs(height) * ((width * bits + 31) // 32 * 4)
  return _plain_bmp(head) and offset + rows <= size and packed == 0, tail


def _boxes_fill(file: BinaryIO, size: int) -> bool:
  """Whether the top-level boxes of an AVIF file end where the file does."""
  at = 0
  while at < size:
    file.seek(at)
    header = file.read(16)
    length = int.from_bytes(header[:4], "big")
    if length == 1:
      length = int.from_bytes(header[8:16], "big")
    if length == 0:             # Up to the end of the file.
      return True
    if length < 8:
      return False
    at += length
  return at == size


def _plain_bmp(head: bytes) -> bool:
  """Whether a BMP has 24 bits a pixel, uncompressed, in today's layout."""
  header, = struct.unpack_from("<I", head, 14)
  bits, packed = struct.unpack_from("<HI", head, 28)
  return header >= 40 and bits == 24 and packed == 0


def _decoder(name: str, image: Any, head: bytes, tail: bytes) -> str:
  """Who decodes a file right: "tensorflow" where it does, as the faster one."""
  if name == "JPEG":
    native = image.mode in ("L", "RGB")
  elif name == "PNG":
    depth, kind = head[24], head[25]
    native = (
        depth == 8 and kind in (0, 2) and "transparency" not in image.info
        and not getattr(image, "is_animated", False)
        and b"eXIf" not in tail)      # Legal after the pixels, too.
  else:
    native = name == "BMP"            # `_ends_well` passes plain ones only.
  native = native and images.orientation(image.info.get("exif", b"")) == 1
  return "tensorflow" if native else "pillow"



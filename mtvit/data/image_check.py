"""Judges an image file by its header and its end, or by decoding it."""

import io
import struct
from typing import Any, BinaryIO, Callable, NamedTuple

from mtvit.data import color_profile
from mtvit.data import image_headers
from mtvit.data import images

_TAIL = 4096      # So many last bytes show whether a file is whole.
_NO_IMAGE = ("HTML", "text", "media", "PDF")
_FULLY = 2**24    # Pixels of the largest picture that is decoded on request.


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


class _Part(io.RawIOBase):
  """Some bytes of a file, as a file of their own."""

  def __init__(self, file: BinaryIO, start: int, size: int):
    super().__init__()
    self._file, self._start, self._size = file, start, size
    self._at = 0

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
    self._at = max(0, bases[whence] + offset)
    return self._at

  def readinto(self, buffer: Any) -> int:
    self._file.seek(self._start + self._at)
    data = self._file.read(min(len(buffer), max(0, self._size - self._at)))
    buffer[:len(data)] = data
    self._at += len(data)
    return len(data)


def check(
    path: str, size: int, max_pixels: int,
    native: Callable[[bytes], Any] | None = None, start: int = 0
) -> Checked:
  """Judges a file by its header and its end; decodes only if they leave doubt.

  Args:
    path: of a regular file.
    size: of it, bytes.
    max_pixels: larger images are never decoded here.
    native: decodes plain files, or raises. If it is given, all of the file is
      decoded, unless the picture is large.
    start: of an image inside a larger file: where its `size` bytes begin.
  """
  if size == 0:
    return Checked(reason="empty file")
  try:
    with open(path, "rb", buffering=0) as file:
      part = io.BufferedReader(_Part(file, start, size))
      return _check(part, size, max_pixels, native)
  except (OSError, MemoryError) as e:
    why = getattr(e, "strerror", None) or str(e) or "out of memory"
    return Checked(reason=f"can't be read: {why}", final=False)


def _check(
    file: BinaryIO, size: int, max_pixels: int,
    native: Callable[[bytes], Any] | None
) -> Checked:
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
    whole, plain = _judge(name, image, file, head, size)
  except Exception as e:    # Pillow raises whatever its parsers trip over.
    _raise_if_passing(e)
    return _damaged(name, e)
  found = Checked(width, height, "tensorflow" if plain else "pillow")
  if whole and (native is None or width * height > min(_FULLY, max_pixels)):
    return found
  if width * height > max_pixels:
    return Checked(width, height, "pillow", final=False)
  return _decoded(name, found, file, max_pixels, native if whole else None)


def _decoded(
    name: str, found: Checked, file: BinaryIO, max_pixels: int,
    native: Callable[[bytes], Any] | None
) -> Checked:
  """What a file is, by decoding it as a run will."""
  try:
    if native and found.decoder == "tensorflow":
      file.seek(0)
      native(file.read())
      return found
  except Exception as e:    # Pillow is less strict.
    _raise_if_passing(e)
  try:
    images.decode_file(file, max_pixels)
  except Exception as e:
    _raise_if_passing(e)
    return _damaged(name, e)
  return found._replace(decoder="pillow")


def _raise_if_passing(error: Exception) -> None:
  """Raises the error again if it tells nothing of the file."""
  if isinstance(error, MemoryError) or (
      isinstance(error, OSError) and error.errno is not None):
    raise error


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


def _judge(
    name: str, image: Any, file: BinaryIO, head: bytes, size: int
) -> tuple[bool, bool]:
  """(whether a look at it shows that Pillow can read it, whether it is plain).

  Args:
    name: of the format.
    image: opened by Pillow; None for WebP.
    file: of it, where Pillow has left it.
    head: its first bytes.
    size: of it.
  """
  if name == "PNG":
    chunks = image_headers.png_chunks(file, size)
    plain = image_headers.plain_png(head, chunks, size)
    return chunks.usual, plain and _is_upright_srgb(image)
  if name == "JPEG":
    return _judge_jpeg(image, file, size)
  if name == "WEBP":
    return int.from_bytes(head[4:8], "little") + 8 <= size, False
  if name == "AVIF":
    return _boxes_fill(file, size), False
  if name == "GIF":         # Its first picture is quickly decoded.
    return False, False
  # TensorFlow reads few kinds of BMP, and those only without a byte behind.
  offset, header, width, height, _, bits, packed = struct.unpack_from(
      "<IIiiHHI", head, 10)
  rows = abs(height) * ((width * bits + 31) // 32 * 4)
  return (header >= 40 and bits == 24 and packed == 0
          and offset + rows <= size), False


def _judge_jpeg(image: Any, file: BinaryIO, size: int) -> tuple[bool, bool]:
  """See `_judge`."""
  header_end = file.tell()      # Where the scans begin.
  tail = _tail(file, size)
  # In scans FF is never followed by D9 but at the end. An EXIF thumbnail,
  # which ends likewise, lies before them.
  end = tail.rfind(b"\xff\xd9")
  whole = end >= 0 and size - len(tail) + end >= header_end
  file.seek(0)
  known = image_headers.plain_jpeg(file.read(header_end))
  # Few files are of other kinds. Whether Pillow can read them has to be seen.
  return whole and known, known and _is_upright_srgb(image)


def _tail(file: BinaryIO, size: int) -> bytes:
  file.seek(max(0, size - _TAIL))
  return file.read(_TAIL)


def _is_upright_srgb(image: Any) -> bool:
  """Whether a picture is right as its numbers are."""
  return images.orientation(image) == 1 and not color_profile.matters(
      image.info.get("icc_profile"), image.mode)


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

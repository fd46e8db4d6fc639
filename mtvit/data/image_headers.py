"""Which files TensorFlow is known to decode right, told by their headers.

TensorFlow's decoders are the faster ones, but they are strict, and they know
nothing of colour, transparency or orientation. So they get only what is
positively plain: what these functions don't know goes through Pillow.
"""

from typing import BinaryIO, NamedTuple

_FRAMES = (0xC0, 0xC1, 0xC2)      # Baseline, extended and progressive Huffman.
_SAMPLINGS = (0x11, 0x12, 0x21, 0x22, 0x41)
_TEXTS = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})
_MOST_CHUNKS = 100_000


def plain_jpeg(header: bytes) -> bool:
  """Whether a JPEG has 8 bits and is gray or YCbCr, in an ordinary layout.

  Args:
    header: of the file, up to its first scan at least.
  """
  jfif, adobe, frame = False, None, b""
  at = 2
  while at + 4 <= len(header) and header[at] == 0xFF:
    kind = header[at + 1]
    if kind == 0xFF:        # Padding.
      at += 1
      continue
    length = int.from_bytes(header[at + 2:at + 4], "big")
    body = header[at + 4:at + 2 + length]
    if kind == 0xDA:
      return _plain_frame(frame, jfif, adobe)
    if kind == 0xE0 and body.startswith(b"JFIF\0"):
      jfif = True
    elif kind == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
      adobe = body[11]
    elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8):
      if frame or kind not in _FRAMES:
        return False
      frame = body
    if length < 2 or kind < 0xC0 or at + 2 + length > len(header):
      return False
    at += 2 + length
  return False


def _plain_frame(frame: bytes, jfif: bool, adobe: int | None) -> bool:
  """Whether a frame header is that of 8-bit gray or YCbCr."""
  if len(frame) < 6 or frame[0] != 8 or not any(frame[1:3]):
    return False
  if frame[5] == 1:
    return len(frame) == 9
  if frame[5] != 3 or len(frame) != 15:
    return False
  ids, samplings = frame[6::3], frame[7::3]
  # The decoders' own rules, where they leave no doubt.
  ycc = (jfif and adobe is None) or adobe == 1 or (
      adobe is None and ids == b"\1\2\3")
  return ycc and samplings[0] in _SAMPLINGS and samplings[1:] == b"\x11\x11"


class Chunks(NamedTuple):
  """The chunks of a PNG.

  Attributes:
    before: names of those before the pixels.
    after: names of those after them.
    end: where the last one ends, bytes; 0 if it isn't there.
  """
  before: frozenset[bytes]
  after: frozenset[bytes]
  end: int

  @property
  def usual(self) -> bool:
    """Whether they are complete, and none is that decoders may not know."""
    critical = {x for x in self.before | self.after if x[:1].isupper()}
    return (self.end > 0 and critical <= {b"IHDR", b"PLTE"}
            and b"acTL" not in self.before)


def png_chunks(file: BinaryIO, size: int) -> Chunks:
  """Lists the chunks of a PNG file of so many bytes."""
  before: set[bytes] = set()
  after: set[bytes] = set()
  found, at, end = before, 8, 0
  for _ in range(_MOST_CHUNKS):
    file.seek(at)
    head = file.read(8)
    at += 12 + int.from_bytes(head[:4], "big")
    if len(head) < 8 or at > size:
      break
    if head[4:] == b"IDAT":
      found = after
    elif head[4:] == b"IEND":
      end = at
      break
    else:
      found.add(head[4:])
  return Chunks(frozenset(before), frozenset(after), end)


def plain_png(head: bytes, chunks: Chunks, size: int) -> bool:
  """Whether a PNG has 8 bits, is gray or RGB, and needs nothing else.

  Args:
    head: its first 33 bytes at least.
    chunks: of it.
    size: of the file, bytes.
  """
  depth, kind, compression, filtering, interlacing = head[24:29]
  return (
      depth == 8 and kind in (0, 2) and not compression and not filtering
      and interlacing in (0, 1) and chunks.usual and chunks.end == size
      and b"tRNS" not in chunks.before
      # Whoever reads the header has not seen these.
      and not chunks.after & _TEXTS)

"""Formats of image files, and the right RGB of what TensorFlow can't decode.

TensorFlow decodes ordinary files (`image_headers`). What it decodes wrongly or
not at all (CMYK, rotation, 16 bits, palettes, transparency, animations, colours
other than sRGB, BMP, GIF, WebP, AVIF) goes through Pillow. Formats are told by
content, and their Pillow classes are called directly: `Image.open` would try
every plugin, and has a pixel limit of its own that is global to the process.
"""

import io
import struct
from typing import BinaryIO, Callable

from PIL import AvifImagePlugin
from PIL import BmpImagePlugin
from PIL import GifImagePlugin
from PIL import Image
from PIL import ImageFile
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import WebPImagePlugin
import numpy as np

from mtvit.data import color_profile

# Part of the keys of everything that is cached: raise it when a file may be
# judged or decoded differently than before.
VERSION = 3

READERS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,     # MPO too: its first picture
    "PNG": PngImagePlugin.PngImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"BM", "BMP"),
    (b"GIF87a", "GIF"), (b"GIF89a", "GIF"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"), (b"\0\0\1\0", "ICO"), (b"v/1\1", "OpenEXR"),
    (b"%PDF", "PDF"), (b"P1\n", "PBM"), (b"P2\n", "PGM"), (b"P3\n", "PPM"),
    (b"P4\n", "PBM"), (b"P5\n", "PGM"), (b"P6\n", "PPM"))

HEAD = 256        # So many first bytes tell the format.


def format_of(head: bytes) -> str:
  """Format of a file by its first `HEAD` bytes; "" if unknown."""
  for start, name in _STARTS:
    if head.startswith(start):
      return name
  if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
    return "WEBP"
  if head[4:8] == b"ftyp":
    brands = head[8:min(int.from_bytes(head[:4], "big"), len(head))]
    names = {brands[i:i + 4] for i in range(0, len(brands), 4)}
    if names & {b"avif", b"avis"}:
      return "AVIF"
    return "HEIC" if names & {b"heic", b"heix", b"mif1", b"hevc"} else "media"
  text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
  if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
    return "HTML"
  if text.startswith((b"<svg", b"<?xml")):
    return "SVG" if b"<svg" in text else "text"
  return "text" if text and all(32 <= c < 127 or c in b"\t\r\n" for c in head
                                ) else ""


def webp_size(head: bytes) -> tuple[int, int]:
  """(width, height) in the first chunk of a WebP file."""
  kind = head[12:16]
  if kind == b"VP8X":
    return (int.from_bytes(head[24:27], "little") + 1,
            int.from_bytes(head[27:30], "little") + 1)
  if kind == b"VP8L" and head[20:21] == b"\x2f":
    bits, = struct.unpack_from("<I", head, 21)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
  if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF
  raise ValueError("no image in its first chunk")


def orientation(image: Image.Image) -> int:
  """The orientation of a picture, 1 to 8; 1 if there is none.

  It is found wherever `PIL.ImageOps.exif_transpose` finds it: in EXIF data, in
  the text that ImageMagick makes of them, or in XMP. Of a PNG that is not
  loaded only what stands before the pixels counts.
  """
  try:
    # The method of its class would load a PNG.
    value = Image.Image.getexif(image).get(0x112, 1)
    return int(value) if value in range(1, 9) else 1
  except Exception:         # Its parsers raise whatever they trip over.
    return 1


def decode_pillow(data: bytes, max_pixels: int) -> np.ndarray:
  """Decodes a file's (first) picture to RGB, upright.

  Transparency shows white; 16 bits are scaled to 8; colours become sRGB.

  Args:
    data: of the file.
    max_pixels: width times height at most.

  Returns:
    uint8 [h, w, 3].

  Raises:
    ValueError: too many pixels, or no supported format.
    Exception: whatever Pillow raises on a damaged file.
  """
  return decode_file(io.BytesIO(data), max_pixels)


def decode_file(file: BinaryIO, max_pixels: int) -> np.ndarray:
  """`decode_pillow` of an open file, of which it reads what it needs."""
  file.seek(0)
  head = file.read(HEAD)
  name = format_of(head)
  if name not in READERS:
    raise ValueError("not a supported image")
  if name == "WEBP":
    check_pixels(*webp_size(head), max_pixels)
  file.seek(0)
  with READERS[name](file) as image:
    check_pixels(image.width, image.height, max_pixels)
    image.load()
    return upright_rgb(image)


def upright_rgb(image: Image.Image) -> np.ndarray:
  """A loaded picture as `decode_pillow` gives it: uint8 [h, w, 3]."""
  rgb = _to_rgb(image)
  turn = orientation(image)
  # EXIF says which sides of the picture the stored row 0 and column 0 are.
  if turn in (2, 3, 6, 7):
    rgb = rgb[:, ::-1] if turn < 5 else rgb[::-1]
  if turn in (3, 4, 7, 8):
    rgb = rgb[::-1] if turn < 5 else rgb[:, ::-1]
  if turn >= 5:
    rgb = rgb.swapaxes(0, 1)
  return np.ascontiguousarray(rgb)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
  """Raises ValueError if there are too many."""
  if width * height > max_pixels:
    raise ValueError(
        f"{width}x{height} pixels, more than data.max_pixels={max_pixels}")


def _to_rgb(image: Image.Image) -> np.ndarray:
  """A loaded picture of any mode -> uint8 [h, w, 3]."""
  color, alpha = _split(image)
  color = color_profile.to_srgb(color, image.info.get("icc_profile"))
  if alpha is not None:
    # Where it is fully transparent, the colour is often garbage.
    color.putalpha(alpha)
    color = Image.alpha_composite(
        Image.new("RGBA", image.size, "white"), color).convert("RGB")
  return np.asarray(color)


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
  """(its colours in mode L, RGB or CMYK, its opacity in mode L or None)."""
  key = image.info.get("transparency")
  if image.mode.startswith("I"):      # 16-bit gray; `convert` would clip it.
    value = np.asarray(image).astype(np.uint32)             # [h, w]
    gray = ((value * 255 + 32767) // 65535).astype(np.uint8)
    opaque = np.where(value == key, 0, 255).astype(np.uint8)
    return Image.fromarray(gray), (
        Image.fromarray(opaque) if isinstance(key, int) else None)
  if key is None and image.mode in ("L", "RGB", "CMYK"):
    return image, None
  if key is None and image.mode in ("1", "YCbCr"):
    return image.convert("L" if image.mode == "1" else "RGB"), None
  rgba = image.convert("RGBA")
  is_gray = image.mode in ("1", "L", "LA", "La")
  return rgba.convert("L" if is_gray else "RGB"), rgba.getchannel("A")

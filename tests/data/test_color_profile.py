"""Colours of ICC profiles become sRGB; the profiles are made by hand."""

from concurrent import futures
import io
import struct

import numpy as np
from PIL import Image
from PIL import ImageCms
import pytest

from mtvit.data import color_profile
from mtvit.data import image_check
from mtvit.data import images

# Columns are the primaries' XYZ, adapted to D50 (the profile space of ICC).
SRGB = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606],
                 [0.0139, 0.0971, 0.7139]])
ADOBE = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632],
                  [0.0195, 0.0609, 0.7446]])
P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666],
               [-0.0011, 0.0419, 0.7841]])


def s15(*values):
  return b"".join(struct.pack(">i", round(x * 65536)) for x in values)


def profile(space, tags, pcs=b"XYZ "):
  """An ICC profile (version 2.1) of these tags."""
  table, body = struct.pack(">I", len(tags)), b""
  for name, data in tags.items():
    data += bytes(-len(data) % 4)
    table += struct.pack(
        ">4sII", name, 128 + 4 + 12 * len(tags) + len(body), len(data))
    body += data
  header = struct.pack(
      ">I4sI4s4s4s12s4s", 128 + len(table) + len(body), b"\0\0\0\0", 0x02100000,
      b"mntr" if space != b"CMYK" else b"prtr", space, pcs, bytes(12), b"acsp")
  header += bytes(68 - len(header)) + s15(0.9642, 1, 0.8249)
  return header + bytes(128 - len(header)) + table + body


XYZ = lambda *x: b"XYZ \0\0\0\0" + s15(*x)
GAMMA = lambda g: b"curv" + struct.pack(">IIH", 0, 1, round(g * 256))
DESC = b"desc" + struct.pack(">II", 0, 2) + b"x\0" + bytes(78)
WHITE = {b"desc": DESC, b"cprt": b"text\0\0\0\0x\0",
         b"wtpt": XYZ(0.9642, 1, 0.8249)}


def rgb_profile(matrix, gamma):
  columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T)
  return profile(b"RGB ", WHITE | {
      name: XYZ(*column) for name, column in columns} | {
          name: GAMMA(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def gray_profile(gamma):
  return profile(b"GRAY", WHITE | {b"kTRC": GAMMA(gamma)})


def cmyk_profile():
  """No ink is white, cyan alone is the gray of L* = 50, all else black."""
  lightness = {0b0000: 255, 0b1000: 127}
  clut = b"".join(bytes((lightness.get(i, 0), 128, 128)) for i in range(16))
  identity = bytes(range(256))
  table = (b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + s15(
      1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4 + clut + identity * 3)
  return profile(b"CMYK", WHITE | {b"A2B0": table}, pcs=b"Lab ")


def srgb_curve(linear):
  linear = np.clip(linear, 0, 1)
  return 255 * np.where(
      linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


COLORS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
SQUARES = COLORS[::4, ::4].repeat(8, 0).repeat(8, 1)       # JPEG keeps them.


def expected(x, matrix, gamma):
  linear = (x / 255) ** gamma
  return srgb_curve(linear @ (np.linalg.inv(SRGB) @ matrix).T)


def encoded(x, kind, icc, **options):
  file = io.BytesIO()
  image = x if isinstance(x, Image.Image) else Image.fromarray(x)
  image.save(file, kind, icc_profile=icc, **options)
  return file.getvalue()


def decoder(data, tmp_path):
  file = tmp_path / "image"
  file.write_bytes(data)
  found = image_check.check(str(file), len(data), 10**6)
  assert found.reason == ""
  return found.decoder


@pytest.mark.parametrize("matrix, gamma", [
    (ADOBE, 2.2), (P3, 2.2), (SRGB, 1.0)])
@pytest.mark.parametrize("kind, options, most", [
    ("PNG", {}, 2), ("WEBP", dict(lossless=True), 2),
    ("JPEG", dict(quality=100, subsampling=0), 9)])
def test_rgb_of_other_primaries(matrix, gamma, kind, options, most, tmp_path):
  x = SQUARES if kind == "JPEG" else COLORS
  if kind == "JPEG":        # Near black a level of JPEG's rounding is many.
    x = x // 2 + 100
  data = encoded(x, kind, rgb_profile(matrix, gamma), **options)
  assert decoder(data, tmp_path) == "pillow"
  want = expected(x, matrix, gamma)
  assert np.abs(want - x).mean() > 4
  got = images.decode_pillow(data, 10**6)
  assert np.abs(got - want).max() <= most


def test_gray_transparent_and_deep_pictures(tmp_path):
  gray = np.arange(256, dtype=np.uint8)[None].repeat(4, 0)
  want = srgb_curve((gray / 255) ** 1.0)[..., None].repeat(3, -1)
  for x in (gray, gray.astype(np.uint16) * 257):      # 8 and 16 bits.
    data = encoded(x, "PNG", gray_profile(1.0))
    assert decoder(data, tmp_path) == "pillow"
    assert np.abs(images.decode_pillow(data, 10**6) - want).max() <= 2
  alpha = np.random.default_rng(1).integers(0, 256, (16, 24, 1), np.uint8)
  data = encoded(
      np.concatenate([COLORS, alpha], -1), "PNG", rgb_profile(ADOBE, 2.2))
  share = alpha / 255
  want = expected(COLORS, ADOBE, 2.2) * share + 255 * (1 - share)
  assert np.abs(images.decode_pillow(data, 10**6) - want).max() <= 3


def test_cmyk(tmp_path):
  inks = np.zeros((16, 16, 4), np.uint8)
  inks[8:, :, 0] = 255        # Cyan, were there no profile.
  data = encoded(Image.frombytes("CMYK", (16, 16), inks.tobytes()), "JPEG",
                 cmyk_profile(), quality=100)
  assert decoder(data, tmp_path) == "pillow"
  got = images.decode_pillow(data, 10**6)
  assert np.abs(got[:6].astype(int) - 255).max() <= 3
  # L* = 127 / 2.55 has Y = 0.183, and sRGB shows that as 118.
  assert np.abs(got[10:].astype(int) - 118).max() <= 4


def test_srgb_under_any_name_changes_nothing(tmp_path):
  built_in = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
  gray = COLORS[..., 0]
  for x, icc in ((COLORS, built_in), (COLORS, b"no profile at all"),
                 (COLORS, gray_profile(1.0)), (gray, rgb_profile(ADOBE, 2.2)),
                 (COLORS, rgb_profile(ADOBE, 2.2)[:200]),
                 (COLORS, cmyk_profile())):
    data = encoded(x, "PNG", icc)
    assert decoder(data, tmp_path) == "tensorflow"
    got = images.decode_pillow(data, 10**6)
    np.testing.assert_array_equal(got, np.broadcast_to(
        x.reshape(*x.shape[:2], -1), got.shape))


def test_many_threads_share_a_conversion():
  data = encoded(COLORS, "PNG", rgb_profile(ADOBE, 2.2))
  want = images.decode_pillow(data, 10**6)
  other = encoded(COLORS[::-1, ::-1].copy(), "PNG", rgb_profile(ADOBE, 2.2))
  with futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(
        lambda i: images.decode_pillow((data, other)[i % 2], 10**6),
        range(200)))
  for i, x in enumerate(found):
    np.testing.assert_array_equal(x, want[::-1, ::-1] if i % 2 else want)
  assert color_profile.matters(rgb_profile(ADOBE, 2.2), "RGB")

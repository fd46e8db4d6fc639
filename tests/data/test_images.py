"""Files of every kind become the RGB that they were made from."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from mtvit.data import datasets
from mtvit.data import image_check
from mtvit.data import images
from mtvit.data import pipeline
from mtvit.data import source as source_lib

LIMIT = 10**6
HEIGHT, WIDTH = 24, 36
# Which sides of the picture the stored row 0 and column 0 are (EXIF standard).
SIDES = {1: "TL", 2: "TR", 3: "BR", 4: "BL", 5: "LT", 6: "RT", 7: "RB", 8: "LB"}


def smooth(channels=3, most=255):
  """A picture without edges: lossy formats keep it."""
  y, x = np.mgrid[:HEIGHT, :WIDTH]
  ramps = [x / (WIDTH - 1), y / (HEIGHT - 1), (x + y) / (WIDTH + HEIGHT - 2),
           1 - x / (2 * WIDTH)]
  return np.round(np.stack(ramps[:channels], -1) * most).astype(
      np.uint8 if most == 255 else np.uint16)


def noise(channels=3, most=255):
  return np.random.default_rng(0).integers(
      0, most + 1, (HEIGHT, WIDTH, channels)).astype(
          np.uint8 if most == 255 else np.uint16)


def encoded(picture, kind, **options):
  file = io.BytesIO()
  if isinstance(picture, np.ndarray):
    picture = Image.fromarray(picture)
  picture.save(file, kind, **options)
  return file.getvalue()


def png_chunk(name, data):
  return (struct.pack(">I", len(data)) + name + data
          + struct.pack(">I", zlib.crc32(name + data)))


def png(x, kind, depth, extra=b""):
  """A PNG written by hand: x [h, w, c], any bit depth of whole bytes."""
  rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in x)
  header = struct.pack(
      ">IIBBBBB", x.shape[1], x.shape[0], depth, kind, 0, 0, 0)
  return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra
          + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))


def on_white(color, alpha):
  """Colour [h, w, 3] seen on white through alpha [h, w], 0 .. 255."""
  a = alpha[..., None] / 255
  return np.round(color * a + 255 * (1 - a))


def exif(orientation, order=">"):
  return b"Exif\0\0" + (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
      order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def stored(x, orientation):
  """How a camera stores the picture x, by the sides that it says."""
  first, second = SIDES[orientation]
  if first in "LR":                   # Stored rows are the picture's columns.
    x = x.swapaxes(0, 1)
  if first in "RB":
    x = x[::-1]
  return np.ascontiguousarray(x[:, ::-1] if second in "RB" else x)


def kinds():
  """name -> (file, the RGB it should give, tolerance, decoder)."""
  tf_, pil = "tensorflow", "pillow"
  rgb, flat = noise(), smooth()
  gray = rgb[..., :1].repeat(3, -1)
  deep, alpha = noise(3, 65535), noise(4)
  deep_rgb = np.round(deep / 257)
  indexed = rgb[..., 0] % 4
  colors = np.array([[9, 8, 7], [200, 0, 0], [0, 200, 0], [1, 2, 255]])
  palette = Image.fromarray(indexed)
  palette.putpalette(colors.astype(np.uint8).tobytes())
  bits = rgb[..., 0] > 127
  cmyk = smooth(4)
  cmyk[..., 3] //= 4
  cmyk_rgb = (255 - cmyk[..., :3].astype(float)) * (1 - cmyk[..., 3:] / 255)
  other = Image.fromarray(255 - rgb)
  key = png_chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[0, 0])))
  keyed = np.where((rgb == rgb[0, 0]).all(-1, keepdims=True), 255, rgb)
  deep_key = png_chunk(b"tRNS", struct.pack(">H", int(deep[0, 0, 0])))
  deep_keyed = np.where(
      deep[..., :1] == deep[0, 0, 0], 255, deep_rgb[..., :1]).repeat(3, -1)
  clear = np.where(indexed[..., None] == 1, 255, colors[indexed])
  two = dict(save_all=True, append_images=[other])
  e = encoded
  return {
      "jpeg": (e(flat, "JPEG", quality=95), flat, 12, tf_),
      "progressive": (e(flat, "JPEG", progressive=True, quality=95), flat, 12,
                      tf_),
      "gray jpeg": (e(flat[..., 0], "JPEG", quality=95),
                    flat[..., :1].repeat(3, -1), 5, tf_),
      "cmyk jpeg": (e(Image.frombytes("CMYK", (WIDTH, HEIGHT), cmyk.tobytes()),
                      "JPEG", quality=95), cmyk_rgb, 10, pil),
      "mpo": (e(Image.fromarray(flat), "MPO", save_all=True, quality=95,
                append_images=[Image.fromarray(255 - flat)]), flat, 12, tf_),
      "png": (png(rgb, 2, 8), rgb, 0, tf_),
      "gray png": (png(rgb[..., :1], 0, 8), gray, 0, tf_),
      "16-bit png": (png(deep, 2, 16), deep_rgb, 1, pil),
      "16-bit gray": (png(deep[..., :1], 0, 16),
                      deep_rgb[..., :1].repeat(3, -1), 1, pil),
      "16-bit gray, key": (png(deep[..., :1], 0, 16, deep_key), deep_keyed, 1,
                           pil),
      "alpha": (png(alpha, 6, 8), on_white(alpha[..., :3], alpha[..., 3]), 1,
                pil),
      "gray alpha": (png(alpha[..., :2], 4, 8), on_white(
          alpha[..., :1].repeat(3, -1), alpha[..., 1]), 1, pil),
      "colour key": (png(rgb, 2, 8, key), keyed, 0, pil),
      "palette": (e(palette, "PNG"), colors[indexed], 0, pil),
      "clear palette": (e(palette, "PNG", transparency=1), clear, 0, pil),
      "1 bit": (e(Image.fromarray(bits), "PNG"),
                bits[..., None].repeat(3, -1) * 255, 0, pil),
      "animated png": (e(Image.fromarray(rgb), "PNG", **two), rgb, 0, pil),
      "bmp": (e(rgb, "BMP"), rgb, 0, tf_),
      "gray bmp": (e(rgb[..., 0], "BMP"), gray, 0, pil),
      "gif": (e(palette, "GIF"), colors[indexed], 0, pil),
      "animated gif": (e(palette, "GIF", save_all=True, append_images=[
          Image.new("RGB", palette.size, "red")]), colors[indexed], 0, pil),
      "clear gif": (e(palette, "GIF", transparency=1), clear, 0, pil),
      "webp": (e(flat, "WEBP", quality=95), flat, 14, pil),
      "exact webp": (e(rgb, "WEBP", lossless=True), rgb, 0, pil),
      "animated webp": (e(Image.fromarray(rgb), "WEBP", lossless=True, **two),
                        rgb, 0, pil),
      "avif": (e(flat, "AVIF", quality=95), flat, 10, pil),
  } | {f"exif {i}": (e(stored(flat, i), "JPEG", exif=exif(i), quality=95),
                     flat, 12, tf_ if i == 1 else pil) for i in SIDES} | {
      f"exif {i} {kind}": (e(stored(rgb, i), kind, exif=exif(i, "<"),
                             lossless=True), rgb, 0, pil)
      for i in (6, 7) for kind in ("PNG", "WEBP")} | {
      "exif 8 avif": (e(stored(flat, 8), "AVIF", exif=exif(8), quality=95),
                      flat, 10, pil)}


KINDS = kinds()


def checked(data, tmp_path, limit=LIMIT):
  file = tmp_path / "image.jpg"       # Whatever it is: content decides.
  file.write_bytes(data)
  return image_check.check(str(file), len(data), limit)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_gives_the_picture_that_it_was_made_from(name, tmp_path):
  data, want, tolerance, decoder = KINDS[name]
  found = checked(data, tmp_path)
  assert found.reason == "" and found.decoder == decoder and found.final
  assert sorted((found.width, found.height)) == sorted((WIDTH, HEIGHT))
  got = images.decode_pillow(data, LIMIT)
  assert got.dtype == np.uint8 and got.shape == want.shape
  assert np.abs(got.astype(float) - want).max() <= tolerance
  if decoder == "tensorflow":
    got = source_lib.native(data).numpy()
    assert np.abs(got.astype(float) - want).max() <= tolerance


def hard():
  """Pictures that JPEG finds hard, uint8 [47, 65, 3]."""
  rng = np.random.default_rng(0)
  lines = np.full((47, 65, 3), 255, np.uint8)
  lines[::5] = lines[:, ::7] = 0
  noise = (rng.integers(0, 2, (47, 65, 1)) * 255).astype(np.uint8)
  return (lines, rng.integers(0, 256, (47, 65, 3), np.uint8),
          noise.repeat(3, 2))


@pytest.mark.parametrize("quality", [75, 90, 95, 97, 98, 99, 100])
def test_jpegs_have_the_values_that_pillow_gives(quality):
  """On the pinned versions they are equal, so the bound of 1 has room."""
  ratio = lambda r: None if r == 1 else lambda h, w: tf.constant(r, tf.float32)
  for picture in hard():
    files = [encoded(picture, "JPEG", quality=quality, subsampling=subsampling,
                     progressive=progressive)
             for subsampling in (0, 1, 2) for progressive in (False, True)]
    files.append(encoded(picture[..., 0], "JPEG", quality=quality))
    for data in files:
      for r in (1, 2, 4, 8):
        with Image.open(io.BytesIO(data)) as image:
          if r > 1:
            image.draft(image.mode, (65 // r, 47 // r))
          want = np.asarray(image.convert("RGB")).astype(int)
        got = source_lib.native(data, ratio(r)).numpy()
        assert np.abs(got - want).max() <= 1


def test_every_route_decodes_jpegs_alike(tmp_path):
  """Held, one by one, and beside a file that Pillow decodes."""
  for i, picture in enumerate(hard()):
    for side in ("plain", "beside"):
      (tmp_path / side / "train" / "a").mkdir(parents=True, exist_ok=True)
      Image.fromarray(picture[:40, :40]).save(
          tmp_path / side / "train" / "a" / f"{i}.jpg", quality=100)
  (tmp_path / "beside" / "train" / "a" / "9.webp").write_bytes(
      encoded(picture[:40, :40], "WEBP", lossless=True))
  for side, memory_mb in (("plain", 9), ("plain", 0), ("beside", 9),
                          ("beside", 0)):
    source = datasets.open_source(
        f"folder:{tmp_path / side}", "train", data_dir="",
        cache_dir=str(tmp_path / "cache"), memory_mb=memory_mb,
        max_pixels=LIMIT, min_side=8)
    assert (source.images is None) == (memory_mb == 0)
    batch = next(pipeline.eval_batches(source, 40, 4))
    for i in range(3):
      with Image.open(tmp_path / side / "train" / "a" / f"{i}.jpg") as image:
        want = np.asarray(image).astype(int)
      assert np.abs(batch["image"][i] - want).max() <= 1


def test_exif_kept_behind_the_pixels_counts(tmp_path):
  whole = png(stored(noise(), 6), 2, 8)
  end = png_chunk(b"IEND", b"")
  data = whole.removesuffix(end) + png_chunk(b"eXIf", exif(6)[6:]) + end
  assert checked(data, tmp_path).decoder == "pillow"
  np.testing.assert_array_equal(images.decode_pillow(data, LIMIT), noise())


@pytest.mark.parametrize("data", [
    b"", b"Exif\0\0", exif(9), exif(0), exif(6)[:20], b"MM\0*\xff\xff\xff\xff",
    b"Exif\0\0garbage that is no EXIF at all"])
def test_odd_exif_data_turn_nothing(data):
  assert images.orientation(data) == 1


JPEG, PNG = KINDS["jpeg"][0], KINDS["png"][0]


@pytest.mark.parametrize("data, reason", [
    (b"", "empty file"),
    (b"\x13\x07" * 200, "not an image"),
    (b"<!DOCTYPE html><html>404</html>", "not an image: HTML"),
    (b"a note about the images", "not an image: text"),
    (JPEG[:len(JPEG) // 2], "truncated or damaged: JPEG"),
    (JPEG[:-2], "truncated or damaged: JPEG"),
    (JPEG[:30], "truncated or damaged: JPEG"),
    (PNG[:len(PNG) // 2], "truncated or damaged: PNG"),
    (PNG[:20], "truncated or damaged: PNG"),
    (KINDS["gif"][0][:-200], "truncated or damaged: GIF"),
    (KINDS["bmp"][0][:-99], "truncated or damaged: BMP"),
    (KINDS["exact webp"][0][:-99], "truncated or damaged: WEBP"),
    (KINDS["avif"][0][:-99], "truncated or damaged: AVIF"),
    (b"BM is how this text begins", "truncated or damaged: BMP"),
    (encoded(noise(), "TIFF"), "TIFF is not supported: convert it to PNG"),
    (encoded(noise(), "ICO"), "ICO is not supported"),
    (encoded(noise(), "JPEG2000", no_jp2=True), "JPEG 2000 is not supported"),
    (b"<?xml version='1.0'?><svg></svg>", "SVG is not supported"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
])
def test_refused_files_have_a_reason(data, reason, tmp_path):
  found = checked(data, tmp_path)
  assert found.reason.startswith(reason) and found.decoder == ""


def thumbnail_only():
  """A JPEG cut off in its scans, with a whole JPEG inside its EXIF data."""
  thumb = encoded(smooth()[:8, :8], "JPEG")
  data = encoded(noise(), "JPEG", exif=exif(1) + thumb)
  assert b"\xff\xd9" in data[:len(data) // 2]
  return data[:-40]


def test_a_whole_thumbnail_does_not_make_a_file_whole(tmp_path):
  assert checked(thumbnail_only(), tmp_path).reason.startswith("truncated")


@pytest.mark.parametrize("name", ["jpeg", "png", "gif"])
def test_bytes_behind_a_whole_image_do_not_matter(name, tmp_path):
  data = KINDS[name][0] + bytes(range(1, 128)) * 100
  found = checked(data, tmp_path)
  assert found == (WIDTH, HEIGHT, "pillow", "", True)
  # Larger than the limit it is not decoded, and so not decided for good.
  assert not checked(data, tmp_path, limit=10).final


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_bombs_are_never_decoded(kind, monkeypatch, recwarn, tmp_path):
  if kind == "PNG":
    data = png(noise(), 2, 8)
    data = data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]
    crc = struct.pack(">I", zlib.crc32(data[12:29]))
    data = data[:29] + crc + data[33:]
    size = (60_000, 60_000)
  else:
    data = bytearray(KINDS["exact webp"][0])
    data[21:25] = struct.pack(
        "<I", struct.unpack("<I", data[21:25])[0] | (1 << 28) - 1)
    data, size = bytes(data), (2**14, 2**14)
  monkeypatch.setattr(
      Image.Image, "load", lambda self: pytest.fail("it was decoded"))
  assert checked(data, tmp_path)[:2] == size
  with pytest.raises(ValueError, match="more than data.max_pixels=1000000"):
    images.decode_pillow(data, LIMIT)
  assert not list(recwarn)


def test_what_is_no_image_is_not_decoded():
  for data in (b"", b"junk", encoded(noise(), "TIFF"), JPEG[:-40]):
    with pytest.raises((ValueError, OSError)):
      images.decode_pillow(data, LIMIT)


def test_pillow_decodes_inside_tf_data():
  files = [KINDS[name][0] for name in ("alpha", "exif 6")]
  ds = tf.data.Dataset.from_tensor_slices(files).map(
      lambda data: tf.numpy_function(
          lambda d: images.decode_pillow(d, LIMIT), [data], tf.uint8))
  for got, data in zip(ds.as_numpy_iterator(), files):
    np.testing.assert_array_equal(got, images.decode_pillow(data, LIMIT))

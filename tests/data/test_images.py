"""Files of every kind become the RGB that they were made from."""

import io
import itertools
import struct
import zlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from mtvit import config as config_lib
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


def interlaced(x):
  """A PNG in Adam7: seven pictures, each of some of the pixels."""
  passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4),
            (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
  rows = b"".join(
      b"\0" + row.tobytes() for top, left, down, right in passes
      for row in x[top::down, left::right])
  header = struct.pack(">IIBBBBB", x.shape[1], x.shape[0], 8, 2, 0, 0, 1)
  return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
          + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b""))


def resampled(data):
  """A gray JPEG whose only component says 2x2, as some cameras write it."""
  at = data.index(b"\xff\xc0") + 11
  assert data[at] == 0x11
  return data[:at] + b"\x22" + data[at + 1:]


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
      "bmp": (e(rgb, "BMP"), rgb, 0, pil),
      "gray bmp": (e(rgb[..., 0], "BMP"), gray, 0, pil),
      "interlaced png": (interlaced(rgb), rgb, 0, tf_),
      "gray jpeg of one sampling": (
          resampled(e(flat[..., 0], "JPEG", quality=95)),
          flat[..., :1].repeat(3, -1), 5, tf_),
      "jpeg of rgb": (e(flat, "JPEG", quality=95, keep_rgb=True), flat, 12,
                      pil),
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


def checked(data, tmp_path, limit=LIMIT, native=None):
  file = tmp_path / "image.jpg"       # Whatever it is: content decides.
  file.write_bytes(data)
  return image_check.check(str(file), len(data), limit, native)


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
    (tmp_path / side / "test").mkdir(exist_ok=True)
    source = datasets.open_source(
        config_lib.Data(
            name=f"folder:{tmp_path / side}", memory_mb=memory_mb,
            cache_dir=str(tmp_path / "cache"), max_pixels=LIMIT),
        "train", min_side=8)
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
    b"", b"Exif\0\0", exif(9), exif(0), exif(6)[:20],
    b"Exif\0\0MM\0*\xff\xff\xff\xff",
    b"Exif\0\0garbage that is no EXIF at all"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_odd_exif_data_turn_nothing(kind, data, tmp_path):
  data = encoded(noise(), kind, exif=data, lossless=True, quality=95)
  assert checked(data, tmp_path).reason == ""
  assert images.decode_pillow(data, LIMIT).shape == (HEIGHT, WIDTH, 3)


def xmp(orientation, shape='tiff:Orientation="{}"'):
  return ("<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description "
          f"{shape.format(orientation)}/></x:xmpmeta>").encode()


def places():
  """name -> a file that says orientation 6 somewhere."""
  x = stored(noise(), 6)
  plain = png(x, 2, 8)
  end = png_chunk(b"IEND", b"")
  behind = lambda name, data: (
      plain.removesuffix(end) + png_chunk(name, data) + end)
  text = exif(6).hex()
  profile = f"\nexif\n{len(text) // 2:8}\n" + "\n".join(
      text[i:i + 72] for i in range(0, len(text), 72)) + "\n"
  raw = b"Raw profile type exif\0\0" + zlib.compress(profile.encode())
  itxt = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)
  with_xmp = lambda kind, **options: encoded(x, kind, xmp=xmp(6), **options)
  long = struct.pack("<IHHHIII", 8, 1, 0x112, 4, 1, 6, 0)
  return {
      "eXIf behind a PNG's pixels": behind(b"eXIf", exif(6)[6:] + bytes(9000)),
      "zTXt": png(x, 2, 8, png_chunk(b"zTXt", raw)),
      "zTXt behind": behind(b"zTXt", raw),
      "iTXt": png(x, 2, 8, png_chunk(b"iTXt", itxt)),
      "iTXt behind": behind(b"iTXt", itxt),
      "XMP of a WebP": with_xmp("WEBP", lossless=True),
      "XMP of a JPEG": with_xmp("JPEG", quality=100, subsampling=0),
      "an element of XMP": encoded(x, "WEBP", lossless=True, xmp=xmp(
          6, "><tiff:Orientation>{}</tiff:Orientation")),
      "EXIF twice": encoded(x, "WEBP", lossless=True, exif=b"Exif\0\0" + exif(
          6)),
      "32 bits of little endian": encoded(
          x, "WEBP", lossless=True, exif=b"Exif\0\0II*\0" + long)}


PLACES = places()


@pytest.mark.parametrize("name", PLACES)
def test_orientation_counts_wherever_it_stands(name, tmp_path):
  assert checked(PLACES[name], tmp_path)[2:4] == ("pillow", "")
  found = images.decode_pillow(PLACES[name], LIMIT).astype(int)
  assert found.shape == (HEIGHT, WIDTH, 3)
  assert np.abs(found - noise()).max() <= (60 if "JPEG" in name else 0)


def test_an_encoder_that_is_loaded_turns_pictures_likewise():
  for data in PLACES.values():
    with Image.open(io.BytesIO(data)) as image:
      image.load()
      np.testing.assert_array_equal(
          images.upright_rgb(image), images.decode_pillow(data, LIMIT))


def bmp(x, bits, header=40, packed=0, palette=b"", rows=None, behind=b"",
        top_down=False):
  """A BMP written by hand, of rows [w] of whole numbers or given bytes."""
  if rows is None:
    lines = []
    for row in x if top_down else x[::-1]:
      line = "".join(f"{int(value):0{bits}b}" for value in row)
      if bits > 8:        # Little endian.
        line = "".join(
            line[i:i + bits][j:j + 8] for i in range(0, len(line), bits)
            for j in range(bits - 8, -1, -8))
      line += "0" * (-len(line) % 32)
      lines.append(int(line, 2).to_bytes(len(line) // 8, "big"))
    rows = b"".join(lines)
  height, width = x.shape
  if header == 12:
    info = struct.pack("<IHHHH", 12, width, height, 1, bits)
  else:
    info = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1,
        bits, packed, len(rows), 2835, 2835,
        0 if bits > 8 else len(palette) // 4, 0) + bytes(header - 40)
  start = 14 + len(info) + len(palette)
  size = start + len(rows) + len(behind)
  return (b"BM" + struct.pack("<IHHI", size, 0, 0, start) + info + palette
          + rows + behind)


def bmps():
  """name -> (file, its RGB)."""
  values = noise(1)[..., 0].astype(np.uint32)
  colors = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
  blocks = lambda n, size=4: b"".join(
      color[::-1].tobytes() + bytes(size - 3) for color in colors[:n])
  rgb = noise().astype(np.uint32)
  whole = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
  five = rgb // 8
  rle = b"".join(
      b"".join(bytes((len(list(group)), value)) for value, group in
               itertools.groupby(row)) + b"\0\0"
      for row in (values[::-1] // 64).tolist()) + b"\0\1"
  return {
      "24 bits and bytes behind": (
          bmp(whole, 24, behind=b"\0\0"), rgb),
      "24 bits, top down": (bmp(whole, 24, top_down=True), rgb),
      "32 bits": (bmp(whole, 32), rgb),
      "16 bits": (
          bmp(five[..., 0] << 10 | five[..., 1] << 5 | five[..., 2], 16),
          np.round(five * 255 / 31)),
      "8 bits": (bmp(values, 8, palette=blocks(256)), colors[values]),
      "4 bits": (bmp(values // 16, 4, palette=blocks(16)),
                 colors[values // 16]),
      "1 bit": (bmp(values // 128, 1, palette=blocks(2)),
                colors[values // 128]),
      "OS/2": (bmp(values, 8, header=12, palette=blocks(256, 3)),
               colors[values]),
      "OS/2, 24 bits": (bmp(whole, 24, header=12), rgb),
      "version 5": (bmp(whole, 24, header=124), rgb),
      "runs": (bmp(values, 8, packed=1, palette=blocks(256), rows=rle),
               colors[values // 64])}


BMPS = bmps()


@pytest.mark.parametrize("name", BMPS)
def test_bmp_files_of_all_kinds(name, tmp_path):
  data, want = BMPS[name]
  assert checked(data, tmp_path) == (WIDTH, HEIGHT, "pillow", "", True)
  got = images.decode_pillow(data, LIMIT).astype(float)
  assert np.abs(got - want).max() <= (4 if name == "16 bits" else 0)


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
  # Larger than the limit it is not decoded, and so not decided for good. The
  # chunks of a PNG tell where it ends.
  assert checked(data, tmp_path, limit=10).final == (name == "png")


def damaged(name):
  data = bytearray(KINDS[name][0])
  for i in range(len(data) // 2, len(data) // 2 + 8):
    data[i] ^= 0xFF
  return bytes(data)


@pytest.mark.parametrize("name", ["png", "16-bit png", "palette"])
def test_damage_in_the_middle_is_found_by_decoding(name, tmp_path):
  assert checked(damaged(name), tmp_path).reason == ""
  found = checked(damaged(name), tmp_path, native=source_lib.native)
  assert found.reason.startswith("truncated or damaged") and found.final
  for sound in (name, "jpeg", "gif", "exif 6"):
    assert checked(KINDS[sound][0], tmp_path, native=source_lib.native) == (
        checked(KINDS[sound][0], tmp_path))


def test_what_tensorflow_alone_refuses_goes_through_pillow(tmp_path):
  def native(data):
    raise tf.errors.InvalidArgumentError(None, None, "it is strict")

  assert checked(PNG, tmp_path, native=native)[2:] == ("pillow", "", True)
  # Out of memory is nothing that the file is to blame for.
  def full(data):
    raise MemoryError
  assert not checked(PNG, tmp_path, native=full).final


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize("change", [
    lambda data: data.replace(b"IDAT", b"IDaT"),        # Not a single IDAT.
    lambda data: data.replace(
        png_chunk(b"IEND", b""), png_chunk(b"cgBi", b"")),     # No end.
    lambda data: data[:33] + png_chunk(b"CgBI", b"\0\0\0\2") + data[33:],
    lambda data: data[:33] + png_chunk(b"acTL", bytes(8)) + data[33:]])
def test_a_png_of_other_chunks_is_decoded_to_be_judged(change, tmp_path):
  data = change(PNG)
  assert data != PNG
  found = checked(data, tmp_path)
  assert found.decoder != "tensorflow"
  if not found.reason:
    np.testing.assert_array_equal(images.decode_pillow(data, LIMIT), noise())


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

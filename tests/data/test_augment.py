"""What is drawn has the distribution that the config asks for; both paths."""

import dataclasses
import io
import struct

import numpy as np
from PIL import Image
import pytest
import scipy.stats
import tensorflow as tf

from mtvit import config as config_lib
from mtvit.data import augment
from mtvit.data import datasets
from mtvit.data import draws
from mtvit.data import image_ops
from mtvit.data import photo_crops
from mtvit.data import pipeline
from mtvit.data import source as source_lib

COUNT = 40_000


@pytest.fixture
def section(parsed):
  """As configs/imagenet.py has it."""
  return dataclasses.replace(
      parsed.augment, crop_scale=(0.08, 1.0), flip=0.5, jitter=0.8,
      jitter_strength=0.5, gray=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2))


def drawn(section, step=0):
  return tf.nest.map_structure(np.asarray, augment.draw_all(
      section, draws.for_step(0, step, COUNT, 0, COUNT), 2))


def uniform(x, low, high):
  """Whether a sample is uniform in [low, high)."""
  assert x.min() >= low and x.max() < high
  assert scipy.stats.kstest(
      x, "uniform", (low, high - low)).pvalue > 1e-3


def share(x, p):
  """Whether a coin with probability p was thrown."""
  assert x.mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / x.size))


def test_probabilities_are_those_of_the_config(section):
  got = drawn(section)
  share(got.flip, 0.5)
  share(got.jitter, 0.8)
  share(got.gray, 0.2)
  for view, (blur, solarize) in enumerate([(1.0, 0.0), (0.1, 0.2)]):
    share(got.blur[view::2], blur)
    share(got.solarize[view::2], solarize)
  coins = np.stack([
      x[1::2] for x in (got.flip, got.jitter, got.gray, got.blur,
                        got.solarize)]).astype(float)
  apart = np.abs(np.corrcoef(coins) - np.eye(5))
  assert apart.max() < 5 / np.sqrt(COUNT / 2)
  assert (got.flip != drawn(section, 1).flip).any()


def test_amounts_and_boxes_are_uniform(section):
  section = dataclasses.replace(section, crop_scale=(0.08, 0.5))
  got = drawn(section)
  uniform(got.sigma, 0.1, 2.0)
  for column in range(4):
    uniform(got.amounts[:, column], -1, 1)
  for column in (0, 9):
    h, w = np.moveaxis(got.sides[:, column].astype(np.float64), -1, 0)
    uniform(h * w, 0.08 - 1e-6, 0.5 + 1e-6)
    uniform(np.log(w / h), -np.log(4 / 3) - 1e-6, np.log(4 / 3) + 1e-6)
  uniform(got.place[:, 0], 0, 1)
  uniform(got.place[:, 1], 0, 1)
  draws = np.concatenate(
      [got.place, got.amounts, got.sides.reshape(COUNT, -1)], 1)
  apart = np.abs(np.corrcoef(draws.T) - np.eye(draws.shape[1]))
  # Height and width of a try have the area in common; nothing else has.
  for i in range(10):
    apart[6 + 2 * i, 7 + 2 * i] = apart[7 + 2 * i, 6 + 2 * i] = 0
  assert apart.max() < 5 / np.sqrt(COUNT)


def test_rows_say_the_same_as_what_was_drawn(section):
  got = drawn(section)
  its = tf.nest.map_structure(np.asarray, augment.rows(
      augment.Drawn(*map(tf.constant, got)), section))
  np.testing.assert_array_equal(its.sigma, np.where(got.blur, got.sigma, 0))
  np.testing.assert_array_equal(its.flip, got.flip)
  np.testing.assert_array_equal(its.solarize, got.solarize)
  # No jitter and no gray: the identity; gray: equal rows.
  plain = ~got.jitter & ~got.gray
  np.testing.assert_array_equal(
      its.matrix[plain], np.broadcast_to(np.eye(3, 4), (plain.sum(), 3, 4)))
  np.testing.assert_allclose(
      np.ptp(its.matrix[got.gray], axis=1), 0, atol=1e-6)
  assert (np.ptp(its.matrix[~got.gray], axis=1).max(-1) > 0.1).all()
  # Brightness times contrast is uniform factors' product; gray stays gray.
  factors = 1 + 0.8 * 0.5 * got.amounts[got.jitter].astype(np.float64)
  np.testing.assert_allclose(
      its.matrix[got.jitter][..., :3].sum(-1),
      (factors[:, 0] * factors[:, 1])[:, None].repeat(3, 1), atol=1e-3)
  np.testing.assert_allclose(
      its.matrix[got.jitter][..., 3],
      (factors[:, 0] * (1 - factors[:, 1]))[:, None].repeat(3, 1), atol=1e-3)


def spec(section, size=64, batch=8, **changes):
  return pipeline.Spec(**(dict(
      batch_size=batch, views=2, image_size=size, patch_size=8,
      augment=section, passes={}, gray_input=False, seed=0) | changes))


def folder(root, photos, **options):
  """A source of the photographs, and the same if `memory_mb` holds them."""
  where = root / "train" / "a"
  where.mkdir(parents=True)
  (root / "test").mkdir()
  for name, photo in photos.items():
    Image.fromarray(photo).save(where / name, **options)
  return lambda memory_mb: datasets.open_source(
      config_lib.Data(
          name=f"folder:{root}", cache_dir=str(root / "cache"),
          memory_mb=memory_mb), "train", min_side=8)


def test_both_paths_make_the_same_views(section, tmp_path):
  crop = lambda name: photo_crops.load(name)[20:200, 60:300]
  opened = folder(tmp_path, {
      f"{name}.png": crop(name) for name in photo_crops.PHOTOGRAPHS})
  held, read = opened(100), opened(0)
  assert (held.kind, read.kind) == ("held", "indexed")
  one, two = (
      next(iter(pipeline.Batches(source, spec(section), 0, 1)))
      for source in (held, read))
  for key in ("index", "label", "gray_view"):
    np.testing.assert_array_equal(one[key], two[key])
  apart = np.abs(one["image"].astype(int) - two["image"])
  # Not at 127 and 128, which solarisation tears apart.
  assert apart.mean() < 0.7 and (apart > 3).mean() < 0.001
  others = np.abs(one["image"].astype(int) - two["image"][::-1])
  assert np.median(others) > 20


@pytest.mark.parametrize("size", [31, 64, 112])
def test_both_paths_crop_resize_and_blur_within_two_levels(section, size):
  section = dataclasses.replace(
      section, jitter=0.0, gray=0.0, solarize=(0.0, 0.0))
  got = augment.draw_all(section, draws.for_step(0, 0, 24, 0, 24), 2)
  rng = np.random.default_rng(0)
  noise = (rng.integers(0, 2, (90, 160, 3)) * 255).astype(np.uint8)
  for image in (noise, photo_crops.load("china")[:90, :160].copy()):
    held = augment.batch(
        np.repeat(image[None], 24, 0), got, section, size).numpy()
    read = augment.one(
        image, np.array(image.shape[:2]), augment.rows(got, section),
        size).numpy()
    apart = np.abs(held.astype(int) - read)
    assert apart.mean() < 0.5 and apart.max() <= 2


def photograph(height, width, detail=640):
  """A photograph of any size; what it shows is that of `detail` columns."""
  photo = Image.fromarray(photo_crops.load("china"))
  photo = photo.resize((detail, detail * 2 // 3), Image.Resampling.BOX)
  return np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("ratio", [1, 1.9, 2, 3.9, 4, 7.9, 8, 100])
def test_a_jpeg_is_decoded_as_small_as_allowed(ratio, tmp_path):
  photo = photograph(401, 603)
  file = tmp_path / "0.jpg"
  Image.fromarray(photo).save(file, quality=95)
  seen = []

  def shrink(height, width):
    seen.append((int(height), int(width)))
    return tf.constant(ratio, tf.float32)

  got = source_lib.native(file.read_bytes(), shrink).numpy()
  least = max(r for r in (1, 2, 4, 8) if r <= ratio)
  assert seen == [(401, 603)]
  assert got.shape == (-(-401 // least), -(-603 // least), 3)
  with Image.open(file) as want:
    want.draft("RGB", (603 // least, 401 // least))
    assert np.abs(got - np.asarray(want).astype(int)).max() <= 1
  full = source_lib.full_size(file.read_bytes(), got).numpy()
  assert full.tolist() == [401, 603]


def test_what_is_no_jpeg_keeps_its_size(tmp_path):
  file = tmp_path / "0.png"
  Image.fromarray(photograph(50, 60)).save(file)
  got = source_lib.native(
      file.read_bytes(), lambda h, w: tf.constant(8.0)).numpy()
  np.testing.assert_array_equal(got, photograph(50, 60))
  assert source_lib.full_size(file.read_bytes(), got).numpy().tolist() == [
      50, 60]


def lossless(height, width):
  """A gray JPEG of all 128, of the kind that TensorFlow does not know."""
  segment = lambda name, data: (
      b"\xff" + name + struct.pack(">H", len(data) + 2) + data)
  # The only code, 0, says that a pixel is what its neighbours let expect.
  bits = "0" * (height * width) + "1" * (-height * width % 8)
  return (
      b"\xff\xd8" + segment(
          b"\xc3", struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
      + segment(b"\xc4", b"\0\1" + bytes(16))
      + segment(b"\xda", b"\1\1\0\1\0\0")
      + int(bits, 2).to_bytes(len(bits) // 8, "big") + b"\xff\xd9")


def test_jpegs_that_pillow_alone_reads_are_seen(section, tmp_path):
  section = dataclasses.replace(section, jitter=0.0)
  where = tmp_path / "train" / "a"
  where.mkdir(parents=True)
  (tmp_path / "test").mkdir()
  Image.fromarray(photograph(300, 400)).save(where / "0.jpg")
  (where / "1.jpg").write_bytes(lossless(41, 53))
  source = datasets.open_source(
      config_lib.Data(
          name=f"folder:{tmp_path}", cache_dir=str(tmp_path / "cache"),
          memory_mb=0), "train", min_side=8)
  assert source.by_pillow.tolist() == [False, True]
  batch = next(iter(pipeline.Batches(source, spec(section, batch=2), 0, 1)))
  gray = batch["image"][batch["index"] == 1]
  # 127 where it is solarised.
  assert len(gray) == 2 and ((gray == 128) | (gray == 127)).all()
  assert np.ptp(batch["image"][batch["index"] == 0]) > 100


def test_crops_of_a_shrunken_image_are_large_enough(section):
  its = augment.rows(augment.draw_all(
      section, draws.for_step(0, 0, 400, 0, 400), 2), section)
  ratios = []
  for i in range(0, 400, 2):
    views = tf.nest.map_structure(lambda x, i=i: x[i:i + 2], its)
    height, width = 1000 + 7 * i, 1500 + 5 * i
    most = float(augment.shrink(views, 224)(height, width))
    ratio = max([r for r in (1, 2, 4, 8) if r <= most], default=1)
    ratios.append(ratio)
    sides = image_ops.crop_boxes(
        views.sides, views.place, height, width)[:, 2:].numpy() / ratio
    assert ratio == 1 or sides.min() >= 224
    assert ratio == 8 or sides.min() < 448      # The next would be too much.
  assert set(ratios) == {1, 2, 4, 8}


@pytest.mark.parametrize("ratio", [1.0, 2.0, 4.0, 8.0])
def test_a_damaged_jpeg_fails_at_every_scale_or_at_none(ratio, tmp_path):
  """A bad image is found by decoding it again, at its full size."""
  file = tmp_path / "0.jpg"
  Image.fromarray(photograph(300, 400)).save(file)
  data = file.read_bytes()
  rng = np.random.default_rng(0)
  failed = []
  for i in range(60):
    bad = bytearray(data)
    if i % 2:
      bad = bad[:rng.integers(4, len(bad))]
    for _ in range(rng.integers(0, 4)):
      bad[rng.integers(3, len(bad))] = rng.integers(0, 256)

    def fails(shrink, bad=bytes(bad)):
      try:
        source_lib.native(bad, shrink)
        return False
      except tf.errors.OpError:
        return True

    failed.append(fails(None))
    assert fails(lambda h, w: tf.constant(ratio)) <= failed[-1]
  assert 20 < sum(failed) < 60


def test_what_decoding_at_a_part_of_the_size_changes():
  """As `augment.one` says, on photographs of scikit-image."""
  rng = np.random.default_rng(0)
  off = np.zeros(8, bool)
  by_view, pixels, ratios = [], [], []
  for name in ("rocket", "retina", "hubble", "coffee"):
    file = io.BytesIO()
    Image.fromarray(photo_crops.load(name)).save(file, "JPEG", quality=95)
    data = file.getvalue()
    whole = source_lib.native(data).numpy()
    full = np.array(whole.shape[:2])
    for size in (24, 48, 96):
      its = augment.Rows(
          image_ops.crop_sides(
              rng.random((8, 10, 2), np.float32), (0.6, 1.0)),
          rng.random((8, 2), np.float32), off, np.zeros(8, np.float32),
          np.eye(3, 4, dtype=np.float32)[None].repeat(8, 0), off)
      image = source_lib.native(data, augment.shrink(its, size))
      ratios.append(round(full[0] / image.shape[0]))
      one, two = (
          augment.one(x, full, its, size).numpy().astype(int)
          for x in (image, whole))
      by_view += np.abs(one - two).mean((1, 2, 3)).tolist()
      pixels.append(np.abs(one - two).ravel())
  assert set(ratios) == {2, 4, 8}
  assert 0.1 < np.mean(by_view) < 1.1 and max(by_view) < 4.5
  assert (np.concatenate(pixels) > 12).mean() < 0.01


def test_large_photographs_of_every_decoder(section, tmp_path, monkeypatch):
  """Views at a reduced scale are those of the whole, nearly."""
  section = dataclasses.replace(section, jitter=0.0, solarize=(0.0, 0.0))
  photo = photograph(1200, 1600, detail=60)
  turned = {"exif": exif_of(6), "quality": 95}
  where = tmp_path / "train" / "a"
  where.mkdir(parents=True)
  (tmp_path / "test").mkdir()
  Image.fromarray(photo).save(where / "0.jpg", quality=95)
  Image.fromarray(np.rot90(photo)).save(where / "1.jpg", **turned)
  Image.fromarray(photo).save(where / "2.png")
  Image.fromarray(photo[..., 0]).save(where / "3.jpg", quality=95)
  source = datasets.open_source(
      config_lib.Data(
          name=f"folder:{tmp_path}", cache_dir=str(tmp_path / "cache"),
          memory_mb=0), "train", min_side=8)
  assert source.by_pillow.tolist() == [False, True, False, False]
  make = lambda: next(iter(pipeline.Batches(
      source, spec(section, batch=4), 0, 1)))
  small = make()
  monkeypatch.setattr(
      augment, "shrink", lambda *args: lambda h, w: tf.constant(1.0))
  whole = make()
  apart = np.abs(small["image"].astype(int) - whole["image"])
  by_view = apart.mean((1, 2, 3))
  jpeg = np.isin(small["index"], [0, 3])
  assert (by_view[~jpeg] == 0).all() and (by_view[jpeg] > 0).any()
  others = np.abs(small["image"].astype(int) - whole["image"][::-1])
  assert by_view.max() < 1 and np.median(others) > 20


def exif_of(orientation):
  """EXIF data that say how a picture was turned."""
  exif = Image.Exif()
  exif[0x112] = orientation
  return exif.tobytes()

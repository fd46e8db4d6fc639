"""Sources: folders, TFDS in both file formats, photo_crops, the cache."""

import dataclasses
import shutil

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import datasets
from mtvit.data import photo_crops
from mtvit.data import photo_tiles
from mtvit.data import pipeline
from mtvit.data import replacing
from mtvit.data import source as source_lib
from mtvit.data import tfds_sources
from mtvit.training import inputs


def open_source(name, split="train", tmp_path=None, memory_mb=100, **changes):
  poll = changes.pop("poll", lambda: None)
  return datasets.open_source(config_lib.Data(**dict(
      name=name, data_dir=str(tmp_path / "tfds"),
      cache_dir=str(tmp_path / "cache"), memory_mb=memory_mb) | changes),
      split, 4, poll)


def make_folder(root):
  """An empty data/train/a/; nothing of it is held out."""
  folder = root / "data" / "train" / "a"
  folder.mkdir(parents=True)
  (root / "data" / "test").mkdir()
  return folder


def test_a_folder_is_read_in_order_and_cached(image_folder, tmp_path):
  name = f"folder:{image_folder}"
  source = open_source(name, tmp_path=tmp_path)
  assert source.kind == "held" and source.num_examples == 40
  assert source.classes == ("astronaut", "coffee", "flower", "rocket")
  np.testing.assert_array_equal(source.labels, np.repeat(range(4), 10))
  with Image.open(image_folder / "train" / "coffee" / "3.png") as image:
    np.testing.assert_array_equal(source.images[13], np.asarray(image))
  # The cache is what is read the second time.
  cached, = (tmp_path / "cache" / "decoded").glob("*.mtvit")
  cache_files.save(
      cached, {"images": source.images // 2, "labels": source.labels})
  again = open_source(name, tmp_path=tmp_path)
  np.testing.assert_array_equal(again.images, source.images // 2)


def test_the_environment_says_where_caches_go(
    image_folder, tmp_path, monkeypatch):
  """Without a home too, but not against the config's own word."""
  name, mine = f"folder:{image_folder}", tmp_path / "mine"
  monkeypatch.delenv("HOME")
  monkeypatch.setenv("MTVIT_CACHE_DIR", str(mine))
  open_source(name, tmp_path=tmp_path)
  assert not mine.exists()
  monkeypatch.chdir(tmp_path)            # Not here.
  for default in ("~/.cache/mtvit", ""):
    open_source(name, tmp_path=tmp_path, cache_dir=default)
    assert len(list(mine.glob("*/*.mtvit"))) == 2, default
    shutil.rmtree(mine)
  monkeypatch.setenv("MTVIT_CACHE_DIR", "gs://bucket/cache")
  with pytest.raises(errors.ConfigError, match="MTVIT_CACHE_DIR=gs://"):
    open_source(name, tmp_path=tmp_path, cache_dir="~/.cache/mtvit")


def test_a_changed_folder_is_not_served_from_the_cache(tmp_path):
  folder = make_folder(tmp_path)
  save = lambda value: Image.fromarray(
      np.full((8, 8, 3), value, np.uint8)).save(folder / "0.png")
  save(10)
  name = f"folder:{tmp_path / 'data'}"
  assert (open_source(name, tmp_path=tmp_path).images == 10).all()
  save(200)
  assert (open_source(name, tmp_path=tmp_path).images == 200).all()


def test_images_of_several_sizes_are_not_held(image_folder, tmp_path):
  folder = make_folder(tmp_path)
  for i in range(70):       # Only the last is of another size.
    size = (9, 8) if i == 69 else (8, 8)
    Image.new("RGB", size).save(folder / f"{i:02}.png")
  source = open_source(f"folder:{tmp_path / 'data'}", tmp_path=tmp_path)
  assert source.kind == "indexed" and source.images is None


@pytest.mark.parametrize("damage", [
    lambda file: file.write_bytes(b""),
    lambda file: file.write_bytes(file.read_bytes()[:-300]),
    lambda file: file.write_text("no archive"),
    lambda file: cache_files.save(
        file, {"images": np.zeros((40, 8, 8, 3), np.uint8),
               "labels": np.zeros(40, np.int32)}),
    lambda file: cache_files.save(
        file, {"images": np.zeros((40, 24, 24, 3), np.uint8)}),
])
def test_a_damaged_cache_is_made_anew(damage, image_folder, tmp_path, capsys):
  name = f"folder:{image_folder}"
  source = open_source(name, tmp_path=tmp_path)
  cached, = (tmp_path / "cache" / "decoded").glob("*.mtvit")
  damage(cached)
  again = open_source(name, tmp_path=tmp_path)
  np.testing.assert_array_equal(again.images, source.images)
  assert "is damaged" in capsys.readouterr().err
  open_source(name, tmp_path=tmp_path)
  assert "is damaged" not in capsys.readouterr().err


def test_the_cache_depends_on_what_decides_the_pixels(
    image_folder, tmp_path, monkeypatch):
  folder = make_folder(tmp_path)
  for i, value in enumerate((10, 20)):
    Image.new("RGB", (8, 8 + i), (value,) * 3).save(folder / f"{i}.png")
  (tmp_path / "data" / "train" / "b").mkdir()
  name = f"folder:{tmp_path / 'data'}"
  small = open_source(name, tmp_path=tmp_path, max_pixels=64)
  assert small.images.shape == (1, 8, 8, 3)
  Image.new("RGB", (8, 8), (30,) * 3).save(folder / "1.png")
  assert open_source(name, tmp_path=tmp_path).num_examples == 2
  assert len(list((tmp_path / "cache" / "decoded").glob("*.mtvit"))) == 2
  monkeypatch.setattr(datasets.held.images_lib, "VERSION", -1)
  open_source(name, tmp_path=tmp_path)
  assert len(list((tmp_path / "cache" / "decoded").glob("*.mtvit"))) == 3


def test_decoding_into_memory_can_be_stopped(image_folder, tmp_path):
  class Stop(Exception):
    pass

  def poll():
    if (tmp_path / "cache" / "manifests").exists():     # It is checked.
      raise Stop

  with pytest.raises(Stop):
    open_source(f"folder:{image_folder}", tmp_path=tmp_path, poll=poll)
  assert not list((tmp_path / "cache").glob("*.*"))


def test_splits_must_have_the_same_classes(tiny, tmp_path):
  for split, names in (("train", "abc"), ("test", "acd")):
    for name in names:
      folder = tmp_path / "data" / split / name
      folder.mkdir(parents=True)
      Image.new("RGB", (8, 8)).save(folder / "0.png")
  tiny.data.name = f"folder:{tmp_path / 'data'}"
  config = config_lib.parse(tiny)
  with pytest.raises(errors.DataError, match=(
      r"only \S+/train has b; only \S+/test has d")):
    inputs.sources(config)
  (tmp_path / "data" / "train" / "d").mkdir()
  (tmp_path / "data" / "test" / "b").mkdir()
  train, test = inputs.sources(config)
  assert train.classes == test.classes == ("a", "b", "c", "d")
  assert test.labels.tolist() == [0, 2, 3]


def test_max_pixels_must_be_positive(tiny):
  tiny.data.max_pixels = 0
  with pytest.raises(errors.ConfigError, match="data.max_pixels=0"):
    config_lib.parse(tiny)


def test_unknown_and_unprepared_tfds_sets(tmp_path):
  with pytest.raises(errors.ConfigError, match="no such data set"):
    open_source("cifar_ten", tmp_path=tmp_path)
  with pytest.raises(errors.DataError, match="prepare_tfds.sh cifar10"):
    open_source("cifar10", tmp_path=tmp_path)


class Numbers(tfds.core.GeneratorBasedBuilder):
  """50 images; image i has the value i everywhere and the label i % 3."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(num_classes=3)}))

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(50):
      yield i, {"image": np.full((8 + i % 2, 8, 3), i, np.uint8),
                "label": i % 3}


@pytest.mark.parametrize("file_format, kind", [
    ("array_record", "indexed"), ("tfrecord", "streamed")])
def test_tfds_sets_that_are_prepared(file_format, kind, tmp_path):
  Numbers(data_dir=tmp_path / "tfds", file_format=file_format
          ).download_and_prepare()
  source = open_source("numbers", tmp_path=tmp_path)
  assert source.kind == kind and source.num_examples == 50
  ids = [3, 7, 40]
  records = list(source.lookup(
      tf.data.Dataset.from_tensor_slices(np.array(ids))).as_numpy_iterator())
  assert [int(r[2]) for r in records] == ids
  for encoded, label, i in records:
    value = source.decode(encoded, i).numpy().flat[0]
    assert value % 3 == label
  with pytest.raises(errors.ConfigError, match="no split 'trian'"):
    open_source("numbers", "trian", tmp_path=tmp_path)


class Records:
  """Stands in for an ArrayRecord file, one record of which is damaged."""

  def __init__(self, whole, bad):
    self._whole, self._bad = whole, bad

  def __getitem__(self, i):
    if i == self._bad:
      raise ValueError("checksum of the record differs")
    return self._whole[i]


def test_a_bad_record_is_replaced_or_an_error(tmp_path, monkeypatch):
  Numbers(data_dir=tmp_path / "tfds", file_format="array_record"
          ).download_and_prepare()
  source = open_source("numbers", tmp_path=tmp_path)
  values = [int(b["image"][0, 0, 0, 0])
            for b in pipeline.eval_batches(source, 8, 1)]
  bad = dataclasses.replace(source, data_source=Records(source.data_source, 7))
  with pytest.raises(errors.DataError, match="1 of 50 .* record 7 .*checksum"):
    list(pipeline.eval_batches(bad, 8, 10))
  monkeypatch.setattr(replacing, "MOST", 0.1)
  bad = dataclasses.replace(bad, bad=source_lib.Bad())
  got = [int(b["image"][0, 0, 0, 0])
         for b in pipeline.eval_batches(bad, 8, 1)]
  assert got == values[:7] + [values[8]] + values[8:]


def test_a_bad_record_of_a_stream_is_an_error(tmp_path, monkeypatch):
  Numbers(data_dir=tmp_path / "tfds", file_format="tfrecord"
          ).download_and_prepare()
  source = open_source("numbers", tmp_path=tmp_path)
  monkeypatch.setattr(
      type(source), "decode", lambda self, data, i: datasets.Source.decode(
          self, tf.strings.substr(data, 0, 40), i))
  with pytest.raises(errors.DataError, match="as ArrayRecord"):
    next(pipeline.eval_batches(source, 8, 10))


def position_of_value(source):
  """Value of an image -> its place in the split, read one after the other."""
  records = source.builder.as_dataset(split=source.split)
  return {int(r["image"].numpy().flat[0]): i for i, r in enumerate(records)}


def test_a_stream_resumes_where_it_was(tmp_path):
  Numbers(data_dir=tmp_path / "tfds", file_format="tfrecord"
          ).download_and_prepare()
  source = open_source("numbers", tmp_path=tmp_path)

  def values(skip, count, host=0, hosts=1):
    ds = source.stream(0, skip, host, hosts).take(count)
    records = list(ds.as_numpy_iterator())
    found = [int(source.decode(r[0], r[2]).numpy().flat[0]) for r in records]
    whole_split = position_of_value(source)
    assert [whole_split[v] for v in found] == [int(r[2]) for r in records]
    return found

  whole = values(0, 100)
  assert whole[30:] == values(30, 70)
  assert sorted(whole[:50]) == sorted(whole[50:]) == list(range(50))
  assert whole[:50] != whole[50:] and whole[:50] != list(range(50))
  halves = values(0, 25, 0, 2) + values(0, 25, 1, 2)
  assert sorted(halves) == list(range(50))


def test_a_stream_is_shuffled_by_blocks_and_a_buffer(tmp_path, monkeypatch):
  monkeypatch.setattr(tfds_sources, "_BUFFER", 5)
  monkeypatch.setattr(tfds_sources, "_BLOCKS", 4)
  Numbers(data_dir=tmp_path / "tfds", file_format="tfrecord"
          ).download_and_prepare()
  source = open_source("numbers", tmp_path=tmp_path)

  def ids(seed, skip, count, part=0, parts=1):
    return [int(r[2]) for r in source.stream(
        seed, skip, part, parts).take(count).as_numpy_iterator()]

  found = {seed: ids(seed, 0, 150) for seed in (0, 1, 2**32)}
  epochs = [x[i:i + 50] for x in found.values() for i in (0, 50, 100)]
  assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
  # In particular, epoch 0 of seed 1 is not epoch 1 of seed 0.
  assert len({tuple(epoch) for epoch in epochs}) == 9
  assert found[1][67:] == ids(1, 67, 83)
  # Which of four blocks comes first differs; in one order all would be 0.
  assert len({epoch[0] // 13 for epoch in epochs}) > 1
  halves = [ids(0, 0, 50, part, 2) for part in (0, 1)]
  for part, half in enumerate(halves):
    for epoch in (half[:25], half[25:]):
      assert sorted(epoch) == list(range(25 * part, 25 * part + 25))


def test_photo_crops_come_from_disjoint_regions(monkeypatch, tmp_path):
  # A photograph whose red channel says the column it is in.
  columns = np.zeros((200, 256, 3), np.uint8)
  columns[..., 0] = np.arange(256)
  monkeypatch.setattr(photo_crops, "load", lambda name: columns)
  most = max(c[..., 0].max() for c in photo_crops.crops("x", "train"))
  least = min(c[..., 0].min() for c in photo_crops.crops("x", "test"))
  assert most < least


def test_photo_crops_is_prepared_without_a_network(tmp_path, monkeypatch):
  monkeypatch.setattr(photo_crops, "CROPS", {"train": 3, "test": 2})
  source = open_source("photo_crops", tmp_path=tmp_path)
  assert source.kind == "held" and source.images.shape == (24, 64, 64, 3)
  assert source.classes == tuple(photo_crops.PHOTOGRAPHS)
  for label, name in enumerate(photo_crops.PHOTOGRAPHS):
    want = {crop.tobytes() for crop in photo_crops.crops(name, "train")}
    got = {x.tobytes() for x in source.images[source.labels == label]}
    assert got == want
  test = open_source("photo_crops", "test", tmp_path=tmp_path)
  assert test.num_examples == 16


def test_another_process_makes_the_photographs_first(tmp_path, monkeypatch):
  monkeypatch.setattr(photo_crops, "CROPS", {"train": 3, "test": 2})
  make, others = photo_crops.PhotoCrops.make, []

  def make_after_another(*args):
    if not others:
      others.append(None)
      others.append(open_source("photo_crops", tmp_path=tmp_path))
    return make(*args)

  monkeypatch.setattr(photo_crops.PhotoCrops, "make", make_after_another)
  source = open_source("photo_crops", tmp_path=tmp_path)
  np.testing.assert_array_equal(source.images, others[1].images)
  assert not list((tmp_path / "tfds").glob("*/incomplete*"))


def test_photo_tiles_share_no_pixel_and_have_all_splits_everywhere():
  width, height = 640, 427
  taken = np.zeros((height, width), int)
  for split in photo_tiles.CROPS:
    found = photo_tiles.tiles(width, height, split)
    for left, top in found:
      taken[top:top + photo_tiles.TILE, left:left + photo_tiles.TILE] += 1
    columns = {left for left, _ in found}
    assert len(columns) == width // photo_tiles.TILE
  side = photo_tiles.TILE
  assert taken.max() == 1
  assert taken.sum() == (width // side) * (height // side) * side**2


def test_crops_of_photo_tiles_lie_in_tiles_of_their_split(monkeypatch):
  """A photograph whose tiles each have stripes of another distance."""
  width, height = 3 * 192, 2 * 192
  splits = list(photo_tiles.CROPS)
  wave = np.zeros((height, width))
  for number, split in enumerate(splits):
    for left, top in photo_tiles.tiles(width, height, split):
      x = np.arange(photo_tiles.TILE)
      wave[top:top + photo_tiles.TILE, left:left + photo_tiles.TILE] = np.sin(
          2 * np.pi * x / (6, 14, 40)[number])
  photo = np.repeat(np.uint8(127 + 100 * wave)[..., None], 3, -1)
  monkeypatch.setattr(photo_crops, "read", lambda path: photo)
  monkeypatch.setattr(photo_tiles, "CROPS", dict.fromkeys(splits, 40))

  def steepness(crop):
    gray = crop.mean(-1)
    return np.abs(np.diff(gray, axis=1)).mean() / gray.std()

  found = [[steepness(crop) for crop in photo_tiles.crops("coffee", split)]
           for split in splits]
  for steep, flat in zip(found, found[1:]):
    assert min(steep) > 1.2 * max(flat)


def test_colour_and_brightness_tell_no_photograph_of_photo_tiles():
  noise = np.random.default_rng(0).normal(0, 1, (64, 64, 1))
  lit = lambda crop: photo_tiles.relit(  # noqa: E731
      crop.astype(np.float32), np.random.default_rng(1)).astype(int)
  first = lit(10 * noise + (180, 20, 20))
  for other in (10 * noise + (20, 20, 180), 30 * noise + (100, 120, 140)):
    np.testing.assert_allclose(lit(other), first, atol=1)
  crop = 10 * noise + [128] * 3
  found = [photo_tiles.relit(crop, np.random.default_rng(seed))
           for seed in range(100)]
  means = [x.mean() for x in found]
  spreads = [x.mean(-1).std() for x in found]
  for values, (low, high) in (
      (means, photo_tiles.MEAN), (spreads, photo_tiles.CONTRAST)):
    assert low - 3 < min(values) < low + 8 and high - 8 < max(values) < high + 3
  # Hues turn: white stays white, red becomes any other of its lightness.
  turned = photo_tiles._turn(2 * np.pi / 3)
  np.testing.assert_allclose(turned @ (1, 1, 1), 1, atol=1e-12)
  np.testing.assert_allclose(turned @ (1, 0, 0), (0, 1, 0), atol=1e-12)


def test_photo_tiles_is_prepared_without_a_network(tmp_path, monkeypatch):
  monkeypatch.setattr(
      photo_tiles, "CROPS", {"train": 3, "validation": 1, "test": 2})
  source = open_source("photo_tiles", tmp_path=tmp_path)
  assert source.kind == "held" and source.images.shape == (36, 64, 64, 3)
  assert source.classes == tuple(photo_tiles.PHOTOGRAPHS)
  for label, name in enumerate(photo_tiles.PHOTOGRAPHS):
    want = {crop.tobytes() for crop in photo_tiles.crops(name, "train")}
    got = {x.tobytes() for x in source.images[source.labels == label]}
    assert got == want and len(got) == 3
  for split, count in (("validation", 12), ("test", 24)):
    other = open_source("photo_tiles", split, tmp_path=tmp_path)
    assert other.num_examples == count

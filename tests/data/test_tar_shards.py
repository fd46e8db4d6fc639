"""Tar shards: read at random, with labels, whatever is wrong with them."""

import gzip
import io
import itertools
import json
import os
import random
import shutil
import tarfile

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import datasets
from mtvit.data import manifest
from mtvit.data import pipeline
from mtvit.data import source as source_lib
from mtvit.data import tar_index
from mtvit.data import tar_members
from mtvit import pretrain
from mtvit.run import config_values
from tests import states

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def encoded(value, kind="PNG", size=(8, 8), **options):
  file = io.BytesIO()
  Image.new("RGB", size, (value, 0, 0)).save(file, kind, **options)
  return file.getvalue()


def write(file, files, kind=tarfile.PAX_FORMAT):
  """A tar of (name, bytes or TarInfo)."""
  os.makedirs(os.path.dirname(file), exist_ok=True)
  with tarfile.open(file, "w", format=kind) as tar:
    for name, data in files:
      info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo()
      info.name = name
      if data is not info:
        info.size = len(data)
      tar.addfile(info, None if data is info else io.BytesIO(data))


def examples(values, labels=None):
  """PNGs of these values and of two sizes, each with a .cls file."""
  for value, label in zip(values, labels or itertools.cycle("01")):
    yield f"{value:04}.png", encoded(value, size=(8, 8 + value % 2))
    yield f"{value:04}.cls", label.encode()


@pytest.fixture
def root(tmp_path):
  """Shards train-0, train-1 of 30 images and val-0 of 10."""
  for name, first, last in (
      ("train-0", 0, 30), ("train-1", 30, 60), ("val-0", 60, 70)):
    write(tmp_path / "data" / f"{name}.tar", examples(range(first, last)))
  return tmp_path / "data"


def config(root, pattern="{split}-*.tar", **changes):
  return config_lib.Data(**dict(
      name=f"tar:{root}/{pattern}", memory_mb=0, max_pixels=10**6,
      cache_dir=str(root.parent / "cache")) | changes)


def open_train(root, pattern="train-*.tar", began=None, **changes):
  """All images of a pattern."""
  return datasets.open_source(
      config(root, pattern, **dict(test_split="train") | changes), "train", 4,
      began=began)


def open_splits(root, pattern="{split}-*.tar", began=None, **changes):
  return datasets.open_splits(
      config(root, pattern, **changes), 4, began=began)


def decoded(source):
  ds = source.lookup(tf.data.Dataset.range(source.num_examples)).map(
      lambda data, label, i: (source.decode(data, i), label))
  return list(ds.as_numpy_iterator())


def values(source):
  """(first value, label) of each image, read as a run reads it."""
  return [(int(image.flat[0]), int(label)) for image, label in decoded(source)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("memory_mb", [0, 10])
def test_pixels_and_labels_are_those_that_were_written(
    kind, memory_mb, tmp_path):
  draw = np.random.default_rng(0)
  images = draw.integers(0, 256, (12, 9, 11, 3), np.uint8)
  folder = "a" * 90 + "/" + "b" * 60 + "/"        # Fits into no old header.
  long = folder if kind == tarfile.USTAR_FORMAT else folder + "ü" * 120

  def files(ids):
    for i in ids:
      file = io.BytesIO()
      Image.fromarray(images[i]).save(file, "PNG")
      # What is not used may stand anywhere.
      yield f"{long}{i}.cls", str(i % 3 + 8).encode()
      yield f"{long}{i}.caption.txt", b"." * (i * 100)
      yield f"{long}{i}.png", file.getvalue()

  write(tmp_path / "data" / "x-1.tar", files(range(5)), kind)
  write(tmp_path / "data" / "x-2.tar", files(range(5, 12)), kind)
  source = open_train(tmp_path / "data", "x-{1..2}.tar", memory_mb=memory_mb)
  assert source.kind == ("held" if memory_mb else "indexed")
  assert source.classes == ("8", "9", "10") and source.num_examples == 12
  assert source.names[5] == f"x-2.tar/{long}5.png"
  if memory_mb:
    np.testing.assert_array_equal(source.images, images)
    assert source.labels.tolist() == [0, 1, 2] * 4
  else:
    for i, (image, label) in enumerate(decoded(source)):
      np.testing.assert_array_equal(image, images[i])
      assert label == i % 3


def test_what_pillow_reads_arrives_whole(tmp_path):
  """Formats that TensorFlow decodes wrongly; zero bytes at the end, too."""
  turned = Image.Exif()
  turned[0x112] = 6
  y, x = np.mgrid[:8, :8].astype(np.uint16)
  deep = io.BytesIO()
  Image.fromarray(x * 8000 + y).save(deep, "PNG")
  cmyk = io.BytesIO()
  Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(cmyk, "JPEG")
  blue = io.BytesIO()
  Image.new("RGB", (8, 8), (0, 0, 200)).save(blue, "WEBP", lossless=True)
  assert blue.getvalue().endswith(b"\0")
  write(tmp_path / "data" / "a.tar", [
      ("0.webp", blue.getvalue()),
      ("1.jpg", encoded(90, "JPEG", (8, 5), exif=turned)),
      ("2.png", deep.getvalue()), ("3.JPEG", cmyk.getvalue()),
      ("4.gif", encoded(7, "GIF")), ("5.bmp", encoded(9, "BMP")),
      ("6.avif", encoded(50, "AVIF")), ("7.jpg", encoded(70, "JPEG"))])
  source = open_train(tmp_path / "data", "a.tar")
  assert source.by_pillow.tolist() == [True] * 7 + [False]
  got = [image for image, _ in decoded(source)]
  assert [x.shape[:2] for x in got] == [(8, 8), (8, 5)] + [(8, 8)] * 6
  assert got[0][0, 0].tolist() == [0, 0, 200] and got[2][0, 7, 0] == 218
  assert got[3][0, 0, 0] > 240 and got[3][0, 0, 1:].max() < 15
  for i, image in enumerate(got):
    eager = source.decode(source.read(i), tf.constant(i, tf.int64))
    np.testing.assert_array_equal(image, eager)


@pytest.mark.parametrize("files, classes, labels", [
    # Integers are in the order of their values.
    ([("a.cls", b"10\n"), ("b.cls", b" 9"), ("c.cls", b"009")], ("9", "10"),
     [1, 0, 0]),
    ([("a.json", b'{"label": 2}'), ("b.json", b'{"label": 1, "class": "x"}'),
      ("c.json", b'{"class": "x", "label": "2"}')], ("1", "2"), [1, 0, 1]),
    ([("a.json", b'{"class_name": "dog"}'), ("b.json", b'{"class": "cat"}'),
      ("c.cls", b"dog"), ("c.json", b'{"class": "cat"}')], ("cat", "dog"),
     [1, 0, 1]),
    # What says nothing: no label.
    ([("a.cls", b"-1"), ("b.json", b'{"caption": "a dog"}'),
      ("c.json", b"[" * 10_000)], (), [-1, -1, -1]),
    ([("a.cls", b"\xff"), ("b.cls", b"two\nlines"), ("c.cls", b"7" * 999)],
     (), [-1, -1, -1]),
    ([("a.json", b'{"label": true}'), ("b.json", b'{"label": [1]}'),
      ("c.json", b'{"label": null, "class": 1.5}')], (), [-1, -1, -1]),
])
def test_what_labels_say(files, classes, labels, tmp_path):
  images = [(f"{x}.png", encoded(i)) for i, x in enumerate("abc")]
  write(tmp_path / "data" / "a.tar", files[:1] + images + files[1:])
  source = open_train(tmp_path / "data", "a.tar")
  assert source.classes == classes
  assert source.file_labels.tolist() == labels
  unlabelled = open_train(tmp_path / "data", "a.tar", labels="none")
  assert unlabelled.classes == () and values(unlabelled) == [
      (0, -1), (1, -1), (2, -1)]
  assert (unlabelled.fingerprint == source.fingerprint) == (not classes)


def test_folders_in_a_tar_are_classes_if_it_is_said(tmp_path):
  write(tmp_path / "data" / "a.tar", [
      (f"./train/{name}/{i}.png", encoded(i)) for name in ("dog", "cat")
      for i in range(2)])
  assert open_train(tmp_path / "data", "a.tar").classes == ()
  source = open_train(tmp_path / "data", "a.tar", labels="folders")
  assert source.classes == ("cat", "dog")
  assert values(source) == [(0, 1), (1, 1), (0, 0), (1, 0)]


def test_images_without_a_label_are_left_out_beside_others(root, capsys):
  write(root / "train-2.tar", [("x.png", encoded(99))])
  assert open_train(root).num_examples == 60
  said = capsys.readouterr().err
  assert "1 images without a label" in said and "labels=none takes" in said
  assert open_train(root, labels="none").num_examples == 61


def test_splits_are_told_by_names_or_by_the_hash(root, capsys):
  train, test = open_splits(root)
  assert (train.num_examples, test.num_examples) == (60, 10)
  assert train.classes == test.classes == ("0", "1")
  assert "val-*.tar serves as test" in capsys.readouterr().err
  _, named = open_splits(root, test_split="val")
  assert named.names == test.names
  # The held-out part is the same in whatever order, and beside others.
  held_out = []
  for pattern, changes in (("{val,train}-?.tar", {}), ("*.tar", {}),
                           ("{split}-*.tar", {"test_split": ""})):
    train, test = open_splits(root, pattern, **changes)
    assert sorted([*train.names, *test.names]) == sorted(
        f"{shard}.tar/{i:04}.png" for shard, ids in (
            ("train-0", range(30)), ("train-1", range(30, 60)),
            ("val-0", range(60, 70 if not changes else 60))) for i in ids)
    held_out.append({x for x in test.names if x.startswith("train")})
  assert held_out[0] == held_out[1] == held_out[2] and len(held_out[0]) > 1
  assert "chosen by their names, are held out" in (
      capsys.readouterr().err)


def test_a_test_split_may_lack_classes(root, capsys):
  write(root / "val-0.tar", examples([60, 61, 62], ["1", "1", "7"]))
  train, test = open_splits(root)
  assert train.classes == test.classes == ("0", "1")
  assert values(test) == [(60, 1), (61, 1)]
  assert "1 images without a label, or of another class" in (
      capsys.readouterr().err)


@pytest.mark.parametrize("pattern, changes, message", [
    ("trian-*.tar", {}, "no shard matches .*trian-.*; in .*data there are: "
     r"train-0.tar, train-1.tar, val-0.tar\n"),
    ("x/y/*.tar", {}, "in .*data there are: train-0.tar"),
    ("train-{0..3}.tar", {}, "2 of 4 shards are not there: train-2.tar, tr"),
    ("", {}, r"data is a folder\n.*data/\*.tar"),
    ("{split}-*.tar", {"train_split": "trian"}, "no shard matches .*trian-"),
    ("{split}-*.tar", {"test_split": "tset"}, "no shard matches .*tset-"),
    ("{split}-1.tar", {}, "no shard matches .*test-1.tar.*\n.*held-out"),
    ("train-*.tar", {"test_split": "val"}, "names no split"),
    ("{0..9999999999}.tar", {}, "more than 1,000,000 shards"),
    ("{,}" * 2000, {}, "more than 1,000,000 shards"),
])
def test_patterns_that_name_nothing(pattern, changes, message, root):
  with pytest.raises(errors.ConfigError, match=message) as e:
    open_splits(root, pattern, **changes)
  assert "fix:" in str(e.value) and len(str(e.value).splitlines()) <= 5


@pytest.mark.parametrize("path", [
    "gs://bucket/{0..9}.tar", "https://host/a.tar", "pipe:curl a"])
def test_other_places_are_refused(path, tmp_path):
  with pytest.raises(errors.ConfigError, match="not on a disk"):
    datasets.open_source(config_lib.Data(
        name=f"tar:{path}", cache_dir=str(tmp_path)), "train", 4)


@pytest.mark.parametrize("pattern, names", [
    ("{08..11}", ["08", "09", "10", "11"]), ("{8..10}", ["8", "9", "10"]),
    ("{2..0}", ["2", "1", "0"]), ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
    ("{a}{}{..}{0..x}", ["{a}{}{..}{0..x}"])])
def test_braces_are_those_of_a_shell(pattern, names):
  assert list(datasets.tar_shards.tar_pattern._braces(pattern)) == names


def links(kind):
  info = tarfile.TarInfo()
  info.type, info.linkname = kind, "0000.png"
  return info


def test_what_is_no_image_is_refused_by_name(root, capsys):
  big = encoded(1, size=(1001, 1000))
  write(root / "train-1.tar", [
      ("a.png", encoded(31)), ("a.png", encoded(32)), ("a.jpg", encoded(33)),
      ("b.png", links(tarfile.LNKTYPE)), ("c.png", links(tarfile.SYMTYPE)),
      ("d.png", links(tarfile.FIFOTYPE)), ("e.png", b""), ("f.png", b"text"),
      ("g.png", encoded(34)[:45]), ("h.png", big), ("i.txt", b"text"),
      ("j.png", encoded(35, size=(3, 9))), ("._k.png", b"x"),
      ("l", b"y"), ("m.seg.png", encoded(36)), ("last.jpg", encoded(37))])
  source = open_train(root, labels="none")
  assert values(source) == [(i, -1) for i in [*range(30), 31, 37]]
  said, hidden = capsys.readouterr().err.splitlines()
  assert "1 members left out, as hidden" in hidden
  lines = open(said.partition("listed in ")[2]).read().splitlines()
  found = dict(reversed(line.split(f"\t{root}/train-1.tar/"))
               for line in lines)
  reasons = {name: why.partition(":")[0] for name, why in found.items()}
  assert reasons == {
      "a.png (again)": "name that is there before",
      "a.jpg": "second image of an example", "b.png": "hard link",
      "c.png": "symbolic link", "d.png": "not an ordinary file",
      "e.png": "empty file", "f.png": "not an image",
      "g.png": "truncated or damaged", "h.png": "too many pixels",
      "i": "no image", "j.png": "too small", "l": "no image",
      "m": "no image"}


def sparse(name, data):
  """GNU's sparse file, with a second block of its map."""
  info = tarfile.TarInfo(name)
  info.size = len(data)
  head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
  head[156:157] = b"S"
  head[482] = 1
  head[148:156] = b" " * 8
  head[148:156] = b"%06o\0 " % sum(head)
  return bytes(head) + bytes(512) + data.ljust(512, b"\0")


def test_a_sparse_file_is_refused_and_what_follows_read(root, capsys):
  rest = (root / "train-1.tar").read_bytes()
  told = tarfile.TarInfo("p.png")
  told.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "old.png"}
  told.size = 3
  (root / "train-1.tar").write_bytes(
      sparse("s.png", b"x" * 100) + told.tobuf(tarfile.PAX_FORMAT)
      + b"abc".ljust(512, b"\0") + rest)
  assert open_train(root).num_examples == 60
  assert "2 of 62 files refused: 2 sparse file" in capsys.readouterr().err


@pytest.mark.parametrize("content, message", [
    (lambda data: gzip.compress(data), "compressed by gzip.*\n.*gunzip"),
    (lambda data: b"", "train-1.tar is empty"),
    (lambda data: b"no tar" * 999, "is not a tar archive"),
    (lambda data: data[:100], "is not a tar archive"),
    (lambda data: b"\x28\xb5\x2f\xfd" + data, "compressed by zstd")])
def test_what_is_no_tar_is_named(content, message, root):
  file = root / "train-1.tar"
  file.write_bytes(content(file.read_bytes()))
  with pytest.raises(errors.DataError, match=message) as e:
    open_train(root)
  assert "train-1.tar" in str(e.value)


def test_an_empty_tar_has_no_images(root):
  for name in ("train-0", "train-1"):
    write(root / f"{name}.tar", [])
  with pytest.raises(errors.DataError, match="no images in .*train-"):
    open_train(root)


def test_a_shard_that_is_cut_off_is_used_as_far_as_it_goes(root, capsys):
  file = root / "train-1.tar"
  with tarfile.open(file) as tar:
    member = tar.getmembers()[-4]                  # 0058.png
  whole = file.read_bytes()
  file.write_bytes(whole[:member.offset_data + 60])
  assert open_train(root).num_examples == 58
  assert "1 of 2 shards are used only up to where they are damaged: " \
      "train-1.tar is cut off in 0058.png" in capsys.readouterr().err
  # Without its end it is whole; a header may be damaged, too.
  file.write_bytes(whole[:whole.rindex(b"ustar") - 257 + 1024])
  assert open_train(root).num_examples == 60
  assert "damaged" not in capsys.readouterr().err
  file.write_bytes(
      whole[:member.offset + 100] + b"?" + whole[member.offset + 101:])
  assert open_train(root).num_examples == 58
  assert f"has no header at byte {member.offset:,}" in capsys.readouterr().err


@pytest.fixture
def reads(monkeypatch):
  """Names of the shards that are read through."""
  names = []
  real = tar_index._read

  def read(file, *args):
    names.append(os.path.basename(file.name))
    return real(file, *args)

  monkeypatch.setattr(tar_index, "_read", read)
  return names


def test_shards_are_read_once_and_again_when_they_change(root, reads):
  first = open_train(root)
  assert sorted(reads) == ["train-0.tar", "train-1.tar"]
  reads.clear()
  assert open_train(root).fingerprint == first.fingerprint and not reads
  write(root / "train-1.tar", examples([80, 81, 82]))
  again = open_train(root)
  assert reads == ["train-1.tar"] and again.fingerprint != first.fingerprint
  assert [x for x, _ in values(again)] == [*range(30), 80, 81, 82]


@pytest.mark.parametrize("damage", [
    lambda content: b"", lambda content: [], lambda content: {"about": 1},
    lambda content: content | {"index": [[["a", 0, 1, 2]], {}, 0, ""]},
    lambda content: content | {"index": [[["a", -9, 1, 2, ""]], {}, 0, ""]},
    lambda content: content | {"index": [[], {"a": 1}, 0, ""]},
    lambda content: content | {"index": 5}])
def test_a_damaged_index_is_made_anew(damage, root, reads, capsys):
  first = open_train(root)
  for file in (root.parent / "cache" / "shards").iterdir():
    content = damage(cache_files.load_json(file))
    file.write_bytes(content) if isinstance(content, bytes) else (
        cache_files.save_json(file, content))
  reads.clear()
  assert open_train(root).fingerprint == first.fingerprint
  assert len(reads) == 2
  reads.clear()
  open_train(root)
  assert not reads


def test_a_stopped_reading_keeps_what_it_has(root, reads):
  def poll():
    if reads:
      raise errors.Preempted("stop")

  monkeypatched = config(root, "train-*.tar", test_split="train")
  with pytest.raises(errors.Preempted):
    datasets.open_source(monkeypatched, "train", 4, poll)
  count = len(reads)
  open_train(root)
  assert count <= len(reads) <= 2 + count


def test_a_batch_is_made_of_what_is_asked_for(root):
  """Read at random and in parallel, by two hosts."""
  source = open_train(root)
  ids = np.random.default_rng(0).permutation(60)
  ds = source.lookup(tf.data.Dataset.from_tensor_slices(ids)).map(
      lambda data, label, i: (source.decode(data, i)[0, 0, 0], i))
  assert [(int(x), int(i)) for x, i in ds.as_numpy_iterator()] == [
      (i, i) for i in ids]


def began(source):
  return source_lib.Began(source.classes, source.names, source.stamps)


def test_a_run_goes_on_with_the_images_that_it_began_with(root, capsys):
  first = open_train(root)
  kept, was = began(first), values(first)
  # Shards that are written anew, in another order, and more of them.
  write(root / "train-0.tar", reversed(list(examples(range(30)))))
  write(root / "train-2.tar", examples(range(90, 99), itertools.repeat("5")))
  capsys.readouterr()
  again = open_train(root, began=kept)
  assert values(again) == was and again.names == first.names
  assert "9 images without a label, or of another class" in (
      capsys.readouterr().err)
  (root / "train-2.tar").unlink()
  write(root / "train-0.tar", [
      (f"{i:04}.png", encoded(i, size=(8, 9))) for i in range(30)],
      tarfile.USTAR_FORMAT)
  # 30 are of no class now.
  with pytest.raises(errors.DataError, match="30 of 60 images went bad"):
    open_train(root, began=kept)


def test_one_image_that_is_gone_is_replaced(tmp_path, capsys):
  root = tmp_path / "data"
  write(root / "train-0.tar", examples(range(150)))
  first = open_train(root)
  write(root / "train-0.tar", examples([*range(9), *range(10, 150)]))
  again = open_train(root, began=began(first))
  assert "train-0.tar/0009.png (it is in no shard)" in capsys.readouterr().err
  seen = [int(b["image"][i, 0, 0, 0]) for b in pipeline.eval_batches(
      again, 8, 150) for i in range(150)]
  assert seen == [*range(9), 10, *range(10, 150)]


@pytest.mark.parametrize("change, message", [
    (lambda file: file.unlink(), "No such file or directory"),
    (lambda file: write(file, examples(range(100, 130))),
     "the shard has changed"),
    (lambda file: file.write_bytes(file.read_bytes()[:2000]),
     "the shard has changed"),
    (lambda file: (file.unlink(), os.mkfifo(file)), "not a regular file")])
def test_shards_that_change_while_they_are_read(change, message, root):
  source = open_train(root)
  change(root / "train-1.tar")
  with pytest.raises(errors.DataError, match=message) as e:
    list(pipeline.eval_batches(source, 8, 60))
  assert "of 60 images went bad" in str(e.value)
  assert "restore the shards" in str(e.value)


def test_what_went_bad_while_it_was_read_is_left_out_next_time(
    tmp_path, monkeypatch):
  monkeypatch.setattr(manifest, "_FEW", 0)      # A large set.
  draw, root, files = np.random.default_rng(0), tmp_path / "data", []
  for i in range(100):
    file = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(
        file, "PNG")
    data = bytearray(file.getvalue())
    if i in (6, 40, 77):
      data[len(data) // 2] ^= 0xFF
    files.append((f"{i:03}.png", bytes(data)))
  write(root / "a.tar", files)
  with pytest.raises(errors.DataError, match=r"of 100 images .*more than 1%"):
    open_train(root, "a.tar")       # It looks at the first 64.
  again = open_train(root, "a.tar")
  assert again.num_examples == 97
  assert len(list(pipeline.eval_batches(again, 8, 97))) == 1


@pytest.mark.slow
def test_a_run_that_stops_goes_on_as_if_it_had_not(
    tiny, image_shards, tmp_path):
  tiny.data.update(name=f"tar:{image_shards}", memory_mb=0)
  plain = config_values.to_plain(tiny)
  result = pretrain.pretrain(plain, tmp_path / "whole")
  assert result["knn/accuracy"] > 0.3       # Of four classes.
  shutil.copytree(tmp_path / "whole", tmp_path / "again")
  shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
  pretrain.pretrain(plain, tmp_path / "again")
  states.assert_same(tmp_path / "whole", tmp_path / "again")


def test_damaged_headers_are_no_crash(tmp_path):
  """Whatever their bytes, members lie inside, and reading ends."""
  draw = random.Random(0)
  base = tmp_path / "base.tar"
  for kind in FORMATS:
    write(base, [
        ("x" * 150 * (kind != tarfile.USTAR_FORMAT) + "a.png", b"1" * 700),
        ("b.cls", b"1"), ("c.png", links(tarfile.LNKTYPE)),
        ("d.json", b"{}"), ("e.png", b"2" * 5)], kind)
    whole = base.read_bytes()
    for _ in range(400):
      data = bytearray(whole[:draw.choice([len(whole), draw.randrange(9999)])])
      for _ in range(draw.randint(0, 6)):
        block = draw.randrange(max(1, len(data) // 512)) * 512
        field = draw.choice([0, 100, 124, 156, 257, 345, 482, 0])
        for i in range(draw.randint(1, 12)):
          if block + field + i < len(data):
            data[block + field + i] = draw.choice([
                0, 0x80, 0xFF, draw.randrange(256), *b"0917 -xLgSK="])
        # Only with the right sum it is looked at.
        if len(data) >= block + 512:
          head = data[block:block + 512]
          head[148:156] = b" " * 8
          data[block + 148:block + 156] = b"%06o\0 " % sum(head)
      found = []
      try:
        for member in tar_members.walk(io.BytesIO(data), len(data)):
          found.append(member)
      except tar_members.Damaged:
        pass
      assert len(found) <= len(data) // 512
      for member in found:
        assert member.refused or (
            512 <= member.start <= member.start + member.size <= len(data))


def test_damaged_shards_are_no_crash(tmp_path):
  draw = random.Random(1)
  whole = tmp_path / "whole.tar"
  write(whole, [*examples(range(3)), (
      "e.json", json.dumps({"label": 3}).encode()), ("e.png", encoded(1))])
  data = whole.read_bytes()[:16 * 512]
  for trial in range(30):
    broken = bytearray(data)
    for _ in range(draw.randint(1, 4)):
      broken[draw.randrange(len(data))] = draw.randrange(256)
    file = tmp_path / f"{trial}" / "a.tar"
    file.parent.mkdir()
    file.write_bytes(broken)
    try:
      source = open_train(file.parent, "a.tar")
    except errors.DataError:
      continue
    assert source.num_examples <= 4

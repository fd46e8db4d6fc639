"""Folders: what is taken, what is refused, and that it is checked once."""

import json
import os
import pathlib
import socket
import time

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import datasets
from mtvit.data import image_check
from mtvit.data import manifest
from mtvit.data import pipeline

ODD_NAMES = [
    b"a b.png", b"new\nline.png", b"tab\tquote\"'.png",
    "Ünï 日本 🎉.png".encode(), b"not utf-8 \xff\xe9.png", b"no extension",
    b"-rf *.png", b"x" * 251 + b".png", b"100%s{}$HOME.jpg.png"]


def save(file, value=0, size=(8, 8)):
  os.makedirs(os.path.dirname(file), exist_ok=True)
  with open(file, "wb") as f:
    Image.new("RGB", size, (value,) * 3).save(f, "PNG")


@pytest.fixture
def root(tmp_path):
  """data/train/a/ with images 0 .. 4 of these values; none is held out."""
  (tmp_path / "data" / "test").mkdir(parents=True)
  for i in range(5):
    save(tmp_path / "data" / "train" / "a" / f"{i}.png", i)
  return tmp_path / "data" / "train"


def open_folder(root, min_side=4, poll=lambda: None, **changes):
  return datasets.open_source(
      config_lib.Data(**dict(
          name=f"folder:{root.parent}", memory_mb=0, max_pixels=10**6,
          labels="folders", cache_dir=str(root.parents[1] / "cache")
      ) | changes), "train", min_side, poll)


def values(source):
  """First value of each image, read as a run reads it."""
  ds = source.lookup(tf.data.Dataset.range(source.num_examples)).map(
      lambda data, label, i: source.decode(data, i))
  return [int(x.flat[0]) for x in ds.as_numpy_iterator()]


def damage(file):
  """Flips a byte in the middle, which leaves header, end and time alone."""
  before = os.stat(file)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 0xFF
  file.write_bytes(data)
  os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def count(monkeypatch):
  """Names of the files that are checked."""
  names = []
  real = image_check.check

  def check(path, *args):
    names.append(os.path.basename(path))
    return real(path, *args)

  monkeypatch.setattr(image_check, "check", check)
  return names


def test_files_are_checked_once_and_again_when_they_change(root, count):
  first = open_folder(root)
  assert sorted(count) == [f"{i}.png" for i in range(5)]
  count.clear()
  again = open_folder(root)
  assert count == [] and again.fingerprint == first.fingerprint
  assert again.files == first.files
  save(root / "a" / "2.png", 77, size=(9, 9))
  (root / "a" / "3.png").unlink()
  changed = open_folder(root)
  assert count == ["2.png"] and values(changed) == [0, 1, 77, 4]
  assert changed.fingerprint != first.fingerprint
  # As large as before, but written later.
  junk = root / "a" / "4.png"
  junk.write_bytes(bytes(junk.stat().st_size))
  count.clear()
  assert open_folder(root).num_examples == 3 and count == ["4.png"]
  save(junk, 4)
  open_folder(root)
  # Limits are no part of what is kept.
  count.clear()
  assert values(open_folder(root, min_side=9)) == [77]
  assert values(open_folder(root, max_pixels=80)) == [0, 1, 4]
  assert count == []


def kept(file):
  """What a manifest holds, as text."""
  return cache_files.load(
      file, {"json": (np.uint8, [None])})["json"].tobytes().decode()


@pytest.mark.parametrize("damage", [
    lambda text: text[:len(text) // 2], lambda text: "", lambda text: "[]",
    lambda text: '{"version": "old", "files": {}}',
    lambda text: text.replace('"tensorflow"', "17"),
    lambda text: text.replace("[", "[[],"), lambda text: "[" * 100_000])
def test_a_damaged_manifest_is_made_anew(damage, root, count):
  open_folder(root)
  file, = (root.parents[1] / "cache" / "manifests").glob("*.mtvit")
  good = kept(file)
  cache_files.save(file, {"json": np.frombuffer(
      damage(good).encode(), np.uint8)})
  count.clear()
  assert open_folder(root).num_examples == 5 and len(count) == 5
  assert kept(file) == good


def test_names_may_be_any_bytes(root, capsys):
  for i, name in enumerate(ODD_NAMES):
    save(os.fsencode(root) + b"/\xc3\xa4 \xfe\n/" + name, 100 + i)
  empty = os.fsencode(root) + b"/a/bad\n\xff.png"
  open(empty, "wb").close()
  source = open_folder(root)
  order = sorted(range(len(ODD_NAMES)), key=lambda i: os.fsdecode(ODD_NAMES[i]))
  assert values(source) == [0, 1, 2, 3, 4] + [100 + i for i in order]
  assert values(open_folder(root)) == values(source)      # From the manifest.
  assert source.classes == ("a", os.fsdecode(b"\xc3\xa4 \xfe\n"))
  assert all("\n" not in source.describe(i) for i in range(14))
  # The one that is refused is listed on one line.
  said = capsys.readouterr().err.splitlines()[0]
  assert "1 of 15 files refused: 1 empty file; listed in " in said
  line, = pathlib.Path(said.partition("listed in ")[2]).read_text().splitlines()
  assert line == f"empty file\t{root}/a/bad\\n\\udcff.png"


def test_what_is_no_regular_file_is_refused_unopened(root, capsys):
  os.mkfifo(root / "a" / "fifo.png")
  (root / "a" / "dangling.png").symlink_to(root / "nothing")
  (root / "a" / "itself.png").symlink_to(root / "a" / "itself.png")
  with socket.socket(socket.AF_UNIX) as s:
    old = os.getcwd()
    os.chdir(root / "a")      # Socket paths are short.
    s.bind("socket.png")
    os.chdir(old)
  (root / "a" / "linked.png").symlink_to(root / "a" / "4.png")
  (root / "a" / "loop").symlink_to(root)
  (root / "a" / ".hidden.png").write_bytes(b"")
  (root / ".hidden").mkdir()
  save(root / "a" / "deep" / "er" / "9.png", 9)
  source = open_folder(root)
  # The link to the root shows each file once more, and no further.
  assert sorted(values(source)) == [0, 1, 2, 3, 4, 4, 9]
  said = capsys.readouterr().err
  assert "2 broken link" in said and "2 not a regular file" in said


def test_refused_files_are_counted_by_reason(root, capsys):
  save(root / "a" / "big.png", size=(1001, 1000))
  save(root / "a" / "small.png", size=(500, 3))
  save(root / "a" / "fits.png", size=(4, 4))
  (root / "a" / "readme.txt").write_text("about these images")
  for i in range(2):
    (root / "a" / f"empty{i}.jpg").touch()
  source = open_folder(root)
  assert source.num_examples == 6
  said, *_ = capsys.readouterr().err.splitlines()
  assert "5 of 11 files refused: 2 empty file, 1 too many pixels" in said
  lines = pathlib.Path(said.partition("listed in ")[2]).read_text().splitlines()
  assert (f"too many pixels: 1001x1000 pixels, more than data.max_pixels="
          f"1000000\t{root}/a/big.png") in lines
  assert (f"too small: 500x3 pixels for a 4x4 patch grid\t{root}/a/small.png"
          ) in lines


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_asked_for_again(root):
  (root / "a" / "0.png").chmod(0)
  assert open_folder(root).num_examples == 4
  (root / "a" / "0.png").chmod(0o600)
  assert open_folder(root).num_examples == 5


def test_an_error_of_the_disk_is_no_property_of_the_file(root, monkeypatch):
  def fail(*args):
    raise OSError(5, "Input/output error")

  with monkeypatch.context() as m:
    m.setattr(image_check, "_check", fail)
    with pytest.raises(errors.DataError, match="5 can't be read"):
      open_folder(root)
  assert open_folder(root).num_examples == 5


@pytest.mark.parametrize("make, kind, message", [
    (lambda p: None, errors.ConfigError, "does not exist"),
    (lambda p: p.mkdir(parents=True), errors.DataError, "no class folders\n"),
    (lambda p: save(p / "0.png"), errors.DataError, "no class folders\n"),
    (lambda p: (p / "a").mkdir(parents=True), errors.DataError, "no images"),
    (lambda p: (save(p / "a" / "0.png", size=(2, 9)), save(
        p / "b" / "0.png", size=(1, 9))), errors.DataError,
     "no images .* 2 of 2 files refused: 2 too small; listed in"),
])
def test_unusable_folders_are_named(make, kind, message, tmp_path):
  make(tmp_path / "data" / "train")
  with pytest.raises(kind, match=message) as e:
    open_folder(tmp_path / "data" / "train")
  assert "fix:" in str(e.value) and len(str(e.value).splitlines()) <= 5


def test_odd_classes_are_noted(root, capsys):
  (root / "empty").mkdir()
  save(root / "loose.png")
  source = open_folder(root)
  assert source.classes == ("a", "empty")
  said = capsys.readouterr().err
  assert "no images in 1 of 2 class folders: empty" in said
  assert "one class only" in said
  assert "1 files beside the class folders are not used" in said


def test_a_stopped_check_keeps_what_it_has(root, count, monkeypatch):
  monkeypatch.setattr(manifest, "_CHUNK", 2)
  polls = []

  def poll():
    polls.append(0)
    if len(count) >= 2:
      raise errors.Preempted("stop")

  with pytest.raises(errors.Preempted):
    open_folder(root, poll=poll)
  assert polls and len(count) == 2
  folder = root.parents[1] / "cache" / "manifests"
  file, = folder.iterdir()
  assert len(json.loads(kept(file))["files"]) == 2
  count.clear()
  assert open_folder(root).num_examples == 5 and len(count) == 3


def test_a_cache_that_cannot_be_written_is_only_a_note(root, capsys):
  (root.parents[1] / "cache").write_text("a file, not a folder")
  assert open_folder(root, memory_mb=10).kind == "held"
  assert "can't be written" in capsys.readouterr().err


def test_a_long_check_tells_how_far_it_is(root, monkeypatch, capsys):
  monkeypatch.setattr(manifest, "_CHUNK", 1)
  monkeypatch.setattr(manifest.console.Progress, "FIRST", 0.0)
  open_folder(root)
  assert "1 of 5" in capsys.readouterr().err      # Then not for seconds.
  monkeypatch.undo()
  save(root / "a" / "new.png")
  open_folder(root)
  assert "checking" not in capsys.readouterr().err


def test_files_of_others_in_the_cache_are_let_alone(root):
  folder = root.parents[1] / "cache" / "manifests"
  folder.mkdir(parents=True)
  others = [folder / name for name in (
      "x.tmp", "x.json.h.1.2.tmp", f".mtvit-{'0' * 16}-{'0' * 32}.tmp")]
  for file in others:
    file.touch()
    os.utime(file, (time.time() - 90_000,) * 2)
  open_folder(root)
  assert all(file.exists() for file in others)


def test_files_are_decoded_by_who_decodes_them_right(root):
  y, x = np.mgrid[:8, :8].astype(np.uint8)
  gray = Image.fromarray((x + 8 * y).astype(np.uint16) * 1000)
  gray.save(root / "a" / "16bit.png")
  # Zero bytes at the end must arrive, too.
  file = root / "a" / "blue.webp"
  Image.new("RGB", (8, 8), (0, 0, 200)).save(file, lossless=True)
  assert file.read_bytes().endswith(b"\0")
  source = open_folder(root)
  assert np.flatnonzero(source.by_pillow).tolist() == [2, 6]
  ds = source.lookup(tf.data.Dataset.range(7)).map(
      lambda data, label, i: source.decode(data, i))
  got = list(ds.as_numpy_iterator())
  for i, x in enumerate(got):
    eager = source.decode(source.read(i), tf.constant(i, tf.int64))
    np.testing.assert_array_equal(x, eager)
  want = np.round((np.arange(64) * 1000).reshape(8, 8, 1) / 257).repeat(3, -1)
  np.testing.assert_array_equal(got[2], want)


def noisy(root, count, seed=0):
  """root/a/000.png ... of noise, so that damage always shows."""
  (root.parent / "test").mkdir(parents=True)
  draw = np.random.default_rng(seed)
  for i in range(count):
    file = root / "a" / f"{i:03}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).save(file)


def test_the_few_files_of_a_small_set_are_decoded(tmp_path, capsys):
  root = tmp_path / "data" / "train"
  noisy(root, 100)
  for i in (6, 40, 77):
    damage(root / "a" / f"{i:03}.png")
  source = open_folder(root, memory_mb=10)
  assert source.num_examples == 97 and source.kind == "held"
  assert "3 of 100 files refused: 3 truncated or damaged" in (
      capsys.readouterr().err)
  # Only what is new counts: one more file is decoded.
  damage(root / "a" / "007.png")
  os.utime(root / "a" / "007.png")
  assert open_folder(root).num_examples == 96


def test_what_went_bad_while_it_was_read_is_left_out_next_time(
    tmp_path, monkeypatch, count):
  monkeypatch.setattr(manifest, "_FEW", 0)      # A large set.
  root = tmp_path / "data" / "train"
  noisy(root, 100)
  good = {i: (root / "a" / f"{i:03}.png").read_bytes() for i in (6, 40, 77)}
  for i in good:
    damage(root / "a" / f"{i:03}.png")
  with pytest.raises(errors.DataError, match=(
      r"2 of 100 images .*more than 1%.*\n.*start anew")):
    open_folder(root)         # It looks at the first 64.
  # Now the advice is true, and it stays so: all are decoded, once.
  for checked in (98, 0):
    count.clear()
    again = open_folder(root)
    assert again.num_examples == 97 and len(count) == checked
    assert len(list(pipeline.eval_batches(again, 8, 97))) == 1
  # Restored with the time that it had, as copies are, it is used again.
  file = root / "a" / "040.png"
  status = file.stat()
  file.write_bytes(good[40])
  os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
  assert (file.stat().st_size, file.stat().st_mtime_ns) == (
      status.st_size, status.st_mtime_ns)
  count.clear()
  restored = open_folder(root)
  assert restored.num_examples == 98 and count == ["040.png"]
  assert "a/040.png" in restored.names
  list(pipeline.eval_batches(restored, 8, 98))


def test_what_only_tensorflow_refuses_is_read_by_pillow_next_time(root):
  source = open_folder(root)
  assert not source.by_pillow.any()
  strict = lambda data: (_ for _ in ()).throw(ValueError("it is strict"))
  manifest.remember(
      source.manifest, source.root, {
          name: manifest.place(str(root / name))
          for name in ("a/2.png", "a/gone.png", "a")}, 10**6, strict)
  again = open_folder(root)
  assert again.by_pillow.tolist() == [False, False, True, False, False]
  assert values(again) == [0, 1, 2, 3, 4]


def test_what_other_programs_leave_is_left_out_with_a_note(root, capsys):
  for name in ("__MACOSX", ".thumbnails", "a/@eaDir", "$RECYCLE.BIN",
               "lost+found", ".git", "a/.ipynb_checkpoints"):
    save(root / name / "x.png")
  for name in ("Thumbs.db", "a/Thumbs.db", "a/._0.png", ".DS_Store",
               "desktop.ini"):
    (root / name).write_bytes(b"junk")
  source = open_folder(root)
  assert source.classes == ("a",) and values(source) == [0, 1, 2, 3, 4]
  said = capsys.readouterr().err
  assert ("left out, as hidden or of other programs: $RECYCLE.BIN, "
          ".DS_Store, ._0.png, .git, .ipynb_checkpoints, ...") in said
  assert "refused" not in said and "beside the class folders" not in said

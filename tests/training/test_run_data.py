"""A run goes on with the files that it began with."""

import itertools
import json
import os
import shutil

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from mtvit import config as config_lib
from mtvit import errors
from mtvit import pretrain
from mtvit.checkpoints import saving
from mtvit.data import pipeline
from mtvit.run import config_values
from mtvit.training import run_data


@pytest.fixture
def folder(tiny, tmp_path):
  """150 images of one class, each of its own colour."""
  root = tmp_path / "images"
  for split in ("train", "test"):
    (root / split / "a").mkdir(parents=True)
  for i in range(150):
    Image.new("RGB", (8, 8), (i, 0, 0)).save(root / "train/a" / f"{i:03}.png")
  Image.new("RGB", (8, 8)).save(root / "test/a/0.png")
  tiny.data.name = f"folder:{root}"
  return root


def open_train(tiny, workdir, saved=None):
  train, _ = run_data.open_sources(
      config_lib.parse(tiny), config_values.to_plain(tiny), workdir, saved,
      lambda: None)
  return train


def checkpoint_of(tiny, train, **changes):
  return saving.Restored(8, {
      "config": config_values.to_plain(tiny),
      "data": run_data.describe(train) | changes})


def colours(source):
  return [int(b["image"][b["valid"]][i, 0, 0, 0])
          for b in pipeline.eval_batches(source, 8, 150)
          for i in range(b["valid"].sum())]


def test_files_that_come_and_go_move_no_other(folder, tiny, tmp_path, capfd):
  train = open_train(tiny, tmp_path)
  assert colours(train) == list(range(150))
  saved = checkpoint_of(tiny, train)
  (folder / "train/a/010.png").unlink()
  Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "train/a/000new.png")
  again = open_train(tiny, tmp_path, saved)
  assert colours(again) == [*range(10), 11, *range(11, 150)]
  said = capfd.readouterr().err
  assert "010.png (the file is gone)" in said and "1 new files are not" in said
  # A new run takes what there is.
  assert len(colours(open_train(tiny, tmp_path / "new"))) == 150
  for name in ("011", "012"):
    (folder / f"train/a/{name}.png").unlink()
  with pytest.raises(errors.DataError, match="3 of 150 images went bad"):
    open_train(tiny, tmp_path, saved)


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_images_without_labels_and_splits_stay(kind, tiny, tmp_path, capfd):
  root = tmp_path / "photos"
  root.mkdir()
  tiny.data.name = f"{kind}:{root}" + "/all.txt" * (kind == "list")

  def add(numbers):
    for i in numbers:
      Image.new("RGB", (8, 8), (i, 0, 0)).save(root / f"{i:03}.png")
    (root / "all.txt").write_text("".join(
        f"{file.name}\n" for file in sorted(root.glob("*.png"))))

  def both(saved):
    return run_data.open_sources(
        config_lib.parse(tiny), config_values.to_plain(tiny), tmp_path, saved,
        lambda: None)

  add(range(100, 250))
  first = both(None)
  train, held_out = map(colours, first)
  assert sorted(train + held_out) == list(range(100, 250)) and held_out
  saved = checkpoint_of(tiny, first[0])
  assert saved.meta["data"]["classes"] == []
  capfd.readouterr()
  add(range(80))
  (root / f"{train[5]:03}.png").unlink()
  add(())
  again = both(saved)
  assert colours(again[0]) == [*train[:5], train[6], *train[6:]]
  assert set(held_out) < set(colours(again[1])) <= {*held_out, *range(80)}
  assert run_data.describe(again[0]) == saved.meta["data"]
  said = capfd.readouterr().err
  assert f"{train[5]}.png (" in said and "new files are not used" in said


def test_the_list_is_never_overwritten(folder, tiny, tmp_path):
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path))
  other = tmp_path / "other"
  shutil.copytree(folder, other)
  (other / "train/a/000.png").unlink()
  first, = tmp_path.glob("train_files.*.json")
  was = first.read_bytes()
  tiny.data.name = f"folder:{other}"
  assert len(colours(open_train(tiny, tmp_path, saved))) == 149
  assert first.read_bytes() == was
  tiny.data.name = f"folder:{folder}"
  assert len(colours(open_train(tiny, tmp_path, saved))) == 150
  first.write_bytes(was.replace(b"001.png", b"002.png"))
  with pytest.raises(errors.DataError, match="list of the run's images, has"):
    open_train(tiny, tmp_path, saved)
  first.unlink()
  with pytest.raises(errors.DataError, match="can't be read"):
    open_train(tiny, tmp_path, saved)


@pytest.mark.parametrize("changes, error, message", [
    ({"num_examples": 151}, errors.DataError, "has 150 examples; .* 151"),
    ({"kind": "streamed"}, errors.DataError, "began with it streamed"),
    ({"kind": "indexed"}, None, "")])
def test_other_data_are_refused(
    changes, error, message, folder, tiny, tmp_path):
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path), **changes)
  if error:
    with pytest.raises(error, match=message):
      open_train(tiny, tmp_path, saved)
  else:                            # Held and indexed give the same stream.
    open_train(tiny, tmp_path, saved)


def add(folder, name, split="train", count=0):
  (folder / split / name).mkdir()
  for i in range(count):
    Image.new("RGB", (8, 8)).save(folder / split / name / f"{i}.png")


@pytest.fixture
def three(folder):
  """`folder` with classes a (150 images), b and dog (one each)."""
  for name in ("b", "dog"):
    for split in ("train", "test"):
      add(folder, name, split, 1)
  return folder


@pytest.mark.parametrize("memory_mb", [0, 10])
def test_labels_stay_when_classes_come(memory_mb, three, tiny, tmp_path, capfd):
  tiny.data.memory_mb = memory_mb
  both = lambda saved: run_data.open_sources(
      config_lib.parse(tiny), config_values.to_plain(tiny), tmp_path, saved,
      lambda: None)
  labels = lambda source: [
      int(x) for b in pipeline.eval_batches(source, 8, 200)
      for x in b["label"][b["valid"]]]
  first = both(None)
  saved = checkpoint_of(tiny, first[0])
  assert saved.meta["data"]["classes"] == ["a", "b", "dog"]
  capfd.readouterr()
  add(three, "cat")             # Empty, and in one split only.
  add(three, "bird", "train", 2)
  add(three, "bird", "test", 2)
  for was, is_now in zip(first, both(saved)):
    assert is_now.classes == ("a", "b", "dog")
    assert labels(is_now) == labels(was)
    assert is_now.fingerprint == was.fingerprint
  said = capfd.readouterr().err
  assert ("2 new class folders are not used by this run, whose labels stay: "
          "bird, cat") in said
  assert "refused" not in said and "new files" not in said
  # What it says of itself later is the same, and a new run takes all.
  assert run_data.describe(both(saved)[0]) == saved.meta["data"]
  add(three, "cat", "test")
  assert len(open_train(tiny, tmp_path / "new").classes) == 5


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_that_is_gone_is_named(split, three, tiny, tmp_path):
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path))
  shutil.rmtree(three / split / "b")
  with pytest.raises(errors.DataError, match=(
      rf"{split}: 1 of the 3 class folders with which the run began are gone: "
      "b\n")) as e:
    open_train(tiny, tmp_path, saved)
  assert e.value.exit_code == 4 and "restore them" in str(e.value)
  (three / split / "b").mkdir()       # Its file is one of 152.
  if split == "test":
    assert open_train(tiny, tmp_path, saved).classes == ("a", "b", "dog")


class Animals(tfds.core.GeneratorBasedBuilder):
  """A black image of each class."""

  VERSION = tfds.core.Version("1.0.0")
  names = ["cat", "dog", "owl"]

  def _info(self):
    return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.ClassLabel(names=self.names)}))

  def _split_generators(self, dl_manager):
    return {
        split: self._generate_examples() for split in ("train", "test")}

  def _generate_examples(self):
    for i in range(3):
      yield i, {"image": np.zeros((8, 8, 3), np.uint8), "label": i}


@pytest.mark.parametrize("names, message", [
    (["cat", "dog", "owl"], None),
    (["dog", "cat", "owl"], "they have another order"),
    (["cat", "cow", "dog"], "only the run has owl; only .* has cow")])
def test_other_label_names_of_a_prepared_set_are_refused(
    names, message, tiny, tmp_path, monkeypatch):
  tiny.data.name, tiny.data.data_dir = "animals", str(tmp_path / "tfds")

  def prepare():
    Animals(data_dir=tiny.data.data_dir, file_format="array_record"
            ).download_and_prepare()

  prepare()
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path))
  shutil.rmtree(tiny.data.data_dir)
  monkeypatch.setattr(Animals, "names", names)
  prepare()
  if message:
    with pytest.raises(errors.DataError, match=message):
      open_train(tiny, tmp_path, saved)
  else:
    open_train(tiny, tmp_path, saved)


def test_other_data_of_other_classes_are_said(three, tiny, tmp_path, capfd):
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path))
  moved = tmp_path / "moved"
  shutil.copytree(three, moved)
  tiny.data.name = f"folder:{moved}"
  open_train(tiny, tmp_path, saved)
  assert "labels mean" not in capfd.readouterr().err
  add(moved, "cat")
  add(moved, "cat", "test")
  open_train(tiny, tmp_path, saved)
  assert ("labels mean other classes from here on: only the new data has cat"
          in capfd.readouterr().err)


def test_replaced_files_are_named(folder, tiny, tmp_path, capfd):
  saved = checkpoint_of(tiny, open_train(tiny, tmp_path))
  open_train(tiny, tmp_path, saved)
  assert "size or time" not in capfd.readouterr().err
  Image.new("RGB", (8, 8), (200, 9, 0)).save(folder / "train/a/010.png")
  (folder / "train/a/011.png").unlink()       # Gone is said otherwise.
  open_train(tiny, tmp_path, saved)
  said = capfd.readouterr().err
  assert ("1 files are not of the size or time with which the run began: "
          "a/010.png\n") in said
  # Damaged sizes are not believed.
  file, = tmp_path.glob("train_files.*.json")
  kept = json.loads(file.read_text())
  kept["sizes_and_times"][0] += 1
  file.write_text(json.dumps(kept))
  open_train(tiny, tmp_path, saved)
  assert "can't be told" in capfd.readouterr().err


@pytest.mark.slow
def test_a_supervised_run_keeps_its_classes(tiny, tmp_path, capfd):
  """Class 1 is red, whatever folders come; one name is no UTF-8."""
  root = os.fsencode(tmp_path / "data")
  names = [b"blue \xff", b"red"]
  for split, name in itertools.product((b"train", b"test"), names):
    os.makedirs(os.path.join(root, split, name))
    for i in range(20):
      with open(os.path.join(root, split, name, b"%d.png" % i), "wb") as f:
        Image.new("RGB", (32, 32), "red" if name == b"red" else "blue").save(
            f, "PNG")
  tiny.data.name = f"folder:{tmp_path / 'data'}"
  for task in tiny.tasks.values():
    task.mode = "off"
  tiny.tasks.supervised.update(mode="train", num_classes=2)
  tiny.knn.readout = "cls"
  tiny.optimizer.base_lr, tiny.optimizer.warmup = 0.05, 0.0
  tiny.total_steps = 12
  pretrain.pretrain(config_values.to_plain(tiny), tmp_path / "run")
  for split in ("train", "test"):
    (tmp_path / "data" / split / "cat").mkdir()
  tiny.total_steps = 16
  found = pretrain.pretrain(
      config_values.to_plain(tiny), tmp_path / "run", allow_config_change=True)
  assert "new class folders are not used" in capfd.readouterr().err
  assert found["supervised/final_accuracy"] == 1

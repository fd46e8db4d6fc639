"""A run goes on with the files that it began with."""

import shutil

from PIL import Image
import pytest

from mtvit import checkpoint
from mtvit import config as config_lib
from mtvit import errors
from mtvit import plain
from mtvit import run_data
from mtvit.data import pipeline


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
      config_lib.parse(tiny), plain.to_plain(tiny), workdir, saved,
      lambda: None)
  return train


def checkpoint_of(tiny, train, **changes):
  return checkpoint.Restored(8, {
      "config": plain.to_plain(tiny),
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
  first.write_bytes(was.replace(b"001", b"002"))
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

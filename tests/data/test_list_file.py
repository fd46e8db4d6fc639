"""Lists of image files: with and without labels, one list or two."""

import os
import pathlib

from PIL import Image
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import datasets
from mtvit.data import hash_split
from mtvit.data import list_file
from mtvit.data import source as source_lib


@pytest.fixture
def photos(tmp_path):
  """photos/00.png .. 39.png; image i has the value i."""
  (tmp_path / "photos").mkdir()
  for i in range(40):
    Image.new("RGB", (8, 8), (i,) * 3).save(tmp_path / f"photos/{i:02}.png")
  return tmp_path


def open_list(file, began=None, **changes):
  return datasets.open_splits(config_lib.Data(**dict(
      name=f"list:{file}", memory_mb=0, max_pixels=10**6,
      cache_dir=str(pathlib.Path(file).parent / "cache")) | changes), 4,
      began=began)


def write(file, *lines, encoding="utf-8", end="\n"):
  file.write_bytes(end.join([*lines, ""]).encode(encoding))
  return file


def line(i, label=None, separator="\t"):
  return f"photos/{i:02}.png" + (separator + label if label else "")


def values(source):
  return [int(source.decode(source.read(i), i)[0, 0, 0])
          for i in range(source.num_examples)]


def of(source):
  """value -> name of its class; None without labels."""
  names = source.classes
  return {v: names[label] if names else None for v, label in zip(
      values(source), source.file_labels.tolist())}


@pytest.mark.parametrize("end, encoding", [
    ("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\r\n", "utf-16")])
def test_a_list_without_labels(end, encoding, photos, capsys):
  file = write(
      photos / "all.txt", "# the best of them", "",
      *(line(i) for i in range(39)), f"{photos}/photos/39.png", "",
      "photos/../photos/00.png", "photos/gone.png", end=end, encoding=encoding)
  train, test = open_list(file)
  assert train.classes == test.classes == () and set(
      train.file_labels.tolist()) == {-1}
  assert sorted(values(train) + values(test)) == list(range(40))
  held = dict(zip(train.names + test.names, hash_split.held_out(
      train.names + test.names)))
  assert {name for name in held if held[name]} == set(test.names)
  said = capsys.readouterr().err
  assert f"{test.num_examples} of 40 images, chosen by their names" in said
  assert said.count("1 of 41 files refused: 1 can't be read") == 1


def test_labels_and_a_list_for_the_other_split(photos):
  train_file = write(photos / "train.txt", *(
      line(i, "a cat" if i % 3 else "dog") for i in range(30)))
  write(photos / "val.txt", *(line(i, "dog") for i in range(30, 40)))
  train, test = open_list(train_file, test_split="val.txt")
  assert train.classes == test.classes == ("a cat", "dog")
  assert of(train) == {i: "a cat" if i % 3 else "dog" for i in range(30)}
  assert of(test) == dict.fromkeys(range(30, 40), "dog")
  train, test = open_list(train_file, labels="none")
  assert train.classes == () and train.num_examples + test.num_examples == 30
  write(photos / "val.txt", *(line(i, "bird") for i in range(30, 40)))
  with pytest.raises(errors.DataError, match="has not: bird"):
    open_list(train_file, test_split="val.txt")
  write(photos / "val.txt", *(line(i) for i in range(30, 40)))
  with pytest.raises(errors.DataError, match="val.txt has no labels"):
    open_list(train_file, test_split="val.txt")
  assert of(open_list(train_file, test_split="val.txt", labels="none")[1]) == (
      dict.fromkeys(range(30, 40)))


def test_csv_with_a_header_and_commas_in_names(photos):
  (photos / "photos/00.png").rename(photos / "a, b.png")
  file = write(
      photos / "all.CSV", "file_name,label", '"a, b.png",dog',
      *(line(i, "cat", ", ") for i in range(1, 40)))
  train, test = open_list(file)
  assert of(train) | of(test) == {0: "dog"} | dict.fromkeys(
      range(1, 40), "cat")


@pytest.mark.parametrize("lines, message", [
    ([line(0, "cat"), "", line(1)], "line 3 has no label, unlike the first"),
    ([line(0), line(1, "cat")], "line 2 has a label, unlike the first"),
    ([line(0, "cat"), line(0, "dog")], "line 2 gives photos/00.png another"),
    (["a\tb\tc"], "line 1 has 3 columns"), (["\tcat"], "line 1 has no path"),
    ([line(0), "a\0b.png"], "line 2 has no path"),
    (["# nothing"], "no images in "),
    (["one.png", "two.png"],
     "no images in .*2 of 2 files refused: 2 can't be read"),
    ([line(i) for i in range(19)], "has 19 images that can be used; of 20"),
])
def test_what_is_wrong_with_a_list_is_named(lines, message, photos):
  file = write(photos / "all.txt", *lines)
  with pytest.raises(errors.DataError, match=message) as e:
    open_list(file)
  assert str(file) in str(e.value) and len(str(e.value).splitlines()) <= 5


def test_no_list(photos):
  for changes, message in (
      (dict(name=f"list:{photos}/nothing.txt"), "there is no list .*nothing"),
      (dict(name=f"list:{photos}"), f"is a folder.*\n.*folder:{photos}"),
      (dict(test_split="val"), r"there is no list \S+/val\n.*test_split=FILE"),
      (dict(train_split="train.txt"), "train_split=train.txt, but a list")):
    with pytest.raises(errors.ConfigError, match=message):
      open_list(write(photos / "all.txt", line(0)), **changes)


def test_a_run_goes_on_with_what_it_began_with(photos, capsys):
  """Also when lines come and go, and with them classes."""
  lines = [line(i, "cat" if i % 3 else "dog") for i in range(30)]
  file = write(photos / "train.txt", *lines)
  test_split = write(photos / "val.txt", *lines[:2]).name
  train, _ = open_list(file, test_split=test_split)
  began = source_lib.Began(train.classes, train.names, train.stamps)
  write(file, line(39, "bird"), line(38, "cat"), *reversed(lines))
  again, test = open_list(file, began, test_split=test_split)
  assert again.names == train.names and of(again) == of(train)
  assert again.fingerprint == train.fingerprint
  assert test.classes == ("cat", "dog") and not again.bad
  said = capsys.readouterr().err
  assert "1 new classes are not used by this run, whose labels stay: bird" in (
      said)
  assert "1 new files are not used" in said
  assert open_list(file, test_split="")[0].classes == ("bird", "cat", "dog")
  write(file, *lines[1:])
  with pytest.raises(errors.DataError, match=(
      r"1 of 30 images went bad .*00.png \(it is no longer in the list\)")):
    open_list(file, began, test_split=test_split)


def test_a_list_is_no_pipe(photos):
  os.mkfifo(photos / "pipe.txt")
  with pytest.raises(errors.ConfigError, match="is not a regular file"):
    list_file.read(str(photos / "pipe.txt"))

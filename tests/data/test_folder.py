"""What folders are taken: splits, classes, neither, and whose images are which.
"""

import os
import re

import numpy as np
from PIL import Image
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import datasets
from mtvit.data import hash_split
from mtvit.data import source as source_lib


def save(root, *names):
  for name in names:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as f:
      Image.new("RGB", (8, 8)).save(f, "PNG")


def numbered(pattern, count):
  return [pattern.format(i) for i in range(count)]


@pytest.fixture
def root(tmp_path):
  return tmp_path / "photos"


def open_splits(root, began=None, **changes):
  return datasets.open_splits(config_lib.Data(**dict(
      name=f"folder:{root}", memory_mb=0, max_pixels=10**6,
      cache_dir=str(root.parent / "cache")) | changes), 4, began=began)


def labels(source):
  return set(source.file_labels.tolist())


def in_all(*sources):
  return sorted(name for source in sources for name in source.names)


@pytest.mark.parametrize("names, classes", [
    # One flat folder, as from a camera or a scraper.
    (numbered("IMG_{:03}.JPG", 60), ()),
    # By year and month, or all in one more folder.
    (numbered("2020/05/{}.png", 20) + numbered("2020/06/{}.png", 20)
     + numbered("2021/01/{}.png", 20) + numbered("2021/02/{}.png", 20), ()),
    (numbered("images/{}.png", 30), ()),
    (numbered("data/images/{}.png", 30), ()),
    # Two folders are classes, and stay so beside a few others.
    (numbered("cat/{}.png", 20) + numbered("dog/{}.png", 10), ("cat", "dog")),
    (numbered("cat/{}.png", 20) + numbered("dog/{}.png", 10)
     + ["cover.png", "cat/more/0.png", "notes.txt"], ("cat", "dog")),
    # As in Tiny ImageNet.
    (numbered("n01/images/{}.png", 20) + numbered("n02/images/{}.png", 20),
     ("n01", "n02")),
    # Most are loose: the folders are something else.
    (numbered("{}.png", 60) + numbered("edited/{}.png", 15)
     + numbered("old/{}.png", 15), ()),
])
def test_labels_are_told_by_what_is_there(names, classes, root, capsys):
  save(root, *names)
  train, test = open_splits(root)
  assert train.classes == test.classes == classes
  known = [name for name in names if not classes or name[0] in "cdn"
           and os.sep in name]
  assert in_all(train, test) == sorted(known)
  assert labels(test) <= labels(train) == (set(range(len(classes))) or {-1})
  said = capsys.readouterr().err
  assert re.search(rf"photos: {test.num_examples} of {len(known)} images, "
                   r"chosen by their names, are held out", said)
  folders = any(os.sep in name for name in names)
  assert ("no labels, as" in said) == (folders and not classes)
  if "notes.txt" in names:
    assert "2 files beside the class folders are not used" in said
  for choice in ("none", "folders"):
    if choice == "none" or folders:
      train, _ = open_splits(root, labels=choice)
      assert bool(train.classes) == (choice == "folders")


@pytest.mark.parametrize("train_name, test_name, inner", [
    ("train", "test", "{}.png"), ("train", "val", "a/{}.png"),
    ("Train", "Validation", "{}.png"), ("training", "valid", "a/{}.png"),
    ("TRAIN", "eval", "{}.png")])
def test_splits_under_their_usual_names(
    train_name, test_name, inner, root, capsys):
  save(root / train_name, *numbered(inner, 3), *numbered(f"b{inner}", 3))
  save(root / test_name, *numbered(inner, 2), *numbered(f"b{inner}", 2))
  (root / "masks").mkdir()
  train, test = open_splits(root)
  assert (train.num_examples, test.num_examples) == (6, 4)
  assert train.classes == test.classes == (("a", "ba") if "/" in inner else ())
  said = capsys.readouterr().err
  assert "held out" not in said
  for name, usual in ((train_name, "train"), (test_name, "test")):
    assert (f"{name}/ serves as {usual}/, which is not there" in said) == (
        name != usual)


def test_the_training_folder_says_whether_there_are_labels(root):
  classes = numbered("cat/{}.png", 3) + numbered("dog/{}.png", 3)
  save(root / "train", *classes)
  save(root / "test", *numbered("{}.png", 3))
  with pytest.raises(errors.DataError, match=(
      "test has no class folders\n.*labels=none")):
    open_splits(root)
  train, test = open_splits(root, labels="none")
  assert labels(train) == labels(test) == {-1}
  (root / "train").rename(root / "other")
  (root / "test").rename(root / "train")
  (root / "other").rename(root / "test")
  train, test = open_splits(root)
  assert train.classes == test.classes == () and labels(test) == {-1}


def test_a_name_that_was_set_wins_and_one_that_is_missing_is_an_error(root):
  for name in ("train", "test", "val", "photos_2020"):
    save(root / name, *numbered(f"{name}{{}}.png", 3))
  of = lambda **changes: tuple(
      source.names[0] for source in open_splits(root, **changes))
  assert of() == ("train0.png", "test0.png")
  assert of(test_split="val") == ("train0.png", "val0.png")
  assert of(train_split="photos_2020") == ("photos_20200.png", "test0.png")
  with pytest.raises(errors.ConfigError, match=(
      "no folder 'validation'; folders there: photos_2020, test, train, val\n"
      r".*--config\.data\.test_split=test, ")):
    of(test_split="validation")
  with pytest.raises(errors.ConfigError, match="train_split=train, "):
    of(train_split="trian")


def test_a_training_folder_alone_is_split_by_the_hash(root, capsys):
  save(root / "train", *numbered("cat/{}.png", 60), *numbered("dog/{}.png", 40))
  train, test = open_splits(root)
  assert in_all(train, test) == sorted(
      numbered("cat/{}.png", 60) + numbered("dog/{}.png", 40))
  assert 3 < test.num_examples < 20 and train.classes == ("cat", "dog")
  # What is not there can't be held out by name, "" asks for it.
  save(root / "val", *numbered("cat/{}.png", 2), *numbered("dog/{}.png", 2))
  assert open_splits(root)[1].num_examples == 4
  assert open_splits(root, test_split="")[1].names == test.names


@pytest.mark.parametrize("folders, fix", [
    (["car", "plane", "train"], r"train_split=\. if all are classes"),
    (["car", "test"], r"train_split=NAME, or .*train_split=\. if all")])
def test_a_class_with_the_name_of_a_split_is_asked_about(folders, fix, root):
  for folder in folders:
    save(root / folder, *numbered("{}.png", 20))
  with pytest.raises(errors.ConfigError, match=fix):
    open_splits(root)
  train, test = open_splits(root, train_split=".")
  assert train.classes == tuple(folders)
  assert train.num_examples + test.num_examples == 20 * len(folders)
  if "car" in folders and "plane" in folders:
    assert open_splits(root, test_split="")[0].classes == ()
  with pytest.raises(errors.ConfigError, match="one folder lies in the other"):
    open_splits(root, train_split=".", test_split="car")


def test_what_is_no_folder_is_named(root):
  with pytest.raises(errors.ConfigError, match="photos does not exist"):
    open_splits(root)
  root.write_text("")
  with pytest.raises(errors.ConfigError, match="photos is no folder"):
    open_splits(root)


def test_an_image_stays_on_its_side_whatever_comes(root):
  names = numbered("{:04}.png", 1000)
  chosen = hash_split.held_out(names)
  assert 70 < chosen.sum() < 130
  np.testing.assert_array_equal(hash_split.held_out(names[::-1]), chosen[::-1])
  more = numbered("new/{:04}.png", 3000)
  both = hash_split.held_out(names + more)
  np.testing.assert_array_equal(both[:1000], chosen)
  # It is the same everywhere and in every version.
  assert [n for n in names[:40] if chosen[names.index(n)]] == PINNED
  many = numbered("{}", 60_000)
  whole = hash_split.held_out(many)
  assert whole.sum() == hash_split.MOST
  # Beyond that, images come into training, and none ever goes out of it.
  fewer = hash_split.held_out(many[:45_000])
  assert (whole[:45_000] & ~fewer).sum() == 0 < (fewer & ~whole[:45_000]).sum()


PINNED = ["0015.png", "0019.png", "0021.png", "0027.png", "0030.png"]


def test_twenty_images_are_enough():
  for seed in range(20):
    names = numbered(f"{seed}/{{}}", 20)
    assert 2 <= hash_split.held_out(names).sum() < 10


def test_a_tiny_set_is_told_how_many_are_needed(root):
  save(root, *numbered("{}.png", 19))
  with pytest.raises(errors.DataError, match=(
      "has 19 images that can be used; of 20 or more some can be held out")):
    open_splits(root)
  save(root, "19.png")
  open_splits(root)


def test_links_as_people_use_them(root, tmp_path, capsys):
  """To files without endings, to classes, to splits, and to all of it."""
  store = tmp_path / "store"
  save(store, *numbered("blobs/{:064x}", 4), *numbered("dogs/{}.png", 3),
       *numbered("validation/cat/{}.png", 2),
       *numbered("validation/dog/{}.png", 2))
  (store / "train" / "cat").mkdir(parents=True)
  for i in range(4):
    (store / "train" / "cat" / f"{i}.png").symlink_to(
        f"../../blobs/{i:064x}")
  (store / "train" / "dog").symlink_to("../dogs")
  (store / "train" / "cat" / "gone.png").symlink_to("nowhere")
  (store / "data").mkdir()
  (store / "data" / "train").symlink_to(store / "train")
  (store / "data" / "val").symlink_to(store / "validation")
  root.symlink_to(store / "data")
  train, test = open_splits(root)
  assert train.names == (
      *numbered("cat/{}.png", 4), *numbered("dog/{}.png", 3))
  assert train.file_labels.tolist() == [0] * 4 + [1] * 3
  assert test.names == (*numbered("cat/{}.png", 2), *numbered("dog/{}.png", 2))
  said = capsys.readouterr().err
  assert "1 of 8 files refused: 1 broken link" in said
  # It is known by the name that was given, so all may move behind the link.
  (store / "data").rename(store / "moved")
  root.unlink()
  root.symlink_to(store / "moved")
  assert open_splits(root)[0].fingerprint == train.fingerprint


def test_links_that_lead_back_are_refused_and_listed(root, capsys):
  save(root, *numbered("cat/{}.png", 20), *numbered("dog/{}.png", 20))
  (root / "cat" / "all").symlink_to(root)
  (root / "every").symlink_to(".")
  save(root.parent, "other.png")
  (root / "dog" / "home").symlink_to(root.parent)
  (root / "dog" / "deep").mkdir()
  (root / "dog" / "deep" / "up").symlink_to("..")
  (root / "dog" / "a").symlink_to("b")
  (root / "dog" / "b").symlink_to("a")
  train, test = open_splits(root)
  assert train.num_examples + test.num_examples == 40
  assert train.classes == ("cat", "dog")
  said = capsys.readouterr().err
  assert "5 of 45 files refused: 3 link to a folder that it lies in" in said
  assert "2 broken link" in said
  listed = open(re.search(r"listed in (\S+)", said)[1]).read()
  assert f"link to a folder that it lies in\t{root}/dog/deep/up\n" in listed


def test_a_run_goes_on_with_what_it_began_with(root, capsys):
  """Whatever comes and goes: its images, and that it has no labels."""
  save(root, *numbered("{:03}.png", 300))
  train, test = open_splits(root)
  began = source_lib.Began(train.classes, train.names, train.stamps)
  save(root, *numbered("cat/{}.png", 300), *numbered("dog/{}.png", 300))
  gone = train.names[7]
  (root / gone).unlink()
  capsys.readouterr()
  train_2, test_2 = open_splits(root, began)
  assert train_2.names == train.names and labels(train_2) == {-1}
  assert list(train_2.bad.reasons) == [7]
  assert train_2.classes == test_2.classes == ()
  assert set(test.names) <= set(test_2.names)
  assert not set(train.names) & set(test_2.names)
  said = capsys.readouterr().err
  assert f"{gone} (the file is gone)" in said
  new = 600 - (test_2.num_examples - test.num_examples)
  assert f"{new} new files are not used" in said
  # A new run finds classes.
  assert open_splits(root)[0].classes == ("cat", "dog")


def test_no_image_of_the_run_is_held_out_when_others_go(root):
  save(root, *numbered("{:03}.png", 30))
  train, test = open_splits(root)
  began = source_lib.Began((), train.names, train.stamps)
  for name in test.names[1:]:
    (root / name).unlink()
  assert set(open_splits(root)[1].names) & set(train.names)
  assert open_splits(root, began)[1].names == test.names[:1]
  (root / test.names[0]).unlink()
  with pytest.raises(errors.DataError, match="all images that were held out"):
    open_splits(root, began)

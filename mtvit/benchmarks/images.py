"""Folders of images for `bench input`, made for a while."""

import contextlib
import pathlib
import tempfile
from typing import Iterator

from PIL import Image
from etils import epy
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.run import paths

with epy.lazy_imports():
  from mtvit.data import photo_crops

# What all contestants decode.
SUFFIXES = (".jpg", ".jpeg", ".png")
MOST = 2000         # Files that are taken, evenly spaced.
BUILT_IN = 64       # Files that are made of the built-in photographs.


@contextlib.contextmanager
def folder(
    images: str | None, data: config_lib.Data
) -> Iterator[tuple[pathlib.Path, str]]:
  """A data folder with links to images, and what they are, for people.

  Args:
    images: a folder with images anywhere below; of one with the config's
      training split in it, that. None for the built-in photographs.
    data: the config's section; names the splits.

  Raises:
    ConfigError: no such folder, or it has no images.
  """
  with tempfile.TemporaryDirectory(prefix="mtvit_bench_") as made:
    root = pathlib.Path(made)
    if images is None:
      files = photographs(root / "photographs")
      what = f"{len(files)} cuts of the built-in photographs"
    else:
      files = _found(pathlib.Path(paths.expand(images)), data.train_split)
      what = f"{len(files):,} files of {images}"
    for split, chosen in (
        (data.train_split, files), (data.test_split, files[:1])):
      (root / split / "all").mkdir(parents=True)
      for i, file in enumerate(chosen):
        link = root / split / "all" / f"{i:06d}{file.suffix.lower()}"
        link.symlink_to(file.resolve())
    yield root, what


def _found(path: pathlib.Path, split: str) -> list[pathlib.Path]:
  if not path.is_dir():
    raise errors.ConfigError(
        f"--images={path}: no such folder", "a folder with JPEG or PNG files")
  if (path / split).is_dir():
    path = path / split
  # Follows links to folders, which pathlib doesn't before Python 3.13.
  found = sorted(
      file for folder in [path, *path.rglob("*")] if folder.is_dir()
      for file in folder.iterdir()
      if file.suffix.lower() in SUFFIXES and file.is_file())
  if not found:
    raise errors.ConfigError(
        f"--images={path}: no JPEG or PNG files below it", "another folder")
  count = min(MOST, len(found))
  return [found[i * len(found) // count] for i in range(count)]


def photographs(to: pathlib.Path) -> list[pathlib.Path]:
  """Writes JPEGs of about 500 pixels, cut from the built-in photographs.

  No two need have one size, as in a folder of photographs.
  """
  to.mkdir()
  rng = np.random.default_rng(0)
  photos = [Image.fromarray(photo_crops.load(name))
            for name in photo_crops.PHOTOGRAPHS]
  files = []
  for i in range(BUILT_IN):
    photo = photos[i % len(photos)]
    w, h = (int(side * rng.uniform(0.8, 1)) for side in photo.size)
    x, y = (int(rng.integers(0, whole - side + 1))
            for whole, side in zip(photo.size, (w, h)))
    files.append(to / f"{i}.jpg")
    photo.crop((x, y, x + w, y + h)).save(files[-1], quality=90)
  return files

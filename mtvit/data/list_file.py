"""A list of image files in a text file, with or without labels."""

import csv
import io
import os
import pathlib
from typing import Mapping, NamedTuple

from mtvit import errors
from mtvit.data import folder_layout
from mtvit.data import image_files
from mtvit.data import manifest as manifest_lib
from mtvit.data import source as source_lib
from mtvit.run import console
from mtvit.run import paths
from mtvit.run import reading

_MOST = 2**30         # Bytes of a list, at most.
# The first line is a header if its first cell is one of these.
_HEADERS = frozenset({
    "path", "file", "filename", "file_name", "filepath", "file_path", "image",
    "image_path", "img", "img_path"})


class Listed(NamedTuple):
  """What a list says.

  Attributes:
    file: its absolute path.
    labels: path of an image -> name of its class; "" if the list has none.
  """
  file: str
  labels: Mapping[str, str]

  @property
  def shown(self) -> str:
    """The list, for messages."""
    return console.printable(self.file)

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of its classes, sorted."""
    return tuple(sorted(set(self.labels.values()) - {""}))


def open_source(request: source_lib.Request) -> image_files.FileSource:
  """Opens a split of FILE; see `datasets.open_source`.

  It lists the training images. `test_split` names another list beside it, or
  the images that are held out are some of FILE.
  """
  if request.train_split != "train":
    raise errors.ConfigError(
        f"data.train_split={request.train_split}, but a list has no splits",
        "--config.data.name=list:FILE lists the training images, and "
        "--config.data.test_split=FILE the others")
  train = read(os.path.abspath(paths.expand(request.path)))
  shared = request.test_split in ("", "test")
  listed = train if shared or not request.held_out else read(
      os.path.join(os.path.dirname(train.file), request.test_split))
  classes = _classes(train, listed, request)
  files = _files(listed, classes, request)
  complaint = image_files.complaint(files)
  if not files.good:
    raise errors.DataError(
        f"no images in {files.shown}" + (f": {complaint}" * bool(complaint)),
        "expected a line PATH, or PATH<TAB>CLASS, for each image; paths are "
        "relative to the list")
  if complaint and not (shared and request.held_out):
    console.note(f"{files.shown}: {complaint}")
  known = {name: label for label, name in enumerate(classes)}
  return image_files.of_split(
      files, classes,
      lambda name: known.get(listed.labels.get(name, ""), -1), request, shared)


def read(file: str) -> Listed:
  """What a list says.

  Args:
    file: absolute path.

  Raises:
    ConfigError: there is no such file, or it can't be read.
    DataError: a line can't be understood.
  """
  shown = console.printable(file)
  if os.path.isdir(file):
    raise errors.ConfigError(
        f"{shown} is a folder, not a list", f"folder:{shown}")
  try:
    data = reading.content(pathlib.Path(file), _MOST)
  except FileNotFoundError as e:
    raise errors.ConfigError(
        f"there is no list {shown}",
        "list:FILE with a line PATH, or PATH<TAB>CLASS, for each image; "
        "--config.data.test_split=FILE for another list beside it") from e
  except reading.Unusable as e:
    raise errors.ConfigError(f"{shown} {e}", "a text file") from e
  return Listed(file, _labels(shown, _rows(shown, data)))


def _rows(shown: str, data: bytes) -> dict[int, list[str]]:
  """Number of a line -> its cells, of those that say something."""
  # PowerShell writes UTF-16. Names of other bytes survive.
  text = (data.decode("utf-16", "replace")
          if data[:2] in (b"\xff\xfe", b"\xfe\xff")
          else os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")))
  lines = [line.removesuffix("\r") for line in text.split("\n")]
  if shown.lower().endswith(".csv"):
    try:
      rows = [next(csv.reader(io.StringIO(line)), []) for line in lines]
    except csv.Error as e:
      raise errors.DataError(f"{shown}: {e}", "a CSV file") from e
  else:
    rows = [line.split("\t") for line in lines]
  found = {number: [cell.strip() for cell in row]
           for number, row in enumerate(rows, 1)
           if any(row) and not row[0].startswith("#")}
  first = min(found, default=None)
  if first is not None and found[first][0].lower() in _HEADERS:
    del found[first]
  return found


def _labels(shown: str, rows: Mapping[int, list[str]]) -> dict[str, str]:
  """Path of an image -> name of its class."""
  found: dict[str, str] = {}
  for number, row in rows.items():
    name, label = os.path.normpath(row[0]), (row + [""])[1]
    what = ""
    if len(row) > 2:
      what = f"has {len(row)} columns"
    elif not row[0] or "\0" in name:
      what = "has no path"
    elif found and bool(label) != bool(next(iter(found.values()))):
      what = f"has {'a' if label else 'no'} label, unlike the first"
    elif found.setdefault(name, label) != label:
      what = f"gives {console.printable(name)} another label than before"
    if what:
      raise errors.DataError(
          f"{shown}: line {number} {what}",
          "a line is PATH or PATH<TAB>CLASS (in *.csv PATH,CLASS), all or none "
          "with a class; # begins a comment")
  return found


def _classes(
    train: Listed, listed: Listed, request: source_lib.Request
) -> tuple[str, ...]:
  """Names of the labels, of which a run keeps those that it began with.

  Those of the training list, for both splits.
  """
  began = request.began and request.began.classes
  if request.labels == "none" or began == ():
    return ()
  classes = began or train.classes
  if request.labels == "folders" and not classes or (
      classes and not listed.classes):
    raise errors.DataError(
        f"{listed.shown} has no labels", "lines PATH<TAB>CLASS, or "
        "--config.data.labels=none")
  new = [name for name in listed.classes if name not in classes]
  if new and listed is not train and not began:
    raise errors.DataError(
        f"{listed.shown} has classes that {train.shown} has not: "
        f"{folder_layout.few(new)}", "labels of the other list, in both")
  if new and (not request.held_out or listed is not train):
    console.note(f"{listed.shown}: {len(new)} new classes are not used by this "
                 f"run, whose labels stay: {folder_layout.few(new)}")
  return classes


def _files(
    listed: Listed, classes: tuple[str, ...], request: source_lib.Request
) -> image_files.Files:
  """The files of these classes, or all if there are none."""
  root = os.path.dirname(listed.file)
  known = set(classes)
  found = {
      name: manifest_lib.place(os.path.join(root, name))
      for name, label in listed.labels.items() if not known or label in known}
  manifest = manifest_lib.read(
      root, found, request.cache_dir, request.max_pixels, request.poll,
      source_lib.native, kept_for=listed.file)
  return image_files.sort(root, manifest, request)._replace(
      shown=listed.shown, missing="it is no longer in the list")

"""Where images come from; adding a source is a file and a line in `SOURCES`."""

import dataclasses
from typing import TYPE_CHECKING, Callable, Sequence

from etils import epy

from mtvit import errors
from mtvit.data import folder
from mtvit.data import held
from mtvit.data import list_file
from mtvit.data import source as source_lib
from mtvit.data import tar_shards
from mtvit.run import console
from mtvit.run import paths

with epy.lazy_imports():     # Importing TFDS takes a second.
  from mtvit.data import photo_crops
  from mtvit.data import photo_tiles
  from mtvit.data import tfds_sources

if TYPE_CHECKING:
  from mtvit import config as config_lib

Source = source_lib.Source      # What `open_source` returns.
# What `data.name` is, or begins with if it ends in ":" -> what opens a split of
# it. Any other name is a TFDS data set's.
SOURCES: dict[str, Callable[[source_lib.Request], Source]] = {
    "folder:": folder.open_source,
    "list:": list_file.open_source,
    "tar:": tar_shards.open_source,
    "photo_crops": lambda request: photo_crops.open_source(request),
    "photo_tiles": lambda request: photo_tiles.open_source(request),
}


def open_source(
    data: "config_lib.Data", split: str, min_side: int,
    poll: Callable[[], None] = lambda: None,
    began: source_lib.Began | None = None, classes: tuple[str, ...] = ()
) -> Source:
  """Opens one split of a data set.

  What is refused or odd is said on stderr, a line each.

  Args:
    data: its name is one of `SOURCES`, with a path if that ends in ":", or a
      TFDS name.
    split: what the source has: a TFDS split, or see `config.Data`.
    min_side: files of a folder with a shorter side, in pixels, are refused.
    poll: called regularly; may raise to stop. Nothing stays half-written.
    began: what a run goes on with. Files of a folder that are bad or gone by
      now are replaced; new ones, and those of new classes, are not used.
    classes: of the training split, when this is the other one.

  Raises:
    ConfigError: no such data set, folder or split.
    DataError: it is not prepared, has no images, or too many went bad.
  """
  cache = paths.cache(data.cache_dir)
  scheme, colon, path = data.name.partition(":")
  known = scheme + colon in SOURCES        # TFDS names may have colons too.
  opener = SOURCES[scheme + colon] if known else tfds_sources.open_source
  opened = opener(source_lib.Request(
      path=path if known else data.name, split=split,
      train_split=data.train_split, test_split=data.test_split,
      labels=data.labels, data_dir=data.data_dir, cache_dir=cache,
      max_pixels=data.max_pixels, min_side=min_side, poll=poll, began=began,
      classes=classes))
  return held.hold(opened, cache, data.memory_mb, poll)


def open_splits(
    data: "config_lib.Data", min_side: int,
    poll: Callable[[], None] = lambda: None,
    began: source_lib.Began | None = None
) -> tuple[Source, Source]:
  """The training and the test split, with the same classes.

  Args:
    data: `config.Data`.
    min_side: see `open_source`; so are the others, and what is raised.
    poll: called regularly.
    began: what a run goes on with, of its training split; of the other one
      its classes are kept.
  """
  train = open_source(data, data.train_split, min_side, poll, began)
  # Whether folders are classes is asked once.
  alike = dataclasses.replace(
      data, labels="folders" if train.classes else "none")
  test = open_source(
      alike, data.test_split, min_side, poll, began and source_lib.Began(
          began.classes, trained=began.names or ()), train.classes)
  # A label is a place among the sorted class names of its own split.
  check_same_classes(train, test)
  return train, test


def check_same_classes(train: Source, test: Source) -> None:
  """Raises DataError naming the classes that only one split has."""
  differ = differences(
      train.classes, test.classes, train.name, test.name)
  if differ:
    raise errors.DataError(
        f"the classes of the splits differ: {differ}",
        "give both the same class folders; an empty one will do")


def differences(
    one: Sequence[str], other: Sequence[str], name: str, other_name: str
) -> str:
  """How two lists of classes differ, in words; "" if they don't."""
  if list(one) == list(other):
    return ""
  words = []
  for has, lacks, who in ((one, other, name), (other, one, other_name)):
    only = sorted(set(has) - set(lacks))
    if only:
      more = ", ..." if len(only) > 5 else ""
      words.append(f"only {who} has "
                   + ", ".join(map(console.printable, only[:5])) + more)
  return "; ".join(words) or "they have another order"

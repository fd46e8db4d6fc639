"""Where images come from: TFDS by name, a folder of class folders, photo_crops.

A source is *held* (small images of one size: decoded once, kept as one uint8
array), *indexed* (any example can be read at any time) or *streamed* (records
come in file order; resuming skips over them).
"""

from typing import Any, Callable, Sequence

from mtvit import errors
from mtvit.data import folder
from mtvit.data import held
from mtvit.data import source as source_lib
from mtvit.data import tfds_sources
from mtvit.run import console
from mtvit.run import paths

Source = source_lib.Source      # What `open_source` returns.


def open_source(
    name: str, split: str, *, data_dir: str, cache_dir: str, memory_mb: int,
    max_pixels: int, min_side: int, poll: Callable[[], None] = lambda: None,
    began: source_lib.Began | None = None
) -> Source:
  """Opens one split of a data set.

  What is refused or odd is said on stderr, a line each.

  Args:
    name: "photo_crops", "folder:PATH" or a TFDS name.
    split: a TFDS split, or a folder below PATH.
    data_dir: where TFDS keeps its data; "" for its default.
    cache_dir: where decoded small sets and lists of files are kept.
    memory_mb: sets of one image size that decode to at most this are held.
    max_pixels: files of a folder with more, width times height, are refused.
    min_side: files of a folder with a shorter side, in pixels, are refused.
    poll: called regularly; may raise to stop. Nothing stays half-written.
    began: what a run goes on with. Files of a folder that are bad or gone by
      now are replaced; new ones, and those of new classes, are not used.

  Raises:
    ConfigError: no such data set, folder or split.
    DataError: it is not prepared, has no images, or too many went bad.
  """
  cache = paths.cache(cache_dir)
  if name.startswith("folder:"):
    opened = folder.open_folder(
        name.removeprefix("folder:"), split, cache_dir=cache,
        max_pixels=max_pixels, min_side=min_side, poll=poll, began=began)
  else:
    opened = tfds_sources.open_tfds(name, split, data_dir)
  return held.hold(opened, cache, memory_mb, poll)


def open_splits(
    data: Any, min_side: int, poll: Callable[[], None] = lambda: None,
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
  train, test = (
      open_source(
          data.name, split, data_dir=data.data_dir, cache_dir=data.cache_dir,
          memory_mb=data.memory_mb, max_pixels=data.max_pixels,
          min_side=min_side, poll=poll, began=of_split)
      for split, of_split in (
          (data.train_split, began),
          (data.test_split, began and source_lib.Began(began.classes))))
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

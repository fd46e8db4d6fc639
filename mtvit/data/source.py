"""What a data source is: one split of a data set, however it is stored.

A source is *held* (small images of one size, as one uint8 array), *indexed*
(any example can be read at any time) or *streamed* (records come in file order;
resuming skips over them). `datasets.SOURCES` lists what opens which.
"""

import dataclasses
import itertools
import pathlib
from typing import Any, Callable, ClassVar, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from mtvit.data import cache_files

PARALLEL = dict(num_parallel_calls=tf.data.AUTOTUNE)
# Height and width (int32) of an image -> by how much a decoder may shrink it.
Shrink = Callable[[Any, Any], Any]
_RATIOS = (1, 2, 4, 8)      # What JPEG decoders can do.


class Bad:
  """Ids of a source's bad examples, and what is wrong with each."""

  def __init__(self):
    self.reasons: dict[int, str] = {}

  def __len__(self) -> int:
    return len(self.reasons)

  def __contains__(self, i: int) -> bool:
    return i in self.reasons

  def substitutes(self, num_examples: int) -> dict[int, int]:
    """Bad id -> the first good id after it; the last is followed by 0."""
    if not self.reasons:
      return {}
    first = next(i for i in itertools.count() if i not in self.reasons)
    found: dict[int, int] = {}
    for i in sorted(self.reasons, reverse=True):
      found[i] = first if i + 1 == num_examples else found.get(i + 1, i + 1)
    return found


@dataclasses.dataclass(frozen=True)
class ListFile:
  """A list for people, in a text file."""
  file: pathlib.Path

  def write(self, lines: Sequence[str]) -> bool:
    """Replaces the file; False, after a note, if that can't be done."""
    return cache_files.write(
        self.file,
        lambda f: f.write("".join(x + "\n" for x in lines).encode()))


class Began(NamedTuple):
  """What a run keeps of the data that it began with, of one split.

  Attributes:
    classes: names of the labels.
    names: of a folder's files, in the order of their ids; None takes those
      that there are.
    stamps: of each file its size in bytes and its time in nanoseconds, int64
      [n, 2]; None if that is not known.
    trained: names of the training split's files, when this is of the other.
  """
  classes: tuple[str, ...]
  names: Sequence[str] | None = None
  stamps: np.ndarray | None = None
  trained: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What to open, and with what.

  Attributes:
    path: what follows "SCHEME:" in `data.name`; of a TFDS set its name.
    split: `data.train_split` or `data.test_split`.
    train_split: `data.train_split`.
    test_split: `data.test_split`.
    labels: `data.labels`.
    data_dir: where TFDS keeps its data; "" for its default.
    cache_dir: the folder for what a source wants to keep.
    max_pixels: images with more, width times height, should be refused.
    min_side: images with a shorter side, in pixels, should be refused.
    poll: to call regularly; may raise to stop.
    began: what a run goes on with; None takes what there is.
    classes: of the training split, when this is the other one. A source whose
      labels are told by its images takes these for its own.
  """
  path: str
  split: str
  train_split: str
  test_split: str
  labels: str
  data_dir: str
  cache_dir: pathlib.Path
  max_pixels: int
  min_side: int
  poll: Callable[[], None]
  began: Began | None
  classes: tuple[str, ...] = ()

  @property
  def held_out(self) -> bool:
    """Whether this is what is not trained on."""
    return self.split != self.train_split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """One split of a data set; a subclass says how its examples are read.

  One that is indexed overrides `lookup` and `read`, one that is streamed
  `lookup` and `stream`; one that is held has `images` and `labels`. What is
  indexed and small enough becomes held by itself.

  Attributes:
    kind: "held", "indexed" or "streamed"; of the class.
    name: for messages.
    num_examples: images.
    classes: names of the labels.
    fingerprint: changes when the content does.
    images: uint8 [n, h, w, 3] of a held source, else None.
    labels: int32 [n] of a held source, else None.
    mixed_sizes: its images are known to differ in size.
    names: of a folder's files, in the order of their ids; else empty.
    stamps: of a folder's files, see `Began`; else None.
    bad: examples found bad while they were read. It grows during a run; a
      source that is held shares it with the one it was made from.
    bad_list: where too many of them are listed, or None.
    remedy: what to do about too many.
  """
  kind: ClassVar[str] = "held"
  remedy: ClassVar[str] = "prepare the data set again"

  name: str
  num_examples: int
  classes: tuple[str, ...]
  fingerprint: str
  images: np.ndarray | None = None
  labels: np.ndarray | None = None
  mixed_sizes: bool = False
  names: tuple[str, ...] = ()
  stamps: np.ndarray | None = None
  bad: Bad = dataclasses.field(default_factory=Bad)
  bad_list: ListFile | None = None

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    """int64 ids -> (encoded image, label, id), in the order of `ids`.

    A streamed source needs ascending ids.
    """
    raise NotImplementedError

  def stream(
      self, seed: int, skip: int, part: int, parts: int
  ) -> tf.data.Dataset:
    """This host's endless shuffled (encoded image, label, id).

    Of a streamed source only.
    """
    raise NotImplementedError

  def decode(
      self, encoded: Any, i: Any, shrink: Shrink | None = None
  ) -> Any:
    """The encoded image of example i (int64) -> uint8 [h, w, 3].

    With `shrink` it may be smaller than it is; what can't be decoded without
    can't be decoded with it.
    """
    del i
    return native(encoded, shrink)

  def full_size(self, encoded: Any, i: Any, image: Any) -> Any:
    """Height and width of example i before `shrink`: int32 [2].

    Args:
      encoded: the image.
      i: int64 scalar.
      image: uint8 [h, w, 3], what `decode` made of it.
    """
    del i
    return full_size(encoded, image)

  def read(self, i: int) -> bytes:
    """The encoded image of an example, outside TensorFlow.

    Of an indexed source only.
    """
    raise NotImplementedError

  def remember(self, ids: Sequence[int]) -> None:
    """Keeps for later starts what is wrong with bad examples, if it can."""

  def describe(self, i: int) -> str:
    """An example, for messages."""
    return f"example {i}"


def native(encoded: Any, shrink: Shrink | None = None) -> Any:
  """TensorFlow's decoder: JPEG, PNG, BMP or GIF -> uint8 [h, w, 3].

  A JPEG gives the values that Pillow gives, which needs the accurate inverse
  DCT: the default one is off by up to 116 levels at a quality of 97 to 100.

  It is decoded at the least of 1, 1/2, 1/4 and 1/8 of its size that `shrink`
  allows, which leaves out most of the work for photographs much larger than the
  views. See `augment.one` for what that changes.
  """
  def decode_jpeg(ratio=1):
    return tf.io.decode_jpeg(
        encoded, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")

  def decode_smaller(shrink):
    shape = tf.io.extract_jpeg_shape(encoded)               # [3]
    most = shrink(shape[0], shape[1])
    place = tf.reduce_sum(tf.cast(most >= _RATIOS[1:], tf.int32))
    return tf.switch_case(place, [
        lambda ratio=ratio: decode_jpeg(ratio) for ratio in _RATIOS])

  image = tf.cond(
      tf.io.is_jpeg(encoded),
      lambda: decode_smaller(shrink) if shrink else decode_jpeg(),
      lambda: tf.io.decode_image(
          encoded, channels=3, expand_animations=False))
  return tf.ensure_shape(image, [None, None, 3])


def full_size(encoded: Any, image: Any) -> Any:
  """Height and width of what `native` has decoded before `shrink`: int32 [2].

  Args:
    encoded: the image.
    image: uint8 [h, w, 3], what `native` made of it.
  """
  return tf.cond(
      tf.io.is_jpeg(encoded),
      lambda: tf.io.extract_jpeg_shape(encoded)[:2],
      lambda: tf.shape(image)[:2])

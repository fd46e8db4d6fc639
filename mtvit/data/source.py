"""One split of a data set, however it is stored."""

import dataclasses
import pathlib
from typing import Any, Sequence

import numpy as np
import tensorflow as tf

from mtvit.data import cache_files
from mtvit.data import replacing

PARALLEL = dict(num_parallel_calls=tf.data.AUTOTUNE)


@dataclasses.dataclass(frozen=True)
class ListFile:
  """A list for people, in a text file."""
  file: pathlib.Path

  def write(self, lines: Sequence[str]) -> bool:
    """Replaces the file; False, after a note, if that can't be done."""
    return cache_files.write(
        self.file,
        lambda f: f.write("".join(x + "\n" for x in lines).encode()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """One split of a data set.

  Attributes:
    name: for messages.
    num_examples: images.
    classes: names of the labels.
    fingerprint: changes when the content does.
    images: uint8 [n, h, w, 3] of a held source, else None.
    labels: int32 [n] of a held source, else None.
    mixed_sizes: its images are known to differ in size.
    names: of a folder's files, in the order of their ids; else empty.
    bad: examples found bad while they were read. It grows during a run; a
      source that is held shares it with the one it was made from.
    bad_list: where too many of them are listed, or None.
  """
  kind = "held"

  name: str
  num_examples: int
  classes: tuple[str, ...]
  fingerprint: str
  images: np.ndarray | None = None
  labels: np.ndarray | None = None
  mixed_sizes: bool = False
  names: tuple[str, ...] = ()
  bad: replacing.Bad = dataclasses.field(default_factory=replacing.Bad)
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

  def decode(self, encoded: Any, i: Any) -> Any:
    """The encoded image of example i (int64) -> uint8 [h, w, 3]."""
    del i
    return native(encoded)

  def read(self, i: int) -> bytes:
    """The encoded image of an example, outside TensorFlow.

    Of an indexed source only.
    """
    raise NotImplementedError

  def describe(self, i: int) -> str:
    """An example, for messages."""
    return f"example {i}"


def native(encoded: Any) -> Any:
  """TensorFlow's decoder: JPEG, PNG, BMP or GIF -> uint8 [h, w, 3]."""
  image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
  return tf.ensure_shape(image, [None, None, 3])

"""Small images of one size: decoded once, kept as one array, cached on disk."""

import hashlib
import pathlib
import time
from typing import Callable, Iterator, NamedTuple

import numpy as np
import tensorflow as tf

from mtvit.data import cache_files
from mtvit.data import images as images_lib
from mtvit.data import replacing
from mtvit.data import source as source_lib
from mtvit.run import console

# What a held source has of the one that it was made from.
_KEPT = ("name", "num_examples", "classes", "fingerprint", "names", "stamps",
         "bad", "bad_list")


class Held(NamedTuple):
  """Decoded images uint8 [n, h, w, 3] and their labels int32 [n]."""
  images: np.ndarray
  labels: np.ndarray


def hold(
    source: source_lib.Source, cache_dir: pathlib.Path, memory_mb: int,
    poll: Callable[[], None]
) -> source_lib.Source:
  """The source with its images in memory, if they have one size and fit.

  Args:
    source: to read.
    cache_dir: where decoded images are kept.
    memory_mb: they fit if they take at most this.
    poll: called regularly; may raise to stop.

  Raises:
    DataError: images can't be decoded.
  """
  if source.images is not None or source.mixed_sizes:
    return source
  first = range(min(source.num_examples, 64))
  shapes = {image.shape for image, _ in _decoded(source, first)}
  if len(shapes) > 1:
    return source
  shape = (source.num_examples, *shapes.pop())
  if np.prod(shape, dtype=np.float64) > memory_mb * 2**20:
    return source
  key = hashlib.sha256(
      f"{source.fingerprint}:{images_lib.VERSION}".encode()).hexdigest()[:24]
  file = cache_dir / "decoded" / (key + cache_files.SUFFIX)
  held = _load(file, shape)
  if held is None:
    start = time.monotonic()
    held = _decode_all(source, shape, poll)
    if held is None:
      return source
    # With others in the place of bad images it holds for this run only.
    if not source.bad and cache_files.save(file, held._asdict()):
      console.note(f"{source.name}: decoded {shape[0]:,} images in "
                 f"{time.monotonic() - start:.1f} s, cached in {file}")
  kept = {key: getattr(source, key) for key in _KEPT}
  return source_lib.Source(**kept, **held._asdict())


def _load(file: pathlib.Path, shape: tuple[int, ...]) -> Held | None:
  """What is cached, if it is what was asked for."""
  found = cache_files.load(file, {
      "images": (np.uint8, shape), "labels": (np.int32, shape[:1])})
  return None if found is None else Held(**found)


def _decode_all(
    source: source_lib.Source, shape: tuple[int, ...],
    poll: Callable[[], None]
) -> Held | None:
  """Decodes every image; None if one has another shape."""
  held = Held(np.empty(shape, np.uint8), np.empty(shape[0], np.int32))
  progress = console.Progress(f"decoding {source.name}: images", shape[0])
  decoded = _decoded(source, range(shape[0]))
  for i, (image, label) in enumerate(decoded):
    if i % 64 == 0:
      poll()
      progress.update(i)
    if image.shape != shape[1:]:
      return None
    held.images[i], held.labels[i] = image, label
  return held


def _decoded(
    source: source_lib.Source, ids: range
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (image, label) of examples, decoded in parallel."""
  def make(done):
    rest = tf.range(ids.start + done, ids.stop, dtype=tf.int64)
    rest, _ = replacing.replace(source, rest)
    ds = source.lookup(tf.data.Dataset.from_tensor_slices(rest))
    return ds.map(
        lambda data, label, i: (source.decode(data, i), label),
        **source_lib.PARALLEL).prefetch(64)

  # The next ones too: each time it is made anew takes a moment.
  return replacing.elements(
      source, make, lambda done: ids[done:done + 64])

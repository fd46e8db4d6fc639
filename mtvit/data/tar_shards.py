"""Images in tar shards, as WebDataset writes them, read in any order."""

import dataclasses
import hashlib
import os
from typing import Any, NamedTuple
import zlib

import numpy as np
import tensorflow as tf

from mtvit import errors
from mtvit.data import folder_layout
from mtvit.data import image_files
from mtvit.data import manifest as manifest_lib
from mtvit.data import source as source_lib
from mtvit.data import tar_index
from mtvit.data import tar_members
from mtvit.data import tar_pattern
from mtvit.run import console
from mtvit.run import reading

_few = folder_layout.few


@dataclasses.dataclass(frozen=True, kw_only=True)
class TarSource(image_files.FileSource):
  """Images in tar archives, which are opened anew for each read.

  Attributes:
    files: of each image the archive, an absolute path; "" if it is gone.
    members: where in it its bytes begin, how many they are, and the CRC-32 of
      the header before them, int64 [n, 3].
  """
  remedy = (
      "restore the shards, or start anew (a run: with another --workdir), "
      "which leaves these images out")
  members: np.ndarray

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    labels = tf.constant(self.file_labels)

    def example(i):
      data = tf.numpy_function(self.read, [i], tf.string, stateful=False)
      return tf.ensure_shape(data, []), labels[i], i

    return ids.map(example, **source_lib.PARALLEL)

  def read(self, i: int) -> bytes:
    """See `Source`; OSError if another member is there by now."""
    if not self.files[i]:
      raise OSError("it is gone")
    (start, size, mark), block = self.members[i].tolist(), tar_members.BLOCK
    with open(self.files[i], "rb", buffering=0, opener=reading.regular) as f:
      data = os.pread(f.fileno(), size + block, start - block)
    if len(data) < size + block or zlib.crc32(data[:block]) != mark:
      raise OSError("the shard has changed since it was read first")
    return data[block:]

  def place(self, i: int) -> manifest_lib.Place | str:
    found = manifest_lib.place(self.files[i])
    if isinstance(found, str):
      return found
    start, size, _ = self.members[i].tolist()
    return found._replace(start=start, size=size)

  def describe(self, i: int) -> str:
    return console.printable(os.path.join(self.root, self.names[i]))


class _Images(NamedTuple):
  """The images of some shards, by names below the folder of the shards."""
  images: dict[str, tar_index.Image]
  places: dict[str, manifest_lib.Place]
  refused: dict[str, str]


def open_source(request: source_lib.Request) -> image_files.FileSource:
  """Opens a split of the shards of a pattern; see `datasets.open_source`."""
  found = tar_pattern.find(request)
  shown = console.printable(found.pattern)
  quiet = found.shared and request.held_out         # The other split said it.
  if found.missing:
    _note_missing(shown, found, request)
  shards = tar_index.read(found.paths, request.cache_dir, request.poll)
  there = _images(found.root, shards)
  classes, labels = _labels(shown, there, request)
  manifest = manifest_lib.read(
      found.root, there.places, request.cache_dir, request.max_pixels,
      request.poll, source_lib.native, found.pattern)
  files = image_files.sort(found.root, manifest, request)
  files = files._replace(
      shown=shown, refused={**files.refused, **there.refused},
      missing="it is in no shard")
  if classes:
    known = set(classes)
    files = files.where(lambda name: name not in labels or
                        labels[name] in known)
  complaint = image_files.complaint(files)
  if not files.good:
    raise errors.DataError(
        f"no images in {shown}" + (f": {complaint}" * bool(complaint)),
        "expected members NAME.jpg, .jpeg, .png, .webp, .bmp, .gif or .avif")
  if not quiet:
    if complaint:
      console.note(f"{shown}: {complaint}")
    _note_oddities(shown, shards, files, there, classes)
  numbers = {name: label for label, name in enumerate(classes)}
  return image_files.of_split(
      files, classes, lambda name: numbers.get(labels.get(name) or "", -1),
      request, found.shared, lambda **attributes: _make(there, attributes))


def _note_missing(
    shown: str, found: tar_pattern.Shards, request: source_lib.Request
) -> None:
  """Says which shards of a range are missing; ConfigError for a new run."""
  text = (f"{shown}: {len(found.missing):,} of "
          f"{len(found.missing) + len(found.paths):,} shards are not there: "
          f"{_few([os.path.basename(x) for x in found.missing])}")
  if request.began is None:
    raise errors.ConfigError(
        text, "another range, or a pattern with *, which takes what is there")
  console.note(text)


def _images(root: str, shards: list[tar_index.Shard]) -> _Images:
  """All images of the shards."""
  found = _Images({}, {}, {})
  for shard in shards:
    prefix = os.path.relpath(shard.path, root) + "/"
    for image in shard.images:
      name = prefix + image.name
      found.images[name] = image
      found.places[name] = manifest_lib.Place(
          shard.path, image.size, shard.time_ns, shard.changed_ns, image.start)
    found.refused.update(
        (prefix + name, why) for name, why in shard.refused.items())
  return found


def _labels(
    shown: str, there: _Images, request: source_lib.Request
) -> tuple[tuple[str, ...], dict[str, str | None]]:
  """Names of the classes, and the class of each image by its name."""
  began = request.began and request.began.classes
  if request.labels == "none" or began == ():
    return (), {}
  labels = {name: image.label for name, image in there.images.items()}
  if request.labels == "folders" and not any(labels.values()):
    labels = {
        name: os.path.basename(os.path.dirname(image.name)) or None
        for name, image in there.images.items()}
    if not any(labels.values()):
      raise errors.DataError(
          f"{shown} has no labels",
          "add a .cls file to each image, or train without any: "
          "--config.data.labels=none")
  # Integers are in the order of their values.
  of_digits = lambda x: x.isascii() and x.isdigit()
  names = sorted(
      {x for x in labels.values() if x is not None},
      key=lambda x: (0, int(x), x) if of_digits(x) else (1, 0, x))
  return began or request.classes or tuple(names), labels


def _make(there: _Images, attributes: dict[str, Any]) -> TarSource:
  """The source of some of the images, by what it has as one of files."""
  nothing = tar_index.Image("", 0, 0, 0, None)
  images = [there.images.get(x, nothing) for x in attributes["names"]]
  members = np.array([(x.start, x.size, x.mark) for x in images], np.int64)
  digest = hashlib.sha256(attributes["fingerprint"].encode())
  digest.update(members.tobytes())
  return TarSource(**attributes | dict(
      fingerprint=digest.hexdigest(), members=members, stamps=members[:, 1:],
      files=tuple(there.places[x].path if x in there.places else ""
                  for x in attributes["names"])))


def _note_oddities(
    shown: str, shards: list[tar_index.Shard], files: image_files.Files,
    there: _Images, classes: tuple[str, ...]
) -> None:
  """Says what is odd about the shards, and what is left out."""
  cut = [f"{os.path.basename(shard.path)} {shard.damage}"
         for shard in shards if shard.damage]
  if cut:
    console.note(
        f"{shown}: {len(cut):,} of {len(shards):,} shards are used only up to "
        f"where they are damaged: {_few(cut)}")
  hidden = sum(shard.hidden for shard in shards)
  if hidden:
    console.note(f"{shown}: {hidden:,} members left out, as hidden")
  left_out = len(there.images) - sum(
      name in there.images for name in [*files.good, *files.refused])
  if left_out:
    console.note(
        f"{shown}: {left_out:,} images without a label, or of another class, "
        "are not used (--config.data.labels=none takes all, without labels)")
  if len(classes) == 1:
    console.note(f"{shown}: one class only, so kNN accuracy tells nothing")

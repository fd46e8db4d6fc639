"""A folder of class folders of image files."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from typing import Any, Callable, Sequence

import numpy as np
import tensorflow as tf

from mtvit import errors
from mtvit.data import images
from mtvit.data import manifest as manifest_lib
from mtvit.data import notes
from mtvit.data import replacing
from mtvit.data import source as source_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderSource(source_lib.Source):
  """Image files in class folders.

  Attributes:
    files: absolute paths.
    file_labels: int32 [n].
    by_pillow: bool [n]; TensorFlow decodes the others right.
    max_pixels: Pillow decodes no larger image.
  """
  kind = "indexed"
  files: tuple[str, ...]
  file_labels: np.ndarray
  by_pillow: np.ndarray
  max_pixels: int

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    files = tf.constant([os.fsencode(file) for file in self.files])
    labels = tf.constant(self.file_labels)
    return ids.map(
        lambda i: (tf.io.read_file(files[i]), labels[i], i),
        **source_lib.PARALLEL)

  def decode(
      self, encoded: Any, i: Any, shrink: source_lib.Shrink | None = None
  ) -> Any:
    if not self.by_pillow.any():
      return source_lib.native(encoded, shrink)
    if tf.executing_eagerly():
      # There `numpy_function` takes the zero bytes from the end of a string.
      if not self.by_pillow[int(i)]:
        return source_lib.native(encoded, shrink)
      data = tf.convert_to_tensor(encoded).numpy()
      return tf.constant(images.decode_pillow(data, self.max_pixels))
    image = tf.cond(
        tf.constant(self.by_pillow)[i],
        lambda: tf.numpy_function(
            lambda data: images.decode_pillow(data, self.max_pixels),
            [encoded], tf.uint8, stateful=False),
        lambda: source_lib.native(encoded, shrink))
    return tf.ensure_shape(image, [None, None, 3])

  def read(self, i: int) -> bytes:
    return pathlib.Path(self.files[i]).read_bytes()

  def describe(self, i: int) -> str:
    return notes.printable(self.files[i])


def open_folder(
    path: str, split: str, *, cache_dir: pathlib.Path, max_pixels: int,
    min_side: int, poll: Callable[[], None],
    names: Sequence[str] | None = None
) -> FolderSource:
  """Opens PATH/SPLIT/<class>/**; see `datasets.open_source`."""
  root = os.path.abspath(os.path.join(os.path.expanduser(path), split))
  shown = notes.printable(root)
  if not os.path.isdir(root):
    raise errors.ConfigError(
        f"data folder {shown} does not exist",
        f"--config.data.name=folder:PATH with PATH/{split}/<class>/<images>")
  manifest = manifest_lib.read(root, cache_dir, max_pixels, poll)
  if not manifest.classes:
    raise errors.DataError(
        f"{shown} has no class folders"
        + (f"; {manifest.loose:,} files lie directly in it" * bool(
            manifest.loose)),
        f"put the images into {shown}/<class>/, one folder (say, all) will do "
        "without labels")
  refused = {}      # name -> reason
  good = {}         # name -> (name, entry, label)
  for label, files in enumerate(manifest.files):
    for name, entry in files.items():
      reason = manifest_lib.refusal(entry, max_pixels, min_side)
      if reason:
        refused[name] = reason
      else:
        good[name] = (name, entry, label)
  taken = list(good.values())
  complaint = _complaint(root, manifest, refused)
  if not taken:
    raise errors.DataError(
        f"no images in the class folders of {shown}"
        + (f": {complaint}" if complaint else ""),
        f"expected {shown}/<class>/<image> in JPEG, PNG, BMP, GIF, WebP or "
        "AVIF")
  if complaint:
    notes.note(f"{shown}: {complaint}")
  _note_classes(shown, manifest, [label for *_, label in taken])
  if names is None:
    return _source(root, manifest, taken, max_pixels)
  source = _source(root, manifest, [
      good[name] if name in good else _gone(manifest, name)
      for name in names], max_pixels)
  replacing.report(source, {
      i: refused.get(name, "the file is gone")
      for i, name in enumerate(names) if name not in good})
  new = len(good.keys() - set(names))
  if new:
    notes.note(f"{shown}: {new:,} new files are not used by this run")
  return source


def _gone(
    manifest: manifest_lib.Manifest, name: str
) -> tuple[str, manifest_lib.Entry, int]:
  """The place of a file that a run began with, and that can't be used now."""
  label = name.partition(os.sep)[0]
  if label not in manifest.classes:
    raise errors.DataError(
        f"the class folder {notes.printable(label)} is gone, with which the "
        "run began", "restore it, or use another --workdir")
  return (name, manifest_lib.Entry(0, 0, 0, 0, "tensorflow", ""),
          manifest.classes.index(label))


def _source(
    root: str, manifest: manifest_lib.Manifest,
    taken: Sequence[tuple[str, manifest_lib.Entry, int]], max_pixels: int
) -> FolderSource:
  """The source of the files that are taken."""
  digest = hashlib.sha256(repr(manifest.classes).encode())
  for name, entry, _ in taken:
    digest.update(os.fsencode(
        f"{name}:{entry.size}:{entry.mtime_ns}:{entry.decoder}\n"))
  return FolderSource(
      name=notes.printable(root), num_examples=len(taken),
      classes=manifest.classes, fingerprint=digest.hexdigest(),
      names=tuple(name for name, *_ in taken),
      files=tuple(os.path.join(root, name) for name, *_ in taken),
      file_labels=np.array([label for *_, label in taken], np.int32),
      by_pillow=np.array([e.decoder == "pillow" for _, e, _ in taken]),
      max_pixels=max_pixels,
      mixed_sizes=len({
          frozenset((e.width, e.height)) for _, e, _ in taken
          if e.width}) > 1,
      bad_list=source_lib.ListFile(manifest.file.with_suffix(".bad.txt")))


def _complaint(
    root: str, manifest: manifest_lib.Manifest, refused: dict[str, str]
) -> str:
  """Counts refused files by reason and lists them in a file; "" if none."""
  if not refused:
    return ""
  kinds = collections.Counter(
      reason.partition(":")[0] for reason in refused.values())
  total = sum(map(len, manifest.files))
  text = f"{len(refused):,} of {total:,} files refused: " + ", ".join(
      f"{count:,} {kind}" for kind, count in kinds.most_common())
  lines = source_lib.ListFile(manifest.file.with_suffix(".refused.txt"))
  if lines.write([
      f"{reason}\t{notes.printable(os.path.join(root, name))}"
      for name, reason in refused.items()]):
    text += f"; listed in {lines.file}"
  return text


def _note_classes(
    shown: str, manifest: manifest_lib.Manifest, labels: Sequence[int]
) -> None:
  """Says what is odd about the classes."""
  used = set(labels)
  empty = [notes.printable(name) for label, name in enumerate(manifest.classes)
           if label not in used]
  if empty:
    more = ", ..." if len(empty) > 5 else ""
    notes.note(f"{shown}: no images in {len(empty)} of "
               f"{len(manifest.classes)} class folders: "
               f"{', '.join(empty[:5])}{more}")
  if len(used) == 1:
    notes.note(f"{shown}: one class only, so kNN accuracy tells nothing")
  if manifest.loose:
    notes.note(f"{shown}: {manifest.loose:,} files beside the class folders "
               "are not used")

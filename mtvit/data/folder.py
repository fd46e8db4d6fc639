"""A folder of class folders of image files."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from typing import Any, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from mtvit import errors
from mtvit.data import images
from mtvit.data import manifest as manifest_lib
from mtvit.data import replacing
from mtvit.data import source as source_lib
from mtvit.run import console
from mtvit.run import paths


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderSource(source_lib.Source):
  """Image files in class folders.

  Attributes:
    files: absolute paths.
    file_labels: int32 [n].
    by_pillow: bool [n]; TensorFlow decodes the others right.
    max_pixels: Pillow decodes no larger image.
    root: absolute path of the folder.
    manifest: where what is known of its files is kept.
  """
  kind = "indexed"
  remedy = (
      "restore the files, or start anew (a run: with another --workdir), which "
      "leaves them out")
  files: tuple[str, ...]
  file_labels: np.ndarray
  by_pillow: np.ndarray
  max_pixels: int
  root: str
  manifest: pathlib.Path

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

  def full_size(self, encoded: Any, i: Any, image: Any) -> Any:
    if not self.by_pillow.any():
      return source_lib.full_size(encoded, image)
    # Pillow shrinks nothing, and it turns; and it reads JPEGs of kinds of which
    # TensorFlow can't even tell the size.
    return tf.cond(
        tf.constant(self.by_pillow)[i], lambda: tf.shape(image)[:2],
        lambda: source_lib.full_size(encoded, image))

  def read(self, i: int) -> bytes:
    return pathlib.Path(self.files[i]).read_bytes()

  def remember(self, ids: Sequence[int]) -> None:
    manifest_lib.remember(
        self.manifest, self.root, [self.names[i] for i in ids],
        self.max_pixels, source_lib.native)

  def describe(self, i: int) -> str:
    return console.printable(self.files[i])


class _Files(NamedTuple):
  """The files of a folder by name: (name, entry, label), or why not."""
  good: dict[str, tuple[str, manifest_lib.Entry, int]]
  refused: dict[str, str]


def open_source(request: source_lib.Request) -> FolderSource:
  """Opens PATH/SPLIT/<class>/**; see `datasets.open_source`."""
  split, began, max_pixels = request.split, request.began, request.max_pixels
  root = os.path.abspath(os.path.join(paths.expand(request.path), split))
  shown = console.printable(root)
  if not os.path.isdir(root):
    raise errors.ConfigError(
        f"data folder {shown} does not exist",
        f"--config.data.name=folder:PATH with PATH/{split}/<class>/<images>")
  manifest = manifest_lib.read(
      root, request.cache_dir, max_pixels, request.poll, source_lib.native)
  classes = _classes(shown, manifest, began)
  files = _sort(manifest, classes, max_pixels, request.min_side)
  complaint = _complaint(root, manifest.file, files)
  if not files.good:
    raise errors.DataError(
        f"no images in the class folders of {shown}"
        + (f": {complaint}" if complaint else ""),
        f"expected {shown}/<class>/<image> in JPEG, PNG, BMP, GIF, WebP or "
        "AVIF")
  if complaint:
    console.note(f"{shown}: {complaint}")
  _note_oddities(shown, manifest, classes, {
      label for *_, label in files.good.values()})
  if began is None or began.names is None:
    return _source(
        root, manifest.file, classes, list(files.good.values()), max_pixels)
  return _as_it_began(root, manifest.file, classes, files, max_pixels, began)


def _classes(
    shown: str, manifest: manifest_lib.Manifest,
    began: source_lib.Began | None
) -> tuple[str, ...]:
  """Names of the labels: a run keeps those that it began with."""
  if not manifest.classes:
    raise errors.DataError(
        f"{shown} has no class folders"
        + (f"; {manifest.loose:,} files lie directly in it" * bool(
            manifest.loose)),
        f"put the images into {shown}/<class>/, one folder (say, all) will do "
        "without labels")
  if began is None:
    return manifest.classes
  gone = [name for name in began.classes if name not in manifest.classes]
  if gone:
    raise errors.DataError(
        f"{shown}: {len(gone)} of the {len(began.classes)} class folders with "
        f"which the run began are gone: {_few(gone)}",
        "restore them (empty ones will do), or use another --workdir")
  new = [name for name in manifest.classes if name not in began.classes]
  if new:
    console.note(f"{shown}: {len(new)} new class folders are not used by this "
               f"run, whose labels stay: {_few(new)}")
  return began.classes


def _few(names: Sequence[str]) -> str:
  """The first few names."""
  more = ", ..." if len(names) > 5 else ""
  return ", ".join(map(console.printable, names[:5])) + more


def _sort(
    manifest: manifest_lib.Manifest, classes: Sequence[str], max_pixels: int,
    min_side: int
) -> _Files:
  """The files of these classes, by whether they can be used."""
  found = _Files({}, {})
  labels = {name: label for label, name in enumerate(classes)}
  for name_of_class, files in zip(manifest.classes, manifest.files):
    if name_of_class not in labels:
      continue
    for name, entry in files.items():
      reason = manifest_lib.refusal(entry, max_pixels, min_side)
      if reason:
        found.refused[name] = reason
      else:
        found.good[name] = (name, entry, labels[name_of_class])
  return found


def _as_it_began(
    root: str, manifest: pathlib.Path, classes: tuple[str, ...],
    files: _Files, max_pixels: int, began: source_lib.Began
) -> FolderSource:
  """The source of the files that a run began with; says what is different."""
  shown, good, names = console.printable(root), files.good, began.names or ()
  nothing = manifest_lib.Entry(0, 0, 0, 0, "tensorflow", "")
  source = _source(root, manifest, classes, [
      good[name] if name in good else
      (name, nothing, classes.index(name.partition(os.sep)[0]))
      for name in names], max_pixels)
  replacing.report(source, {
      i: files.refused.get(name, "the file is gone")
      for i, name in enumerate(names) if name not in good})
  if began.stamps is not None and source.stamps is not None:
    changed = [
        names[i] for i in np.flatnonzero(
            (source.stamps != began.stamps).any(1)).tolist()
        if i not in source.bad]
    if changed:
      console.note(
          f"{shown}: {len(changed):,} files are not of the size or time "
          f"with which the run began: {_few(changed)}")
  new = len(good.keys() - set(names))
  if new:
    console.note(f"{shown}: {new:,} new files are not used by this run")
  return source


def _source(
    root: str, manifest: pathlib.Path, classes: tuple[str, ...],
    taken: Sequence[tuple[str, manifest_lib.Entry, int]], max_pixels: int
) -> FolderSource:
  """The source of the files that are taken."""
  digest = hashlib.sha256(repr(classes).encode())
  for name, entry, _ in taken:
    digest.update(os.fsencode(
        f"{name}:{entry.size}:{entry.time_ns}:{entry.decoder}\n"))
  return FolderSource(
      name=console.printable(root), num_examples=len(taken),
      classes=classes, fingerprint=digest.hexdigest(),
      names=tuple(name for name, *_ in taken),
      stamps=np.array([e[:2] for _, e, _ in taken], np.int64),
      files=tuple(os.path.join(root, name) for name, *_ in taken),
      file_labels=np.array([label for *_, label in taken], np.int32),
      by_pillow=np.array([e.decoder == "pillow" for _, e, _ in taken]),
      max_pixels=max_pixels, root=root, manifest=manifest,
      mixed_sizes=len({
          frozenset((e.width, e.height)) for _, e, _ in taken
          if e.width}) > 1,
      bad_list=source_lib.ListFile(manifest.with_suffix(".bad.txt")))


def _complaint(root: str, manifest: pathlib.Path, files: _Files) -> str:
  """Counts refused files by reason and lists them in a file; "" if none."""
  refused = files.refused
  if not refused:
    return ""
  kinds = collections.Counter(
      reason.partition(":")[0] for reason in refused.values())
  total = len(refused) + len(files.good)
  text = f"{len(refused):,} of {total:,} files refused: " + ", ".join(
      f"{count:,} {kind}" for kind, count in kinds.most_common())
  lines = source_lib.ListFile(manifest.with_suffix(".refused.txt"))
  if lines.write([
      f"{reason}\t{console.printable(os.path.join(root, name))}"
      for name, reason in refused.items()]):
    text += f"; listed in {lines.file}"
  return text


def _note_oddities(
    shown: str, manifest: manifest_lib.Manifest, classes: Sequence[str],
    used: set[int]
) -> None:
  """Says what is odd about the classes, and what is left out."""
  empty = [name for label, name in enumerate(classes) if label not in used]
  if empty:
    console.note(f"{shown}: no images in {len(empty)} of {len(classes)} class "
               f"folders: {_few(empty)}")
  if len(used) == 1:
    console.note(f"{shown}: one class only, so kNN accuracy tells nothing")
  if manifest.loose:
    console.note(f"{shown}: {manifest.loose:,} files beside the class folders "
               "are not used")
  if manifest.left_out:
    console.note(f"{shown}: left out, as hidden or of other programs: "
               f"{_few(sorted(manifest.left_out))}")

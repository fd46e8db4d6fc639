"""Sources of image files: what folders and lists of files have in common."""

import collections
import dataclasses
import hashlib
import os
import pathlib
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from mtvit import errors
from mtvit.data import folder_layout
from mtvit.data import hash_split
from mtvit.data import images
from mtvit.data import manifest as manifest_lib
from mtvit.data import replacing
from mtvit.data import source as source_lib
from mtvit.run import console

_few = folder_layout.few


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileSource(source_lib.Source):
  """Image files.

  Attributes:
    files: absolute paths.
    file_labels: int32 [n]; -1 where there is none.
    by_pillow: bool [n]; TensorFlow decodes the others right.
    max_pixels: Pillow decodes no larger image.
    root: absolute path of the folder to which names are relative.
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
        self.manifest, self.root,
        {self.names[i]: self.place(i) for i in ids}, self.max_pixels,
        source_lib.native)

  def place(self, i: int) -> manifest_lib.Place | str:
    """Where an example's bytes are, or why they can't be read."""
    return manifest_lib.place(self.files[i])

  def describe(self, i: int) -> str:
    return console.printable(self.files[i])


class Files(NamedTuple):
  """Image files by name, in order.

  Attributes:
    shown: what they are the files of, for messages.
    root: absolute path of the folder to which names are relative.
    manifest: where what is known of them is kept.
    good: name -> what is known of a file that can be used.
    refused: name -> why it can't be.
    missing: what to say of a name that a run has and that is not here.
  """
  shown: str
  root: str
  manifest: pathlib.Path
  good: Mapping[str, manifest_lib.Entry]
  refused: Mapping[str, str]
  missing: str = "the file is gone"

  def where(self, keep: Callable[[str], bool]) -> "Files":
    """Those whose names are to be kept."""
    return self._replace(
        good={name: x for name, x in self.good.items() if keep(name)},
        refused={name: x for name, x in self.refused.items() if keep(name)})


def sort(
    root: str, manifest: manifest_lib.Manifest, request: source_lib.Request
) -> Files:
  """The files of a manifest, by whether they can be used."""
  good, refused = {}, {}
  for name, entry in manifest.files.items():
    reason = manifest_lib.refusal(
        entry, request.max_pixels, request.min_side)
    if reason:
      refused[name] = reason
    else:
      good[name] = entry
  return Files(
      console.printable(root), root, manifest.file, good, refused)


def complaint(files: Files) -> str:
  """Counts refused files by reason and lists them in a file; "" if none."""
  if not files.refused:
    return ""
  kinds = collections.Counter(
      reason.partition(":")[0] for reason in files.refused.values())
  total = len(files.refused) + len(files.good)
  text = f"{len(files.refused):,} of {total:,} files refused: " + ", ".join(
      f"{count:,} {kind}" for kind, count in kinds.most_common())
  lines = source_lib.ListFile(files.manifest.with_suffix(".refused.txt"))
  if lines.write([
      f"{reason}\t{console.printable(os.path.join(files.root, name))}"
      for name, reason in files.refused.items()]):
    text += f"; listed in {lines.file}"
  return text


def of_split(
    files: Files, classes: tuple[str, ...], label: Callable[[str], int],
    request: source_lib.Request, shared: bool,
    make: Callable[..., FileSource] = FileSource
) -> FileSource:
  """The source of what belongs to the split that is asked for.

  A run that goes on has the files that it began with, and what is different is
  said; what it trains on is not held out.

  Args:
    files: of the split; of both, if they are shared.
    classes: names of the labels.
    label: the label of a file by its name; -1 for none.
    request: what to open.
    shared: whether the names decide which files are held out.
    make: from the attributes of a `FileSource` to one.

  Raises:
    DataError: there are too few to hold some out, or too many are gone.
  """
  began, offered, part = request.began, list(files.good), ""
  if shared and request.test_split != request.train_split:
    part = ", held-out part" if request.held_out else ""
    offered = _part(files, request)
  kept = began.names if began else None
  found = make(**_attributes(
      files, offered if kept is None else kept, classes, label,
      request.max_pixels, part))
  if began and kept is not None:
    _compare(found, files, began, offered)
  return found


def _part(files: Files, request: source_lib.Request) -> list[str]:
  """Names of one split's images, where both splits are in one place."""
  names = list(files.good)
  hash_split.check(files.shown, len(names))
  chosen = dict(zip(names, hash_split.held_out(names).tolist()))
  if not request.held_out:
    console.note(
        f"{files.shown}: {sum(chosen.values()):,} of {len(names):,} images, "
        "chosen by their names, are held out (--config.data.test_split=NAME "
        "for others)")
    return [name for name in names if not chosen[name]]
  trained = set(request.began.trained if request.began else ())
  found = [name for name in names if chosen[name] and name not in trained]
  if not found:
    raise errors.DataError(
        f"{files.shown}: all images that were held out are gone",
        "restore them, or use another --workdir")
  return found


def _attributes(
    files: Files, names: Sequence[str], classes: tuple[str, ...],
    label: Callable[[str], int], max_pixels: int, part: str
) -> dict[str, Any]:
  """The attributes of the source of these files, in this order.

  Args:
    files: what is known of them; what is not among the good ones can't be read.
    names: which to take.
    classes: names of the labels.
    label: the label of a file by its name.
    max_pixels: see `FileSource`.
    part: which part of the files it is, for messages.
  """
  nothing = manifest_lib.Entry(0, 0, 0, 0, "tensorflow", "")
  entries = [files.good.get(name, nothing) for name in names]
  digest = hashlib.sha256(repr(classes).encode())
  for name, entry in zip(names, entries):
    digest.update(os.fsencode(
        f"{name}:{entry.size}:{entry.time_ns}:{entry.decoder}\n"))
  labels = np.array([label(name) for name in names], np.int32)
  digest.update(labels.tobytes())       # A list may give others.
  return dict(
      name=files.shown + part, num_examples=len(names),
      classes=classes, fingerprint=digest.hexdigest(), names=tuple(names),
      stamps=np.array([e[:2] for e in entries], np.int64),
      files=tuple(os.path.join(files.root, name) for name in names),
      file_labels=labels,
      by_pillow=np.array([e.decoder == "pillow" for e in entries]),
      max_pixels=max_pixels, root=files.root, manifest=files.manifest,
      mixed_sizes=len({
          frozenset((e.width, e.height)) for e in entries if e.width}) > 1,
      bad_list=source_lib.ListFile(files.manifest.with_suffix(".bad.txt")))


def _compare(
    found: FileSource, files: Files, began: source_lib.Began,
    offered: Sequence[str]
) -> None:
  """Says what is different from the files that a run began with.

  Args:
    found: the source of the files that it began with.
    files: what there is.
    began: what the run began with.
    offered: names of what a new run would take.

  Raises:
    DataError: too many are gone.
  """
  names = found.names
  replacing.report(found, {
      i: files.refused.get(name, files.missing)
      for i, name in enumerate(names) if name not in files.good})
  if began.stamps is not None and found.stamps is not None:
    changed = [
        names[i] for i in np.flatnonzero(
            (found.stamps != began.stamps).any(1)).tolist()
        if i not in found.bad]
    if changed:
      console.note(
          f"{files.shown}: {len(changed):,} files are not of the size or time "
          f"with which the run began: {_few(changed)}")
  new = len(set(offered) - set(names))
  if new:
    console.note(
        f"{files.shown}: {new:,} new files are not used by this run")

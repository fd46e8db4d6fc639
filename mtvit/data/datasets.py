"""Where images come from: TFDS by name, a folder of class folders, photo_crops.

A source is *held* (small images of one size: decoded once, kept as one uint8
array), *indexed* (any example can be read at any time) or *streamed* (records
come in file order; resuming skips over them).
"""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import re
import sys
import time
from typing import Any

from etils import epath
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mtvit import errors
from mtvit.data import photo_crops

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
_PARALLEL = dict(num_parallel_calls=tf.data.AUTOTUNE)


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
  """
  kind = "held"

  name: str
  num_examples: int
  classes: tuple[str, ...]
  fingerprint: str
  images: np.ndarray | None = None
  labels: np.ndarray | None = None

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    """int64 ids -> (encoded image, label, id), in the order of `ids`.

    A streamed source needs ascending ids.
    """
    raise NotImplementedError

  def stream(
      self, seed: int, skip: int, process_index: int, process_count: int
  ) -> tf.data.Dataset:
    """This host's endless shuffled records, of a streamed source only."""
    raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
  """Image files in class folders."""
  kind = "indexed"
  files: tuple[str, ...]
  file_labels: np.ndarray

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    files = tf.constant(self.files)
    labels = tf.constant(self.file_labels)
    return ids.map(
        lambda i: (tf.io.read_file(files[i]), labels[i], i), **_PARALLEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayRecordSource(Source):
  """A TFDS data set prepared as ArrayRecord: random access."""
  kind = "indexed"
  data_source: Any

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    def read(i):
      example = self.data_source[int(i)]
      return example["image"], np.int64(example.get("label", -1))

    def wrapped(i):
      data, label = tf.numpy_function(
          read, [i], [tf.string, tf.int64], stateful=False)
      return tf.ensure_shape(data, []), tf.ensure_shape(label, []), i

    return ids.map(wrapped, **_PARALLEL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedSource(Source):
  """A TFDS data set prepared as TFRecord: read in file order."""
  kind = "streamed"
  builder: Any
  split: str

  def _read(self, instruction: Any) -> tf.data.Dataset:
    # Default order: files one after the other, the same on every read.
    ds = self.builder.as_dataset(
        split=instruction, shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1, add_tfds_id=False,
            try_autocache=False))
    return ds.map(lambda e: (e["image"], e.get("label", tf.constant(
        -1, tf.int64))))

  def lookup(self, ids: tf.data.Dataset) -> tf.data.Dataset:
    wanted = np.zeros(self.num_examples, bool)
    wanted[np.fromiter(ids.as_numpy_iterator(), np.int64)] = True
    wanted = tf.constant(wanted)
    ds = self._read(self.split).enumerate()
    return ds.filter(lambda i, _: wanted[i]).map(
        lambda i, record: (*record, i))

  def stream(
      self, seed: int, skip: int, process_index: int, process_count: int
  ) -> tf.data.Dataset:
    part = tfds.even_splits(self.split, process_count)[process_index]
    records = self._read(part)

    def epoch(e):
      return records.shuffle(
          10_000, seed=seed + e, reshuffle_each_iteration=False)

    ds = tf.data.Dataset.range(2**62).flat_map(epoch).skip(skip)
    return ds.map(lambda data, label: (data, label, tf.constant(-1, tf.int64)))


def decode(encoded: Any) -> Any:
  """Encoded JPEG, PNG, BMP or GIF -> uint8 [h, w, 3]."""
  image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
  return tf.ensure_shape(image, [None, None, 3])


def open_source(
    name: str, split: str, *, data_dir: str, cache_dir: str, memory_mb: int
) -> Source:
  """Opens one split of a data set.

  Args:
    name: "photo_crops", "folder:PATH" or a TFDS name.
    split: a TFDS split, or a folder below PATH.
    data_dir: where TFDS keeps its data; "" for its default.
    cache_dir: where decoded small sets are kept.
    memory_mb: sets of one image size that decode to at most this are held.

  Raises:
    ConfigError: no such data set, folder or split.
    DataError: it is not prepared, or has no images.
  """
  if name.startswith("folder:"):
    source = _open_folder(name.removeprefix("folder:"), split)
  else:
    source = _open_tfds(name, split, data_dir)
  return _hold(source, pathlib.Path(cache_dir).expanduser(), memory_mb)


def _open_folder(path: str, split: str) -> Source:
  root = pathlib.Path(path).expanduser() / split
  if not root.is_dir():
    raise errors.ConfigError(
        f"data folder {root} does not exist",
        f"--config.data.name=folder:PATH with PATH/{split}/<class>/<images>")
  classes = sorted(d.name for d in root.iterdir() if d.is_dir())
  files, labels, digest = [], [], hashlib.sha256()
  for label, name in enumerate(classes):
    for file in sorted((root / name).iterdir()):
      if file.suffix.lower() in EXTENSIONS:
        files.append(str(file))
        labels.append(label)
        stat = file.stat()
        digest.update(
            f"{name}/{file.name}:{stat.st_size}:{stat.st_mtime_ns}\n".encode())
  if not files:
    raise errors.DataError(
        f"no images in the class folders of {root}",
        f"expected {root}/<class>/<image> ending in {', '.join(EXTENSIONS)}")
  return FolderSource(
      name=str(root), num_examples=len(files), classes=tuple(classes),
      fingerprint=digest.hexdigest(), files=tuple(files),
      file_labels=np.array(labels, np.int32))


def _open_tfds(name: str, split: str, data_dir: str) -> Source:
  data_dir = data_dir or None
  if name == "photo_crops":
    builder = photo_crops.PhotoCrops(
        data_dir=data_dir, file_format="array_record")
    tfds.display_progress_bar(False)
    # It makes its images; what TFDS prints of a download would mislead.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()
  else:
    builder = _find_builder(name, data_dir)
  info = builder.info
  if split not in info.splits:
    raise errors.ConfigError(
        f"data set {name} has no split {split!r}" + errors.suggest(
            split, info.splits))
  if "image" not in info.features:
    raise errors.ConfigError(
        f"data set {name} has no feature 'image'",
        f"choose an image data set; it has {', '.join(info.features)}")
  label = info.features["label"] if "label" in info.features else None
  fields = dict(
      name=f"{info.full_name}[{split}]",
      num_examples=info.splits[split].num_examples,
      classes=tuple(label.names) if label is not None else (),
      fingerprint=f"{info.full_name}:{split}:{info.dataset_size}")
  if info.file_format == tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
    return ArrayRecordSource(data_source=builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}), **fields)
  return StreamedSource(builder=builder, split=split, **fields)


def _find_builder(name: str, data_dir: str | None) -> Any:
  """A prepared TFDS builder, whatever file format it was prepared in."""
  root = epath.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
  try:
    # What was prepared on disk; this needs no builder code and no network.
    parsed, kwargs = tfds.core.naming.parse_builder_name_kwargs(
        name, data_dir=root)
    return tfds.core.read_only_builder.builder_from_files(
        parsed.name, **kwargs)
  except tfds.core.registered.DatasetNotFoundError as e:
    if re.split("[/:]", name)[0] not in tfds.list_builders():
      raise errors.ConfigError(
          f"data.name={name}: no such data set",
          "photo_crops, folder:PATH or a name of "
          "https://www.tensorflow.org/datasets/catalog") from e
    raise errors.DataError(
        f"data set {name} is not prepared in {root}",
        f"bash launch/prepare_tfds.sh {name} --data_dir={root}") from e


def _hold(source: Source, cache_dir: pathlib.Path, memory_mb: int) -> Source:
  """Decodes small images of one size into memory, through a cache on disk."""
  shape = _common_shape(source, range(min(source.num_examples, 64)))
  size = source.num_examples * np.prod(shape) if shape else np.inf
  if size > memory_mb * 2**20:
    return source
  key = hashlib.sha256(source.fingerprint.encode()).hexdigest()[:24]
  file = cache_dir / f"{key}.npz"
  if file.exists():
    with np.load(file, allow_pickle=False) as held:
      images, labels = held["images"], held["labels"]
  else:
    start = time.time()
    images = np.empty((source.num_examples, *shape), np.uint8)
    labels = np.empty(source.num_examples, np.int32)
    done = 0
    for image, label in _decoded(source, range(source.num_examples)):
      if image.shape != shape:
        return source
      images[done], labels[done] = image, label
      done += 1
    cache_dir.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{time.time_ns()}.tmp")
    with open(partial, "wb") as f:
      np.savez(f, images=images, labels=labels)
    partial.rename(file)
    print(f"{source.name}: decoded {done} images in "
          f"{time.time() - start:.1f} s, cached in {file}",
          file=sys.stderr, flush=True)
  return Source(
      name=source.name, num_examples=source.num_examples,
      classes=source.classes, fingerprint=source.fingerprint, images=images,
      labels=labels)


def _decoded(source: Source, ids: range):
  """Yields (image, label) of examples, decoded in parallel."""
  ds = source.lookup(tf.data.Dataset.range(ids.start, ids.stop))
  ds = ds.map(lambda data, label, i: (decode(data), label), **_PARALLEL)
  try:
    yield from ds.prefetch(64).as_numpy_iterator()
  except tf.errors.OpError as e:
    raise errors.DataError(
        f"{source.name}: an image can't be decoded: {e.message[:200]}",
        "remove the file") from e


def _common_shape(source: Source, ids: range) -> tuple[int, ...] | None:
  """The shape that all these images have, or None."""
  shapes = {image.shape for image, _ in _decoded(source, ids)}
  return shapes.pop() if len(shapes) == 1 else None

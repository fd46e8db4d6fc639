"""TFDS data sets in both file formats."""

import dataclasses
import re
from typing import Any

from etils import epath
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mtvit import errors
from mtvit.data import order
from mtvit.data import source as source_lib
from mtvit.run import paths

# How a stream is shuffled; see `StreamedSource.stream`.
_BLOCKS, _BUFFER = 8, 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArrayRecordSource(source_lib.Source):
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

    return ids.map(wrapped, **source_lib.PARALLEL)

  def read(self, i: int) -> bytes:
    return self.data_source[i]["image"]

  def describe(self, i: int) -> str:
    return f"record {i}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamedSource(source_lib.Source):
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
      self, seed: int, skip: int, part: int, parts: int
  ) -> tf.data.Dataset:
    """One host's records, epoch after epoch; see `Source.stream`.

    The order is no full shuffle: the host's part is cut into `_BLOCKS` blocks,
    which come in a random order in each epoch, and records are drawn from a
    buffer of `_BUFFER`. Up to so many are shuffled fully. In larger parts,
    images of neighbouring records meet in one batch more often than chance has
    it, and if the records are sorted by class, so are the batches, roughly. As
    ArrayRecord a set has neither.
    """
    sizes = lambda splits: [
        self.builder.info.splits[split].num_examples for split in splits]
    split_of = tfds.even_splits(self.split, parts)
    blocks = min(_BLOCKS, sizes([split_of[part]])[0])
    mine = tfds.even_splits(split_of[part], blocks)
    counts = sizes(mine)
    # Ids count from the start of the split, wherever this host's part begins.
    starts = np.cumsum([sum(sizes(split_of[:part])), *counts])
    records = [self._read(block).enumerate(start)
               for block, start in zip(mine, starts)]
    counts = tf.constant(counts, tf.int64)                  # [blocks]

    def epoch(e):
      drawn = order.epoch_seed(seed, e)
      which = tf.data.Dataset.from_tensor_slices(
          order.permutation(drawn, blocks)).flat_map(
              lambda i: tf.data.Dataset.from_tensors(i).repeat(counts[i]))
      ordered = tf.data.Dataset.choose_from_datasets(
          records, which, stop_on_empty_dataset=False)
      return ordered.shuffle(
          _BUFFER, seed=drawn[0], reshuffle_each_iteration=False)

    ds = tf.data.Dataset.range(2**62).flat_map(epoch).skip(skip)
    return ds.map(lambda i, record: (*record, i))


def open_source(request: source_lib.Request) -> source_lib.Source:
  """Opens a split of a prepared set; see `datasets.open_source`."""
  name = request.path
  return of_builder(
      _find_builder(name, request.data_dir or None), name, request.split)


def of_builder(
    builder: tfds.core.DatasetBuilder, name: str, split: str
) -> source_lib.Source:
  """A split of a set whose files are there.

  Args:
    builder: of the set.
    name: for messages.
    split: of the set.

  Raises:
    ConfigError: there is no such split, or there are no images.
  """
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
  classes = tuple(label.names) if label is not None else ()
  fields = dict(
      name=f"{info.full_name}[{split}]",
      num_examples=info.splits[split].num_examples,
      classes=classes,
      fingerprint=f"{info.full_name}:{split}:{info.dataset_size}:{classes}")
  if info.file_format == tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
    return ArrayRecordSource(data_source=builder.as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}), **fields)
  return StreamedSource(builder=builder, split=split, **fields)


def _find_builder(name: str, data_dir: str | None) -> Any:
  """A prepared TFDS builder, whatever file format it was prepared in."""
  root = epath.Path(paths.expand(
      data_dir or tfds.core.constants.DATA_DIR))
  unknown = errors.ConfigError(
      f"data.name={name}: no such data set",
      "photo_tiles, folder:PATH or a name of "
      "https://www.tensorflow.org/datasets/catalog")
  try:
    parsed, kwargs = tfds.core.naming.parse_builder_name_kwargs(
        name, data_dir=root)
  except ValueError as e:        # Such as "fodler:/images".
    raise unknown from e
  try:
    # What was prepared on disk; this needs no builder code and no network.
    return tfds.core.read_only_builder.builder_from_files(
        parsed.name, **kwargs)
  except tfds.core.registered.DatasetNotFoundError as e:
    if re.split("[/:]", name)[0] not in tfds.list_builders():
      raise unknown from e
    raise errors.DataError(
        f"data set {name} is not prepared in {root}",
        f"bash launch/prepare_tfds.sh {name} --data_dir={root}") from e

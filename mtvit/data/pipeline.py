"""From a source to batches: two views per image, augmented, then corrupted.

A training batch is a pure function of (seed, step). Example ids come from a
stateless shuffle of each epoch, so the input position is the step alone and the
global stream is the same on any number of hosts.
"""

import dataclasses
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mtvit.data import corruption
from mtvit.data import datasets
from mtvit.data import draw as draw_lib
from mtvit.data import image_ops
from mtvit.data import patch_ops
from mtvit.data import replacing

# Nothing mapped here branches on tensors, and converting it takes seconds.
_plain = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Spec:
  """What a training pipeline makes.

  Attributes:
    batch_size: images in the global batch.
    views: of each image.
    image_size: side of a view, pixels.
    patch_size: side of a patch, pixels.
    augment: the `augment` section.
    passes: forward pass -> its tasks, in claiming order; without any, the
      views stay uncorrupted.
    gray_input: the model sees views without colour.
    seed: of the run.
    part: which part of the batch this host reads (`sharding.share`).
    parts: how many there are; divides the batch.
  """
  batch_size: int
  views: int
  image_size: int
  patch_size: int
  augment: Any
  passes: Mapping[str, Sequence[Any]]
  gray_input: bool
  seed: int
  part: int = 0
  parts: int = 1

  def draw(self, step: Any) -> draw_lib.Draw:
    """Randomness for this host's views of a step."""
    rows = self.batch_size * self.views
    count = rows // self.parts
    return draw_lib.for_step(
        self.seed, step, rows, self.part * count, count)


def example_ids(spec: Spec, step: Any, num_examples: int) -> Any:
  """Ids of this host's images at a step: int64 [batch / hosts].

  Position i of the endless stream is place i mod n of a shuffle that depends on
  the seed and the epoch i // n.
  """
  local = spec.batch_size // spec.parts
  start = step * spec.batch_size + spec.part * local
  position = start + tf.range(local, dtype=tf.int64)
  epoch = position // num_examples
  key = draw_lib.name_hash("epoch")
  seeds = tf.stack(
      [tf.fill([local], tf.constant(spec.seed, tf.int64)), epoch,
       tf.fill([local], tf.constant(key, tf.int64))], axis=1)  # [local, 3]
  # The op itself: its wrapper tf.random.experimental.index_shuffle wrongly pads
  # a batch of seeds.
  return tf.raw_ops.RandomIndexShuffle(
      index=position % num_examples, seed=seeds,
      max_index=tf.constant(num_examples - 1, tf.int64), rounds=4)


def train_batches(
    source: datasets.Source, spec: Spec, start_step: int, num_steps: int
) -> tf.data.Dataset:
  """Batches of the steps start_step .. num_steps - 1, prefetched.

  An example that goes bad ends it with an error; `Batches` goes on.

  Each has `passes`, pass -> `image` and `hide_position`; `queries` and
  `answers` of all tasks (see `corruption.corrupt`); `index` and `label`, int32
  [b]; `replaced`, bool [b]. b counts this host's views; the two views of an
  image are adjacent. `index` is the example that is seen, also where it is in
  the place of a bad one (`replaced`).
  """
  steps = tf.data.Dataset.range(start_step, num_steps)
  local = spec.batch_size // spec.parts
  if source.images is not None:
    images = tf.constant(source.images)
    labels = tf.constant(source.labels)

    @_plain
    def crop_all(step):
      ids, replaced = _ids(source, spec, step)
      rows, columns = _crops(
          spec, step, source.images.shape[1], source.images.shape[2])
      x = tf.repeat(tf.gather(images, ids), spec.views, axis=0)
      x = tf.cast(x, tf.float32)
      return step, _finish(
          spec, step, x, rows, columns, ids, tf.gather(labels, ids), replaced)

    batches = steps.map(crop_all, num_parallel_calls=tf.data.AUTOTUNE)
  else:
    records = _records(source, spec, steps, start_step)
    chances = steps.map(_plain(
        lambda step: spec.draw(step).fold("crop").uniform("box", (4,))))
    chances = chances.unbatch().batch(spec.views, drop_remainder=True)

    @_plain
    def crop(record, u):
      views = image_ops.cut_views(
          source.decode(record[0], record[2]), u, spec.image_size,
          spec.augment.crop_scale)
      return views, record[1], record[2]

    examples = tf.data.Dataset.zip(records, chances).map(
        crop, num_parallel_calls=tf.data.AUTOTUNE)

    @_plain
    def finish(step, batch):
      views, label, ids = batch
      x = tf.cast(tf.reshape(views, [-1, *views.shape[2:]]), tf.float32)
      identity = tf.eye(spec.image_size, batch_shape=[local * spec.views])
      _, replaced = _ids(source, spec, step)    # None of a stream.
      return step, _finish(
          spec, step, x, identity, identity, ids, label, replaced)

    batches = tf.data.Dataset.zip(
        steps, examples.batch(local, drop_remainder=True)
    ).map(finish, num_parallel_calls=tf.data.AUTOTUNE)
  return batches.map(_plain(lambda step, batch: batch)).prefetch(2)


class Batches:
  """`train_batches` in numpy, with others in the place of bad examples.

  Attributes:
    element_spec: TensorSpecs of a batch.
  """

  def __init__(
      self, source: datasets.Source, spec: Spec, start_step: int,
      num_steps: int
  ):
    self._source, self._spec = source, spec
    self._start, self._stop = start_step, num_steps
    self._known = len(source.bad)
    self._first = train_batches(source, spec, start_step, num_steps)
    self.element_spec = self._first.element_spec

  def __iter__(self) -> Iterator[dict[str, Any]]:
    return self.since(self._start)

  def since(self, step: int) -> Iterator[dict[str, Any]]:
    """The batches from a step on; DataError if too many examples are bad."""
    return replacing.elements(
        self._source, lambda done: self._make(step + done),
        lambda done: example_ids(
            self._spec, tf.constant(step + done, tf.int64),
            self._source.num_examples))

  def _make(self, step: int) -> tf.data.Dataset:
    if step == self._start and self._known == len(self._source.bad):
      return self._first        # Tracing takes seconds.
    return train_batches(self._source, self._spec, step, self._stop)


def _ids(source: datasets.Source, spec: Spec, step: Any) -> tuple[Any, Any]:
  """Ids to read at a step, and which replace a bad one: [batch / hosts]."""
  return replacing.replace(
      source, example_ids(spec, step, source.num_examples))


def _records(source, spec, steps, start_step):
  """This host's (encoded image, label, id), one by one, from a step on."""
  if source.kind == "indexed":
    return source.lookup(steps.map(_plain(
        lambda step: _ids(source, spec, step)[0])).unbatch())
  local = spec.batch_size // spec.parts
  return source.stream(
      spec.seed, start_step * local, spec.part, spec.parts)


def _crops(spec: Spec, step: Any, height: int, width: int) -> tuple[Any, Any]:
  """Row and column matrices of random resized crops of in-memory images."""
  u = spec.draw(step).fold("crop").uniform("box", (4,))
  top, left, h, w = image_ops.crop_boxes(
      u, height, width, spec.augment.crop_scale)
  return (image_ops.crop_matrices(top, h, height, spec.image_size),
          image_ops.crop_matrices(left, w, width, spec.image_size))


def _finish(spec, step, x, rows, columns, ids, label, replaced):
  """Flip, blur, colour and corrupt: float32 [b, h, w, 3] -> the batch."""
  draw = spec.draw(step)
  augment = spec.augment
  size = spec.image_size
  chance = draw.fold("augment").uniform("chance", (5,))     # [b, 5]
  hits = lambda column, p: chance[:, column] < _by_view(p, spec)
  columns = image_ops.flip_matrices(columns, hits(0, augment.flip))
  if np.any(augment.blur):
    sigma = draw.fold("augment").uniform("sigma", (), 0.1, 2.0)
    blur = image_ops.blur_matrices(sigma, hits(3, augment.blur), size)
    rows, columns = tf.matmul(blur, rows), tf.matmul(blur, columns)
  x = image_ops.resample(x, rows, columns)                  # [b, s, s, 3]
  gray = hits(2, augment.gray)
  matrix = image_ops.color_matrices(
      jitter=hits(1, augment.jitter), gray=gray,
      amounts=draw.fold("augment").uniform("amounts", (4,), -1, 1),
      strength=augment.jitter_strength, mean=tf.reduce_mean(x, axis=(1, 2)))
  x = image_ops.apply_color(x, matrix)
  if np.any(augment.solarize):
    x = image_ops.solarize(
        tf.clip_by_value(x, 0, 255), hits(4, augment.solarize))
  x = tf.ensure_shape(image_ops.to_uint8(x), [draw.count, size, size, 3])
  repeat = lambda v: tf.repeat(tf.cast(v, tf.int32), spec.views)
  batch = {"index": repeat(ids), "label": repeat(label),
           "replaced": tf.repeat(replaced, spec.views)}
  if not spec.passes:
    inputs = patch_ops.luminance(x) if spec.gray_input else x
    return batch | {"image": x, "input": inputs, "gray_view": gray}
  batch |= {"passes": {}, "queries": {}, "answers": {}}
  for name, tasks in spec.passes.items():
    result = corruption.corrupt(
        x, gray, batch["label"], tasks, spec.patch_size, draw, spec.gray_input)
    batch["passes"][name] = {
        key: result[key] for key in ("image", "hide_position")}
    batch["queries"] |= result["queries"]
    batch["answers"] |= result["answers"]
  return batch


def _by_view(p: Any, spec: Spec) -> Any:
  """A probability, or one for each view of an image, as float32 [b]."""
  p = tf.broadcast_to(tf.constant(p, tf.float32), [spec.views])
  return tf.tile(p, [spec.batch_size // spec.parts])


def eval_batches(
    source: datasets.Source, image_size: int, batch_size: int,
    limit: int | None = None, gray_input: bool = False,
    ids: np.ndarray | None = None
) -> Iterator[dict[str, np.ndarray]]:
  """Clean images in order: resized to fit, cut at the centre, no corruption.

  Args:
    source: where from.
    image_size: side, pixels.
    batch_size: rows of each batch; the last is filled up with zeros.
    limit: take so many images, evenly spaced; None takes all.
    gray_input: the run's own input transform: views lose their colour.
    ids: take these, ascending, in the place of `limit`.

  Yields:
    `image` uint8 [batch_size, s, s, 3], `label` int32 and `valid` bool
    [batch_size].
  """
  ids = eval_ids(source, limit) if ids is None else np.asarray(ids, np.int64)
  make = lambda done: _eval_dataset(
      source, ids[done * batch_size:], image_size, batch_size, gray_input)
  of_batch = lambda done: ids[done * batch_size:(done + 1) * batch_size]
  for image, label in replacing.elements(source, make, of_batch):
    fill = [(0, batch_size - len(label))]
    yield {"image": np.pad(image, fill + [(0, 0)] * 3),
           "label": np.pad(label.astype(np.int32), fill),
           "valid": np.arange(batch_size) < len(label)}


def eval_ids(source: datasets.Source, limit: int | None) -> np.ndarray:
  """The examples that `eval_batches` takes, ascending: int64 [n]."""
  n = source.num_examples
  limit = n if limit is None else min(limit, n)
  return np.arange(limit, dtype=np.int64) * n // max(limit, 1)


def _eval_dataset(
    source: datasets.Source, ids: np.ndarray, image_size: int,
    batch_size: int, gray_input: bool
) -> tf.data.Dataset:
  """(images, labels) in batches, of examples in the order of `ids`."""
  ids = tf.data.Dataset.from_tensor_slices(replacing.replace(source, ids)[0])
  gray = patch_ops.luminance if gray_input else lambda image: image
  centre = lambda image: gray(image_ops.centre(image, image_size))
  if source.images is not None:
    images, labels = tf.constant(source.images), tf.constant(source.labels)
    load = lambda i: (centre(images[i]), labels[i])
  else:
    load = lambda data, label, i: (centre(source.decode(data, i)), label)
    ids = source.lookup(ids)
  ds = ids.map(_plain(load), num_parallel_calls=tf.data.AUTOTUNE)
  return ds.batch(batch_size).prefetch(2)

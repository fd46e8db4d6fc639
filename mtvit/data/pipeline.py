"""From a source to batches: two views per image, augmented, then corrupted.

A training batch is a pure function of (seed, step). Example ids come from a
stateless shuffle of each epoch, so the input position is the step alone and the
global stream is the same on any number of hosts.
"""

import dataclasses
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from mtvit.data import augment as augment_lib
from mtvit.data import corruption
from mtvit.data import datasets
from mtvit.data import draws as draw_lib
from mtvit.data import image_ops
from mtvit.data import order
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
  passes: Mapping[str, Sequence[corruption.Corrupter]]
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
  """Ids of this host's images at a step: int64 [batch / hosts]; see `order`."""
  local = spec.batch_size // spec.parts
  start = step * spec.batch_size + spec.part * local
  return order.ids(spec.seed, start, local, num_examples)


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
  make = _held_views if source.images is not None else _decoded_views
  views = make(source, spec, steps, start_step)

  @_plain
  def finish(step, batch):
    return _corrupt(spec, step, *batch)

  return tf.data.Dataset.zip(steps, views).map(
      finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _held_views(source, spec, steps, start_step):
  """(views, their images' ids, labels and `replaced`) of each step's batch."""
  del start_step
  images = tf.constant(source.images)
  labels = tf.constant(source.labels)

  @_plain
  def views(step):
    ids, replaced = _ids(source, spec, step)
    x = tf.repeat(tf.gather(images, ids), spec.views, axis=0)
    x = augment_lib.batch(
        x, _drawn(spec, step), spec.augment, spec.image_size)
    return x, ids, tf.gather(labels, ids), replaced

  return steps.map(views, num_parallel_calls=tf.data.AUTOTUNE)


def _decoded_views(source, spec, steps, start_step):
  """The same of images that are decoded one by one."""
  local = spec.batch_size // spec.parts
  size = spec.image_size

  @_plain
  def rows(step):
    its = augment_lib.rows(_drawn(spec, step), spec.augment)
    return tf.nest.map_structure(
        lambda x: tf.reshape(x, [local, spec.views, *x.shape[1:]]), its)

  @_plain
  def views(record, its):
    encoded, label, i = record
    image = source.decode(encoded, i, augment_lib.shrink(its, size))
    full = source.full_size(encoded, i, image)
    return augment_lib.one(image, full, its, size), i, label

  @_plain
  def join(step, batch):
    x, ids, labels = batch
    _, replaced = _ids(source, spec, step)    # None of a stream.
    return tf.reshape(x, [-1, *x.shape[2:]]), ids, labels, replaced

  examples = tf.data.Dataset.zip(
      _records(source, spec, steps, start_step), steps.map(rows).unbatch()
  ).map(views, num_parallel_calls=tf.data.AUTOTUNE)
  return tf.data.Dataset.zip(
      steps, examples.batch(local, drop_remainder=True)).map(join)


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


def _drawn(spec: Spec, step: Any) -> augment_lib.Drawn:
  """What happens to this host's views of a step."""
  return augment_lib.draw_all(spec.augment, spec.draw(step), spec.views)


def _corrupt(spec, step, x, ids, label, replaced):
  """Views uint8 [b, s, s, 3] and their images' ids ... -> the batch."""
  draw, gray = spec.draw(step), _drawn(spec, step).gray
  size = spec.image_size
  x = tf.ensure_shape(x, [draw.count, size, size, 3])
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
  ds = tf.data.Dataset.from_tensor_slices(replacing.replace(source, ids)[0])
  gray = patch_ops.luminance if gray_input else lambda image: image
  centre = lambda image: gray(image_ops.centre(image, image_size))
  if source.images is not None:
    images, labels = tf.constant(source.images), tf.constant(source.labels)
    load: Callable[..., Any] = lambda i: (centre(images[i]), labels[i])
  else:
    load = lambda data, label, i: (centre(source.decode(data, i)), label)
    ds = source.lookup(ds)
  ds = ds.map(_plain(load), num_parallel_calls=tf.data.AUTOTUNE)
  return ds.batch(batch_size).prefetch(2)

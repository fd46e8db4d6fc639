"""The process of a contestant of `bench input`: a pipeline, or its ceiling."""

import pathlib
from typing import Any, Iterator, Mapping

from etils import epy

from mtvit import config as config_lib
from mtvit import tasks as tasks_lib
from mtvit.benchmarks import show
from mtvit.benchmarks.peers import protocol
from mtvit.run import entry
from mtvit.training import inputs
from mtvit.training import run_tasks

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import pipeline
  from mtvit.data import source as source_lib

ENDLESS = 10**9     # Steps; no benchmark lasts so long.


def start(settings: Mapping[str, Any]) -> tuple[dict, dict]:
  """Builds and warms up a pipeline; see `protocol.serve`.

  `settings`: config as plain values; kind, one of tasks, augment and ceiling;
  batches, of a repetition; warm, batches to begin with.
  """
  config = config_lib.parse(settings["config"])
  if settings["kind"] == "ceiling":
    batches = ceiling(config)
  else:
    batches = training(config, settings["kind"] == "tasks")
  for _ in range(settings["warm"]):
    next(batches)
  protocol.settle()
  return {"versions": show.versions()}, {"input": lambda: protocol.drawn(
      batches, config.batch_size, settings["batches"])}


def training(
    config: config_lib.Config, with_tasks: bool
) -> Iterator[dict[str, Any]]:
  """What a run is trained on, with or without patch corruption."""
  tasks = run_tasks.create(config) if with_tasks else ()
  train, _ = inputs.sources(config)
  tasks = tasks_lib.with_statistics(
      tasks, inputs.data_statistics(config, tasks, train, num_batches=1))
  return iter(pipeline.Batches(
      train, inputs.pipeline_spec(config, tasks), 0, ENDLESS))


def ceiling(config: config_lib.Config) -> "Iterator[tf.Tensor]":
  """Decodes files whole and cuts two views from each, and does no more.

  Boxes are anywhere, of the areas that the config asks for and the image's
  shape, and are resized without smoothing.

  Yields:
    uint8 [batch, views, s, s, 3].
  """
  size, augment = config.model.image_size, config.augment
  folder = pathlib.Path(config.data.name.removeprefix("folder:"))
  files = sorted(map(str, (folder / config.data.train_split).rglob("*.*")))

  def cut(image):
    side = tf.sqrt(tf.random.uniform([1], *augment.crop_scale))      # [1]
    sides = tf.cast(tf.shape(image)[:2], tf.float32)                 # [2]
    begin = tf.random.uniform([2]) * (1 - side) * sides              # [2]
    end = tf.cast(tf.math.ceil(begin + side * sides), tf.int32)      # [2]
    top, left = tf.unstack(tf.cast(begin, tf.int32))
    part = image[top:end[0], left:end[1]]                            # [h, w, 3]
    return tf.cast(tf.image.resize(part, [size, size]), tf.uint8)    # [s, s, 3]

  def views(file):
    image = source_lib.native(tf.io.read_file(file))
    return tf.stack([cut(image) for _ in range(config.views)])  # [v, s, s, 3]

  return iter(tf.data.Dataset.from_tensor_slices(files).repeat().map(
      views, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False
  ).batch(config.batch_size).prefetch(2))


if __name__ == "__main__":
  entry.run(lambda: protocol.serve(start))

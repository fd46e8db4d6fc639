"""What a run is trained on: its sources, and the batches made of them."""

import dataclasses
from typing import Any, Callable, Iterator, Mapping, Sequence

from etils import epy
import jax
import numpy as np

from mtvit import config as config_lib
from mtvit.tasks import base
from mtvit.training import run_tasks
from mtvit.training import sharding

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline
  from mtvit.data import source as source_lib

# `data_statistics` learns from so many batches of so many images.
STATISTICS_BATCHES, STATISTICS_BATCH = 16, 64
# `sample` makes at least so many images, so that no host makes a slice's batch.
SAMPLE = 128


def sources(
    config: config_lib.Config, poll: Callable[[], None] = lambda: None,
    began: "source_lib.Began | None" = None
) -> tuple["datasets.Source", "datasets.Source"]:
  """The training and the test split.

  Args:
    config: of the run.
    poll: called regularly; may raise to stop.
    began: what the run goes on with; None takes what there is.

  Raises:
    ConfigError: no such data set, folder or split.
    DataError: not prepared, no images, or other classes in the two splits.
  """
  return datasets.open_splits(
      config.data, config.model.image_size // config.model.patch_size, poll,
      began)


def noise(
    config: config_lib.Config, num_images: int = STATISTICS_BATCH
) -> "datasets.Source":
  """Random images of the model's size, such as shapes can be learnt from."""
  rng, size = np.random.default_rng(0), config.model.image_size
  count = max(num_images, STATISTICS_BATCH)
  return datasets.Source(
      name="noise", num_examples=count, classes=("0",), fingerprint="",
      images=rng.integers(0, 256, (count, size, size, 3), np.uint8),
      labels=np.zeros(count, np.int32))


def pipeline_spec(
    config: config_lib.Config, tasks: Sequence[base.Task],
    share: sharding.Share | None = None
) -> "pipeline.Spec":
  """What the training pipeline makes: a share of each batch; all if None."""
  share = share or sharding.Share(0, 1)
  return pipeline.Spec(
      batch_size=config.batch_size, views=config.views,
      image_size=config.model.image_size,
      patch_size=config.model.patch_size, augment=config.augment,
      passes=run_tasks.passes(config, tasks) if tasks else {},
      gray_input=config.input == "gray", seed=config.seed,
      part=share.index, parts=share.count)


def global_batches(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", start: int, stop: int
) -> Iterator[dict[str, Any]]:
  """Global batches of a run's steps, in numpy, however many hosts there are."""
  return iter(pipeline.Batches(
      source, pipeline_spec(config, tasks), start, stop))


def sample(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", step: int = 0
) -> dict[str, Any]:
  """The first images of a step's training batch, in numpy: all, if not many."""
  images = next(
      (n for n in range(SAMPLE, config.batch_size, 2)
       if config.batch_size % n == 0), config.batch_size)
  spec = pipeline_spec(
      config, tasks, sharding.Share(0, config.batch_size // images))
  return next(iter(pipeline.Batches(source, spec, step, step + 1)))


def data_statistics(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", num_batches: int = STATISTICS_BATCHES,
    poll: Callable[[], None] = lambda: None
) -> dict[str, Any]:
  """What the tasks need to know of the training views, by task name.

  `poll` is called for each batch; it may raise.
  """
  for task in tasks:
    task.check_classes(source.classes)
  config = dataclasses.replace(config, batch_size=STATISTICS_BATCH)
  batches = []
  for batch in global_batches(config, (), source, 0, num_batches):
    poll()
    batches.append(batch)
  return {task.name: task.statistics_of(batches) for task in tasks}


def model_shapes(element_spec: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of what the model sees of two views, from a batch's TensorSpecs."""
  shapes = batch_shapes(element_spec, 2)
  return {key: shapes[key] for key in ("passes", "queries")}


def batch_shapes(element_spec: Mapping[str, Any], rows: int) -> Any:
  """Shapes and dtypes of a batch of so many views, from its TensorSpecs."""
  return jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(
          (rows, *s.shape[1:]), s.dtype.as_numpy_dtype), dict(element_spec))

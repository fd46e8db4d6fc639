"""What a train step costs, counted without data and without running it."""

import dataclasses

import jax
import numpy as np
from etils import epy

from mtvit import build
from mtvit import config as config_lib
from mtvit import optimizer
from mtvit import sharding
from mtvit import tasks as tasks_lib
from mtvit import train_state
from mtvit import train_step
from mtvit.models import pretrainer

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline


def noise(config: config_lib.Config) -> "datasets.Source":
  """Random images of the model's size, to learn shapes from."""
  rng, size = np.random.default_rng(0), config.model.image_size
  count = max(config.batch_size, build.STATISTICS_BATCH)
  return datasets.Source(
      name="noise", num_examples=count, classes=("0",), fingerprint="",
      images=rng.integers(0, 256, (count, size, size, 3), np.uint8),
      labels=np.zeros(count, np.int32))


def flops(config: config_lib.Config) -> float:
  """FLOPs of one train step."""
  config = dataclasses.replace(
      config, model=dataclasses.replace(
          config.model, unroll=0, remat="none"))
  source = noise(dataclasses.replace(config, batch_size=2))
  tasks = build.tasks(config)
  statistics = build.measure(config, tasks, source, num_batches=1)
  tasks = tasks_lib.with_statistics(tasks, statistics)
  spec = pipeline.train_batches(
      source, build.pipeline_spec(config, tasks), 0, 1).element_spec
  objective = train_step.Objective(
      pretrainer.Pretrainer(config.model, tasks), config.weighting)
  tx = optimizer.create(config.optimizer, config.batch_size, 1000)
  state = jax.eval_shape(train_state.initializer(
      objective.model, tx, build.input_shapes(spec), config.weighting),
      jax.random.key(0))
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  step = train_step.create(
      objective, tx, lambda step: 0.0, 1000, state, mesh)
  with jax.set_mesh(mesh):
    lowered = step.lower(
        state, build.batch_shapes(spec, config.views * config.batch_size))
  return lowered.cost_analysis()["flops"]

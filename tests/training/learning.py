"""A small world in which every task is soon learnt, and training in it.

Red grows downwards, green to the right, and blue tells the images apart; so
place, direction, colour and identity can all be read from a patch.
"""

import jax
import numpy as np

from mtvit.configs import quickstart
from mtvit import config as config_lib
from mtvit.data import datasets
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding
from tests.training import test_train_step


def ramps(count, seed, size=24):
  rng = np.random.default_rng(seed)
  row, column = np.mgrid[:size, :size] / (size - 1)
  blue = rng.uniform(0, 255, (count, 1, 1))
  images = np.stack(np.broadcast_arrays(
      30 + 200 * row, 30 + 200 * column, blue), -1)
  images = images + rng.normal(0, 3, images.shape)
  return datasets.Source(
      name="ramps", num_examples=count, classes=("0", "1"), fingerprint="",
      images=images.clip(0, 255).astype(np.uint8),
      labels=(blue.ravel() > 127).astype(np.int32))


def config(**changes):
  """Views without augmentation on a 6x6 grid; no task yet trains."""
  result = quickstart.get_config()
  result.model.image_size, result.model.variant = 24, "pico/4"
  result.model.unroll = 1
  result.batch_size = 32
  result.augment.update(
      crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)
  result.tasks.relative_position.update(
      num_pairs=2, position="keep", jitter=0.0, gray=0.0)
  for task in result.tasks.values():
    task.weight = 1.0
  result.optimizer.update(base_lr=6e-3, warmup=0.1, b2=0.99)
  result.tasks.jigsaw.num_pieces = 6
  result.tasks.colorize.num_patches = 6
  result.tasks.inpaint.num_patches = 6
  result.tasks.clustering.num_prototypes = 8
  result.knn.readout = "gap"
  result.update_from_flattened_dict(changes)
  return result


def train(raw, steps):
  """Trains on ramps; returns (config, objective, state, last metrics)."""
  parsed = config_lib.parse(raw)
  source = ramps(256, seed=0)
  mesh = test_train_step.one_device()
  statistics = inputs.data_statistics(
      parsed, run_tasks.create(parsed), source, num_batches=2)
  parts = assembly.create(parsed, mesh, source, statistics, total_steps=steps)
  with jax.set_mesh(mesh):
    state = parts.first_state()
    # Many steps: here the compiler's time is well spent.
    step = parts.step.lower(parts.shapes, parts.batch_shapes()).compile(
        compiler_options={"xla_backend_optimization_level": 1})
    for batch in parts.batches:
      state, metrics = step(state, sharding.global_batch(batch, mesh))
  return parsed, parts.objective, state, jax.device_get(metrics)

"""Every shipped config, at every size that it names."""

import dataclasses
import importlib
import math
import pathlib

import jax
import jax.numpy as jnp
import pytest

from mtvit import build
from mtvit import config as config_lib
from mtvit import optimizer
from mtvit import sharding
from mtvit import tasks as tasks_lib
from mtvit import train_state
from mtvit.models import pretrainer

ARGUMENTS = {
    "quickstart": [None],
    "cifar10": ["variant=nano/8", "variant=nano/4"],
    "imagenet": [f"variant={v}" for v in (
        "Ti/16", "S/16", "B/16", "L/16", "H/14", "g/14")],
}
CASES = [(name, arg) for name, args in ARGUMENTS.items() for arg in args]
STATISTICS = {"colorize": {
    t: {"mean": [0.0, 0.0], "deviation": [1.0, 1.0]}
    for t in ("mean", "pixel")}}


def load(name, arg):
  module = importlib.import_module(f"configs.{name}")
  return module.get_config(arg) if arg else module.get_config()


def test_every_config_file_is_here_and_short():
  files = pathlib.Path(__file__).parents[1].glob("configs/*.py")
  found = {f.stem: len(f.read_text().splitlines()) for f in files}
  assert set(found) == set(ARGUMENTS)
  assert max(found.values()) <= 110


@pytest.mark.parametrize("name, arg", CASES)
def test_state_is_sharded_on_purpose(name, arg):
  config = config_lib.parse(load(name, arg))
  config = dataclasses.replace(
      config, mesh=config_lib.Mesh(data=-1, fsdp=4, tensor=1))
  mesh = sharding.create_mesh(config.mesh)
  build.check_batch(config, mesh)
  tasks = tasks_lib.with_statistics(build.tasks(config), STATISTICS)
  model = pretrainer.Pretrainer(config.model, tasks)
  side, n = config.model.image_size, tasks[0].geometry.grid[0] ** 2
  ids = lambda *shape: jax.ShapeDtypeStruct((2, *shape), jnp.int32)
  inputs = {
      "image": jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8),
      "hide_position": jax.ShapeDtypeStruct((2, n), bool),
      "queries": {"colorize": {"ids": ids(4)},
                  "relative_position": {"ids": ids(1, 2)}}}
  tx = optimizer.create(config.optimizer, config.batch_size, 100)
  init = train_state.initializer(model, tx, inputs)
  state = jax.eval_shape(init, jax.random.key(0))
  shardings = sharding.state_sharding(state, mesh)
  leaves = zip(jax.tree.leaves(state), jax.tree.leaves(shardings))
  # What is not split over fsdp is small.
  whole = [x.shape for x, s in leaves if not any(s.spec)]
  assert sum(map(math.prod, whole)) < 0.1 * sum(
      math.prod(x.shape) for x in jax.tree.leaves(state))

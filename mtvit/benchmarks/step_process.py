"""The process of a contestant of `bench step` and `strategies`: a train step.

It trains on noise of the model's size, which the run's own pipeline has
augmented and corrupted before the clock starts.
"""

import time
from typing import Any, Mapping, NamedTuple

from etils import epy
import jax
import jax.numpy as jnp

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.benchmarks import profile
from mtvit.benchmarks import show
from mtvit.benchmarks.peers import protocol
from mtvit.models import pretrainer
from mtvit.run import entry
from mtvit.training import assembly
from mtvit.training import cost
from mtvit.training import optimizer
from mtvit.training import sharding
from mtvit.training import train_state
from mtvit.training import train_step

with epy.lazy_imports():
  from mtvit.data import pipeline

STEPS = 10**9         # Of the run; no benchmark lasts so long.
MATMUL = 2048         # Side of the matrices of `matmul`.


class Run(NamedTuple):
  """What a run has before its first step.

  Attributes:
    step: (state, batch) -> (state, metrics), jitted.
    state: the first.
    batches: an iterator over the batches, numpy.
  """
  step: Any
  state: Any
  batches: Any


def run(config: config_lib.Config, mesh: jax.sharding.Mesh) -> Run:
  """The same parts as in `pretrain`, on noise."""
  tasks, source = assembly.tasks(config), cost.noise(config)
  assembly.check_batch(config, mesh)
  tasks = tasks_lib.with_statistics(
      tasks, assembly.data_statistics(config, tasks, source, num_batches=1))
  batches = pipeline.Batches(
      source, assembly.pipeline_spec(config, tasks), 0, STEPS)
  model = pretrainer.Pretrainer(config.model, tasks)
  objective = train_step.Objective(
      model, config.weighting, config.optimizer.trainable, config.accumulate)
  tx = optimizer.create(config.optimizer, config.batch_size, STEPS)
  init = train_state.initializer(
      model, tx, assembly.input_shapes(batches.element_spec), config.weighting)
  step = train_step.create(
      objective, tx,
      optimizer.schedule(config.optimizer, config.batch_size, STEPS), STEPS,
      train_state.shapes(init, mesh), mesh)
  return Run(step, train_state.create(init, config.seed, mesh), iter(batches))


class Training:
  """A compiled train step with its state and one batch.

  Attributes:
    compiled: the step.
    compile_seconds: that it took.
  """

  def __init__(self, made: Run, mesh: jax.sharding.Mesh):
    self._state = made.state
    self._batch = jax.device_put(
        next(made.batches), sharding.batch_sharding(mesh))
    began = time.perf_counter()
    self.compiled = made.step.lower(self._state, self._batch).compile()
    self.compile_seconds = time.perf_counter() - began

  def steps(self, count: int) -> int:
    """Makes so many and waits for the last."""
    for _ in range(count):
      self._state, metrics = self.compiled(self._state, self._batch)
    jax.block_until_ready((self._state, metrics))
    return count

  def check(self) -> None:
    """Raises UserError if a step has changed nothing."""
    if skipped := int(self._state.skipped):
      raise errors.UserError(
          f"{skipped} steps had a loss or gradient that is not finite",
          "another config")


def start(settings: Mapping[str, Any]) -> tuple[dict, dict]:
  """Compiles and warms up a train step; see `protocol.serve`.

  `settings`: config, plain; steps, of a repetition; batches, of one of
  `input`.
  """
  config = config_lib.parse(settings["config"])
  mesh = sharding.create_mesh(config.mesh)
  with jax.set_mesh(mesh):
    made = run(config, mesh)
    training = Training(made, mesh)
    training.steps(2)
    training.check()
  protocol.settle()
  memory = training.compiled.memory_analysis()
  told = {
      "versions": show.versions(), "flops": cost.flops(config),
      "compile_seconds": training.compile_seconds,
      "memory_bytes": (memory.temp_size_in_bytes
                       + memory.argument_size_in_bytes)}
  warm_up = lambda: training.steps(2)
  return told, {
      "step": lambda: protocol.timed(
          lambda: training.steps(settings["steps"]), warm_up),
      "input": lambda: protocol.drawn(
          made.batches, config.batch_size, settings["batches"]),
      "matmul": matmul(),
      "profile": lambda: {"shares": profile.of_steps(
          training.compiled.as_text(),
          lambda: training.steps(settings["steps"]), warm_up)}}


def matmul() -> protocol.Repetition:
  """A repetition of large float32 products, counted in FLOPs."""
  keys = jax.random.split(jax.random.key(0))
  x, y = (jax.random.normal(key, (MATMUL, MATMUL)) for key in keys)
  product = jax.jit(jnp.matmul).lower(x, y).compile()

  def work(count=2):
    for _ in range(count):
      made = product(x, y)                    # [m, m]
    made.block_until_ready()
    return count * 2 * MATMUL**3
  return lambda: protocol.timed(work, first=lambda: work(1))


if __name__ == "__main__":
  entry.run(lambda: protocol.serve(start))

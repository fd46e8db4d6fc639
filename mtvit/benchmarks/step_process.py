"""The process of a contestant of `bench step` and `strategies`: a train step.

It trains on noise of the model's size, which the run's own pipeline has
augmented and corrupted before the clock starts.
"""

import time
from typing import Any, Mapping, NamedTuple

import jax
import jax.numpy as jnp

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import profile
from mtvit.benchmarks import show
from mtvit.benchmarks.peers import protocol
from mtvit.run import entry
from mtvit.training import assembly
from mtvit.training import cost
from mtvit.training import inputs
from mtvit.training import sharding

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
  parts = assembly.create(
      config, mesh, inputs.noise(config, config.batch_size), total_steps=STEPS)
  return Run(parts.step, parts.first_state(), iter(parts.batches))


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

  `settings`: config as plain values; steps, of a repetition; batches, of one of
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

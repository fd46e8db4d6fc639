"""The process of a contestant of `bench step` and `strategies`: a train step.

It trains on noise of the model's size, which the run's own pipeline has
augmented and corrupted before the clock starts; or on a saved batch, and then
it needs no TensorFlow. It runs on what JAX finds.
"""

import pathlib
import time
from typing import Any, Mapping

import jax
import jax.numpy as jnp

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import profile
from mtvit.benchmarks import saved_batches
from mtvit.benchmarks import show
from mtvit.benchmarks.peers import protocol
from mtvit.run import entry
from mtvit.training import assembly
from mtvit.training import cost
from mtvit.training import inputs
from mtvit.training import sharding

STEPS = 10**9         # Of the run; no benchmark lasts so long.
# Of `matmul` on a CPU and elsewhere: sides of the matrices, and products.
MATMUL = {True: (2048, 2), False: (8192, 20)}


def parts(
    config: config_lib.Config, mesh: jax.sharding.Mesh,
    batch: str | None = None
) -> assembly.Parts:
  """The same as in `pretrain`, on noise or on a file's batch."""
  if batch is not None:
    return saved_batches.parts(pathlib.Path(batch), config, mesh, STEPS)
  return assembly.create(
      config, mesh, inputs.noise(config, config.batch_size), total_steps=STEPS)


class Training:
  """A compiled train step with its state and one batch.

  Attributes:
    batches: an iterator over the batches, numpy.
    compiled: the step.
    compile_seconds: that it took.
  """

  def __init__(self, made: assembly.Parts):
    self.batches = iter(made.batches)
    self._state = made.first_state()
    self._batch = jax.device_put(
        next(self.batches), sharding.batch_sharding(made.mesh))
    step: Any = made.step
    began = time.perf_counter()
    self.compiled = step.lower(self._state, self._batch).compile()
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

  `settings`: config as plain values; batch, a file, if any; steps, of a
  repetition, or None for two on a CPU and two seconds elsewhere; batches, of
  one of `input`.
  """
  config = config_lib.parse(settings["config"])
  mesh = sharding.create_mesh(config.mesh)
  with jax.set_mesh(mesh):
    made = parts(config, mesh, settings.get("batch"))
    training = Training(made)
    training.steps(2)
    training.check()
  if settings.get("batch") is None:
    protocol.settle()                  # The pipeline makes more batches.
  warm_up = lambda: training.steps(2)
  steps = settings["steps"] or (
      2 if on_cpu() else protocol.enough(training.steps))
  told = {
      "versions": show.versions(), "flops": cost.flops_of(made),
      "compile_seconds": training.compile_seconds, "device": device(),
      "memory_bytes": program_bytes(training.compiled)}
  return told, {
      "step": lambda: protocol.timed(
          lambda: training.steps(steps), warm_up) | device_bytes(),
      "input": lambda: protocol.drawn(
          training.batches, config.batch_size, settings["batches"]),
      "matmul": matmul(jnp.float32 if on_cpu() else config.model.dtype),
      "profile": lambda: {"shares": profile.of_steps(
          training.compiled.as_text(), lambda: training.steps(steps),
          warm_up)}}


def on_cpu() -> bool:
  """Whether JAX has found nothing better."""
  return jax.default_backend() == "cpu"


def device() -> dict[str, Any]:
  """What JAX computes on."""
  first = jax.devices()[0]
  return {"platform": first.platform, "kind": first.device_kind,
          "count": jax.device_count()}


def program_bytes(compiled: jax.stages.Compiled) -> int:
  """What a device reserves for a compiled step, with what it starts from."""
  memory: Any = compiled.memory_analysis()
  return int(
      memory.temp_size_in_bytes + memory.argument_size_in_bytes
      + memory.output_size_in_bytes - memory.alias_size_in_bytes)


def device_bytes() -> dict[str, int]:
  """The most that a device has held so far, where JAX tells it."""
  found = [(x.memory_stats() or {}).get("peak_bytes_in_use", 0)
           for x in jax.local_devices()]
  return {"device_bytes": max(found)} if any(found) else {}


def matmul(dtype: Any) -> protocol.Repetition:
  """A repetition of large products of one device, counted in FLOPs.

  It keeps no memory, which would count as the step's.
  """
  side, products = MATMUL[on_cpu()]
  product = jax.jit(jnp.matmul)

  def repetition() -> dict[str, float]:
    keys = jax.random.split(jax.random.key(0))
    x, y = (jax.random.normal(key, (side, side), dtype) for key in keys)

    def work(count=products):
      for _ in range(count):
        made = product(x, y)                  # [m, m]
      made.block_until_ready()
      return count * 2 * side**3
    return protocol.timed(work, first=lambda: work(1))
  return repetition


if __name__ == "__main__":
  entry.run(lambda: protocol.serve(start))

"""The process that compares an accelerator with this machine's CPU.

Both compute the loss of every task and its gradient, on the same saved batch
and parameters. In float32, with products in full precision, they differ by the
order of sums. In bfloat16 each is compared with the CPU's float32; there the
accelerator may be twice as far off as the CPU is, and a rounding more, since a
sum may be right by chance.
"""

import dataclasses
import functools
import pathlib
from typing import Any, Callable, Mapping, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mtvit import config as config_lib
from mtvit.benchmarks import saved_batches
from mtvit.benchmarks import show
from mtvit.benchmarks import step_process
from mtvit.benchmarks.peers import protocol
from mtvit.run import entry
from mtvit.training import assembly
from mtvit.training import sharding

# How far a loss and a gradient may be off, relative to it or its norm; beyond
# `TIMES` what the CPU itself is off in that dtype.
BOUNDS = {"float32": (1e-4, 1e-3), "bfloat16": (2.0**-8, 2.0**-7)}
TIMES = 2.0
_NOISE = 0.02       # Added to parameters: some begin at 0, and hide others.


class Computed(NamedTuple):
  """On one device, in one dtype, on the host.

  Attributes:
    losses: task -> scalar.
    gradients: task -> of all parameters, flat: [p].
  """
  losses: dict[str, float]
  gradients: dict[str, np.ndarray]


def start(settings: Mapping[str, Any]) -> tuple[dict, dict]:
  """Reads the batch; see `protocol.serve`.

  `settings`: config as plain values; batch, a file.
  """
  config = config_lib.parse(settings["config"])
  devices = {"cpu": jax.devices("cpu")[0], "device": jax.devices()[0]}

  @functools.cache
  def on(device: jax.Device, dtype: str) -> Computed:
    return compute(
        with_dtype(config, dtype), pathlib.Path(settings["batch"]), device)

  computed = lambda place, dtype: on(devices[place], dtype)

  return {"versions": show.versions(), "device": step_process.device()}, {
      dtype: lambda dtype=dtype: {"tasks": compare(computed, dtype)}
      for dtype in BOUNDS}


def with_dtype(config: config_lib.Config, dtype: str) -> config_lib.Config:
  """A config that computes in it."""
  return dataclasses.replace(
      config, model=dataclasses.replace(config.model, dtype=dtype))


def compare(
    computed: Callable[[str, str], Computed], dtype: str
) -> dict[str, dict[str, Any]]:
  """Task -> how far the accelerator is off, how far it may be, and whether.

  Args:
    computed: where ("cpu" or "device") and in which dtype -> what.
    dtype: to compare in.
  """
  exact, found = computed("cpu", "float32"), computed("device", dtype)
  own = computed("cpu", dtype)
  rows = {}
  for name in exact.losses:
    loss, gradient = differences(found, exact, name)
    # In float32 the CPU is not off at all.
    near, far = differences(own, exact, name)
    bounds = BOUNDS[dtype][0] + TIMES * near, BOUNDS[dtype][1] + TIMES * far
    rows[name] = {
        "loss": loss, "loss_bound": bounds[0], "gradient": gradient,
        "gradient_bound": bounds[1], "value": exact.losses[name],
        # Not the other way round: what is not a number must fail.
        "agrees": bool(loss <= bounds[0] and gradient <= bounds[1])}
  return rows


def differences(
    one: Computed, other: Computed, task: str
) -> tuple[float, float]:
  """Of a loss, relative if it is above 1; of a gradient, by its norm."""
  loss = abs(one.losses[task] - other.losses[task]) / max(
      1.0, abs(other.losses[task]))
  norm = lambda x: float(np.linalg.norm(x.astype(np.float64)))
  gradient = norm(one.gradients[task] - other.gradients[task]) / max(
      norm(other.gradients[task]), 1e-6)
  return loss, gradient


def compute(
    config: config_lib.Config, batch: pathlib.Path, device: jax.Device
) -> Computed:
  """Every task's loss and gradient on one device."""
  mesh = sharding.create_mesh(config.mesh, [device])
  made = saved_batches.parts(batch, config, mesh, step_process.STEPS)
  state, batches = _inputs(made)
  with jax.set_mesh(mesh), jax.default_matmul_precision(
      "highest" if config.model.dtype == "float32" else "default"):
    losses, gradients = jax.device_get(
        jax.jit(lambda s, b: _each(made, s, b))(state, batches))
  names = [task.name for task in made.objective.tasks]
  flat = [np.concatenate([
      np.asarray(x[i], np.float32).ravel() for x in jax.tree.leaves(gradients)
  ]) for i in range(len(names))]                            # [p]
  return Computed(
      dict(zip(names, map(float, losses))), dict(zip(names, flat)))


def _inputs(made: assembly.Parts) -> tuple[Any, Any]:
  """State and batch: the same numbers, wherever they are to be."""
  local = dataclasses.replace(made, mesh=sharding.create_mesh(
      made.config.mesh, [jax.devices("cpu")[0]]))
  with jax.set_mesh(local.mesh):
    state = local.first_state()
  rng = np.random.default_rng(0)
  params = jax.tree.map(
      lambda x: np.asarray(x) + _NOISE * rng.standard_normal(
          x.shape, np.float32), state.params)
  state = dataclasses.replace(state, params=params)
  return (jax.device_put(state, sharding.state_sharding(state, made.mesh)),
          jax.device_put(next(iter(made.batches)),
                         sharding.batch_sharding(made.mesh)))


def _each(
    made: assembly.Parts, state: Any, batch: Any
) -> tuple[jax.Array, Any]:
  """Losses [t], and gradients with a leading t."""
  def losses(params):
    found, _ = made.objective.losses(params, state, batch)
    return jnp.stack([
        found[task.name] for task in made.objective.tasks])  # [t]
  values, backward = jax.vjp(losses, state.params)
  # One backward pass at a time, compiled once, as it is in a train step.
  return values, jax.lax.map(
      lambda one: backward(one)[0], jnp.eye(len(values)))


if __name__ == "__main__":
  entry.run(lambda: protocol.serve(start))

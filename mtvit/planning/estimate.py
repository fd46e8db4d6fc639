"""What a train step costs on a slice, by the compiler."""

import collections
import dataclasses
import math
import re
import time
from typing import Any

import jax
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.planning import chips
from mtvit.planning import compiler
from mtvit.planning import gpus
from mtvit.planning import plans
from mtvit.planning import totals
from mtvit.training import cost
from mtvit.training import sharding


def with_views(
    config: config_lib.Config, views_per_chip: int, num_chips: int
) -> config_lib.Config:
  """A config whose batch gives each chip so many views.

  Raises:
    ConfigError: they make no whole number of images, or less than two.
  """
  images, rest = divmod(views_per_chip * num_chips, config.views)
  if rest or images < 2:
    raise errors.ConfigError(
        f"--views_per_chip={views_per_chip} on {num_chips} chips are "
        f"{views_per_chip * num_chips / config.views:g} images of "
        f"{config.views} views", "a multiple of the views; two images or more")
  return dataclasses.replace(config, batch_size=images)


def estimate(
    config: config_lib.Config, topology: compiler.Topology, model_flops: float
) -> plans.Estimate:
  """Compiles a config's train step for a slice, or for GPUs of a machine.

  For GPUs the compiler tells the memory, but neither cycles nor time.

  Args:
    config: of the run, with its global batch.
    topology: the slice or the GPUs.
    model_flops: `cost.flops(config)`.

  Raises:
    ConfigError: the mesh or the batch does not fit the slice.
  """
  devices = compiler.devices(topology)
  mesh = sharding.create_mesh(config.mesh, devices)
  start = time.monotonic()
  step = cost.train_step_of(config, mesh)
  found: dict[str, Any] = dict(
      topology=topology.name, chips=len(devices), mesh=dict(mesh.shape),
      settings=settings(config),
      views=config.views * config.batch_size / len(devices),
      model_flops=model_flops / len(devices))
  memory = _memory(step, topology.chip, None)
  try:
    # What can't hold its state need not be compiled.
    if memory.arguments > memory.capacity:
      raise compiler.DoesNotFit(0.0)
    compiled = compiler.compiled(step, mesh)
  except compiler.DoesNotFit as e:
    needed = (None if e.temporaries is None
              else memory.arguments + e.temporaries)
    return plans.Estimate(
        **found, memory=dataclasses.replace(memory, total=needed or None),
        compile_seconds=time.monotonic() - start)
  memory = _memory(step, topology.chip, compiled.memory_analysis())
  text = compiled.as_text() or ""
  if isinstance(topology, gpus.Node):
    speed = dict(
        custom_calls=dict(collections.Counter(
            re.findall(r'custom_call_target="([^"]+)"', text))),
        compute=found["model_flops"] / topology.chip.peak,
        hbm_bytes=totals.of(text, len(devices)).hbm_bytes,
        limit="unknown" if memory.fits else "HBM capacity")
  else:
    speed = _speed(totals.of(text, len(devices)), topology,
                   config.batch_size, found["model_flops"])
  return plans.Estimate(
      **found, memory=memory, compile_seconds=time.monotonic() - start,
      **speed)


def _speed(
    total: totals.Totals, topology: chips.Slice, images: int, flops: float
) -> dict[str, Any]:
  """The fields of an `Estimate` that follow from the compiled step.

  Args:
    total: of a chip.
    topology: the slice.
    images: of the global batch.
    flops: of the model, for a chip.
  """
  passed = _time(total, topology)
  bounds = {"compute": passed.cores, "HBM bandwidth": passed.hbm,
            "interconnect": passed.interconnect}
  return dict(
      compiled_flops=total.flops, interconnect_bytes=total.collectives,
      cycles=total.cycles, unknown_loops=total.unknown_loops, time=passed,
      images_per_second=images / passed.step,
      mfu=flops / (passed.step * topology.chip.peak),
      limit=max(bounds, key=lambda name: bounds[name]))


def settings(config: config_lib.Config) -> dict[str, Any]:
  """What of a config decides about memory and time, beside mesh and batch."""
  return {
      "variant": config.model.variant, "batch_size": config.batch_size,
      "remat": config.model.remat, "unroll": config.model.unroll,
      "accumulate": config.accumulate,
      "dtype": config.model.dtype, "forward": config.forward,
      "tasks": [name for name, task in config.tasks.items()
                if task["mode"] == "train"]}


def _time(total: totals.Totals, topology: chips.Slice) -> plans.Time:
  """Seconds, and what bounds them."""
  chip, links = topology.chip, topology.ici_bandwidth
  sent = lambda kinds: sum(kinds.values()) / links if links else 0.0
  cores, hbm = total.cycles / chip.clock, total.hbm_bytes / chip.hbm_bandwidth
  waiting, hidden = sent(total.blocking), sent(total.overlapped)
  return plans.Time(
      cores=cores, compute=total.flops / chip.peak, hbm=hbm,
      interconnect=waiting + hidden, waiting=waiting,
      step=max(cores, hbm, hidden) + waiting)


def _memory(
    step: cost.Step, chip: chips.Chip | gpus.Gpu, found: Any
) -> plans.Memory:
  """Of a chip; `found` is the compiler's analysis, None if it doesn't fit."""
  state = step.state
  total = found and (
      found.argument_size_in_bytes + found.output_size_in_bytes
      - found.alias_size_in_bytes + found.temp_size_in_bytes
      + found.generated_code_size_in_bytes)
  return plans.Memory(
      parameters=_bytes(state.params), optimizer=_bytes(state.opt_state),
      teacher=_bytes(state.teacher),
      task_state=_bytes((state.task_state, state.weighting)),
      batch=_bytes(step.batch),
      activations=found and float(found.temp_size_in_bytes),
      total=found and float(total), capacity=chip.hbm_bytes,
      fits=found is not None and total <= chip.hbm_bytes)


def _bytes(tree: Any) -> float:
  """Of the part of a tree that one device has, without padding."""
  return float(sum(
      math.prod(x.sharding.shard_shape(x.shape)) * np.dtype(x.dtype).itemsize
      for x in jax.tree.leaves(tree)))

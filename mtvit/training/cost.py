"""The real train step from a config alone, and its FLOPs, without data."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax.extend import core as jax_core
import numpy as np
from etils import epy

from mtvit import config as config_lib
from mtvit import tasks as tasks_lib
from mtvit.models import pretrainer
from mtvit.training import assembly
from mtvit.training import optimizer
from mtvit.training import sharding
from mtvit.training import train_state
from mtvit.training import train_step

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline


class Step(NamedTuple):
  """A train step that can be traced, lowered and compiled.

  Attributes:
    function: (state, batch) -> (state, metrics), jitted.
    state: shapes, dtypes and shardings of a `TrainState`.
    batch: likewise, of a global batch.
  """
  function: Any
  state: Any
  batch: Any


def noise(config: config_lib.Config) -> "datasets.Source":
  """Random images of the model's size, to learn shapes from."""
  rng, size = np.random.default_rng(0), config.model.image_size
  count = max(config.batch_size, assembly.STATISTICS_BATCH)
  return datasets.Source(
      name="noise", num_examples=count, classes=("0",), fingerprint="",
      images=rng.integers(0, 256, (count, size, size, 3), np.uint8),
      labels=np.zeros(count, np.int32))


def train_step_of(config: config_lib.Config, mesh: jax.sharding.Mesh) -> Step:
  """The train step of a run.

  Args:
    config: of the run.
    mesh: its devices may be such that don't exist.

  Raises:
    ConfigError: the config contradicts itself, or does not fit the mesh.
  """
  tasks = assembly.tasks(config)
  assembly.check_batch(config, mesh)
  source = noise(dataclasses.replace(config, batch_size=2))
  statistics = assembly.data_statistics(config, tasks, source, num_batches=1)
  tasks = tasks_lib.with_statistics(tasks, statistics)
  spec = pipeline.train_batches(
      source, assembly.pipeline_spec(config, tasks), 0, 1).element_spec
  objective = train_step.Objective(
      pretrainer.Pretrainer(config.model, tasks), config.weighting,
      config.optimizer.trainable, config.accumulate)
  tx = optimizer.create(config.optimizer, config.batch_size, 1000)
  state = train_state.shapes(train_state.initializer(
      objective.model, tx, assembly.input_shapes(spec), config.weighting), mesh)
  place = sharding.batch_sharding(mesh)
  batch = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      assembly.batch_shapes(spec, config.views * config.batch_size))
  step = train_step.create(
      objective, tx, lambda step: 0.0, 1000, state, mesh)
  return Step(step, state, batch)


def flops(config: config_lib.Config) -> float:
  """FLOPs of one train step: of its matrix products, without recomputation.

  Two for each multiplication, as in "model FLOPs utilization" (Chowdhery et
  al. 2022, arXiv:2204.02311, appendix B); layers by their number, nothing
  twice that remat or accumulation computes twice (blocks of NT-Xent are: below
  2 % for Ti/16 on 512 chips, and less for larger models).
  """
  config = dataclasses.replace(
      config, accumulate=1,
      model=dataclasses.replace(config.model, remat="none"))
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  step = train_step_of(config, mesh)
  with jax.set_mesh(mesh):
    return _jaxpr_flops(step.function.trace(step.state, step.batch).jaxpr.jaxpr)


def _jaxpr_flops(jaxpr: jax_core.Jaxpr) -> float:
  """Of a traced function; a scan's body counts as often as it runs."""
  total = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      left = equation.invars[0].aval.shape
      total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(
          left[i] for i in contracted)
    inner = [_jaxpr_flops(x) for x in _jaxprs(equation.params)]
    if equation.primitive.name == "cond":
      total += max(inner)
    else:
      total += equation.params.get("length", 1) * sum(inner) if inner else 0
  return total


def _jaxprs(value: Any) -> list[jax_core.Jaxpr]:
  """Those among an equation's parameters."""
  if isinstance(value, jax_core.ClosedJaxpr):
    return [value.jaxpr]
  if isinstance(value, jax_core.Jaxpr):
    return [value]
  if isinstance(value, dict):
    value = tuple(value.values())
  return [x for v in value for x in _jaxprs(v)] if isinstance(
      value, (tuple, list)) else []

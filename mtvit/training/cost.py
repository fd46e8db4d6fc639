"""The real train step from a config alone, and its FLOPs, without data."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax.extend import core as jax_core
from jax.interpreters import partial_eval

from mtvit import config as config_lib
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import sharding


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


def train_step_of(config: config_lib.Config, mesh: jax.sharding.Mesh) -> Step:
  """The train step of a run.

  Args:
    config: of the run.
    mesh: its devices may be such that don't exist.

  Raises:
    ConfigError: the config contradicts itself, or does not fit the mesh.
  """
  parts = assembly.create(
      config, mesh, inputs.noise(config), total_steps=1000)
  return Step(parts.step, parts.shapes, parts.batch_shapes())


def flops(config: config_lib.Config) -> float:
  """FLOPs of one train step; see `flops_of`."""
  config = _plain(config)
  return flops_of(assembly.create(
      config, _one_axis(), inputs.noise(config), total_steps=1000))


def flops_of(parts: assembly.Parts) -> float:
  """FLOPs of one train step: of its matrix products, without recomputation.

  Two for each multiplication, as in "model FLOPs utilization" (Chowdhery et
  al. 2022, arXiv:2204.02311, appendix B); layers by their number, nothing
  twice that remat, attention or accumulation computes twice (blocks of NT-Xent
  are: below 2 % for Ti/16 on 512 chips, and less for larger models).
  """
  parts = dataclasses.replace(
      parts, config=_plain(parts.config), mesh=_one_axis())
  step: Any = parts.step
  with jax.set_mesh(parts.mesh):
    traced = step.trace(parts.shapes, parts.batch_shapes()).jaxpr.jaxpr
  # Without what is computed again and not used.
  used, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
  return _jaxpr_flops(used)


def _plain(config: config_lib.Config) -> config_lib.Config:
  """Without what computes things twice."""
  return dataclasses.replace(
      config, accumulate=1,
      model=dataclasses.replace(
          config.model, remat="none", attention="plain"))


def _one_axis() -> jax.sharding.Mesh:
  return sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))


def _jaxpr_flops(jaxpr: jax_core.Jaxpr) -> float:
  """Of a traced function; a scan's body counts as often as it runs."""
  total = 0.0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      left: Any = equation.invars[0].aval
      made: Any = equation.outvars[0].aval
      total += 2.0 * math.prod(made.shape) * math.prod(
          left.shape[i] for i in contracted)
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

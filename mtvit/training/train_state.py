"""Everything that a run must remember between steps."""

import dataclasses
from typing import Any, Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mtvit import config as config_lib
from mtvit.models import interface
from mtvit.models import pretrainer
from mtvit.training import sharding
from mtvit.training import weighting as weighting_lib


@flax.struct.dataclass
class TrainState:
  """The train state.

  Attributes:
    step: int32, steps done.
    params: nested dict of float32 parameters.
    opt_state: of the optimizer.
    rng: the run's key, for layers that draw.
    teacher: the momentum encoder's parameters, like `params`; empty if no task
      needs it.
    task_state: task name -> what the task carries, such as a queue.
    weighting: what the weighting of the losses carries.
    skipped: int32, steps so far that changed nothing, since their loss or
      gradient was not finite.
    skipped_in_a_row: int32, the last so many steps were skipped.
  """
  step: jax.Array
  params: interface.Params
  opt_state: interface.PyTree
  rng: jax.Array
  teacher: interface.Params
  task_state: interface.PyTree
  weighting: Any
  skipped: jax.Array
  skipped_in_a_row: jax.Array

  def started_from(self, params: interface.Params) -> "TrainState":
    """A first state with other parameters; the teacher starts as their copy."""
    return dataclasses.replace(
        self, params=params,
        teacher=jax.tree.map(jnp.copy, params) if self.teacher else {})


def initializer(
    model: pretrainer.Pretrainer, tx: optax.GradientTransformation,
    inputs: Any, weighting: config_lib.Weighting
) -> Callable[[jax.Array], TrainState]:
  """A function from a key to the first state.

  Args:
    model: a `Pretrainer`.
    tx: the optimizer.
    inputs: shapes and dtypes of what the model is applied to.
    weighting: the config's section.
  """
  def init(rng: jax.Array) -> TrainState:
    params_rng, run_rng = jax.random.split(rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    params = model.init(params_rng, zeros)["params"]
    params |= weighting_lib.init_params(weighting, model.tasks)
    tasks = [task for task in model.tasks if task.trains]
    needs_teacher = any(t.teacher_momentum is not None for t in tasks)
    states = {task.name: task.init_state() for task in tasks}
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=tx.init(params), rng=run_rng,
        teacher=jax.tree.map(jnp.copy, params) if needs_teacher else {},
        task_state={name: state for name, state in states.items() if state},
        weighting=weighting_lib.init_state(weighting, tasks),
        skipped=jnp.zeros((), jnp.int32),
        skipped_in_a_row=jnp.zeros((), jnp.int32))
  return init


def create(
    init: Callable[[jax.Array], TrainState], seed: int,
    mesh: jax.sharding.Mesh
) -> TrainState:
  """Makes the first state directly where its arrays belong."""
  places = jax.tree.map(lambda x: x.sharding, shapes(init, mesh))
  return jax.jit(init, out_shardings=places)(jax.random.key(seed))


def first_encoder(
    encoder: interface.Encoder, model: interface.EncoderConfig, seed: int
) -> interface.Params:
  """The encoder's part of the first state that `create` makes, numpy.

  Args:
    encoder: of the run.
    model: the config's section.
    seed: of the run.
  """
  params_rng, _ = jax.random.split(jax.random.key(seed))
  size = model.image_size
  found = jax.jit(pretrainer.EncoderAlone(encoder).init)(
      params_rng, np.zeros((1, size, size, 3), np.uint8),
      np.zeros((1, (size // model.patch_size)**2), bool))
  return jax.device_get(found["params"]["encoder"])


def shapes(
    init: Callable[[jax.Array], TrainState], mesh: jax.sharding.Mesh
) -> TrainState:
  """Shapes, dtypes and shardings of a state, to restore into."""
  state = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(
      lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      state, sharding.state_sharding(state, mesh))

"""Everything that a run must remember between steps."""

from typing import Any, Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax

from mtvit import sharding


@flax.struct.dataclass
class TrainState:
  """The train state.

  Attributes:
    step: int32, steps done.
    params: nested dict of float32 parameters.
    opt_state: of the optimizer.
    rng: the run's key; a step folds its number in.
  """
  step: jax.Array
  params: Any
  opt_state: Any
  rng: jax.Array


def initializer(
    model: Any, tx: optax.GradientTransformation, inputs: Any
) -> Callable[[jax.Array], TrainState]:
  """A function from a key to the first state.

  Args:
    model: a `Pretrainer`.
    tx: the optimizer.
    inputs: shapes and dtypes of what the model is applied to.
  """
  def init(rng: jax.Array) -> TrainState:
    params_rng, run_rng = jax.random.split(rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs)
    params = model.init(params_rng, zeros)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=tx.init(params), rng=run_rng)
  return init


def create(
    init: Callable[[jax.Array], TrainState], seed: int,
    mesh: jax.sharding.Mesh
) -> TrainState:
  """Makes the first state directly where its arrays belong."""
  rng = jax.random.key(seed)
  shardings = sharding.state_sharding(jax.eval_shape(init, rng), mesh)
  return jax.jit(init, out_shardings=shardings)(rng)


def abstract(state: TrainState) -> TrainState:
  """Shapes, dtypes and shardings of a state, to restore into."""
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state)

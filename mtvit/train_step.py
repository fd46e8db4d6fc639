"""The train step: one forward pass, the weighted losses, one update."""

from typing import Any, Callable, Mapping, Sequence

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import optax

from mtvit import sharding
from mtvit import train_state

Metrics = dict[str, jax.Array]


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
  """What the model may see of a batch: never the answers."""
  return {k: batch[k] for k in ("image", "hide_position", "queries")}


def total_loss(
    params: Any, batch: Mapping[str, Any], model: Any, tasks: Sequence[Any]
) -> tuple[jax.Array, Metrics]:
  """Sum of weight · loss / trivial loss over the tasks that train.

  Divided by its trivial value a loss is 1 for a model that knows nothing, so a
  weight means the same for every task.

  Args:
    params: of the model.
    batch: the global batch.
    model: a `Pretrainer`.
    tasks: built tasks.

  Returns:
    The scalar, and `<task>/<metric>` scalars.
  """
  features, predicted = model.apply({"params": params}, model_inputs(batch))
  total, metrics = jnp.zeros(()), {}
  for task in tasks:
    if not task.trains:
      continue
    answers = batch["answers"].get(task.name, {})
    loss, found = task.loss(predicted[task.name], answers)
    total += task.weight * loss / task.trivial_loss
    found = {"loss": loss} | found
    metrics |= {f"{task.name}/{key}": value for key, value in found.items()}
  for name, token in features.tokens.items():
    metrics[f"features/{name}_spread"] = spread(token)
  return total, metrics


def spread(features: jax.Array) -> jax.Array:
  """How far normalised features are from all being the same: 0 to 1.

  The root of their total variance, sqrt(1 - |mean|²); 0 is collapse, 1 is what
  uniform directions have.

  Args:
    features: [b, d].
  """
  x = features.astype(jnp.float32)
  x = x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
  return jnp.sqrt(jnp.maximum(1 - jnp.sum(jnp.square(x.mean(0))), 0.0))


def create(
    model: Any, tasks: Sequence[Any], tx: optax.GradientTransformation,
    schedule: optax.Schedule, state: Any, mesh: jax.sharding.Mesh
) -> Callable[[Any, Any], tuple[Any, Metrics]]:
  """The jitted, donated, sharded function (state, batch) -> (state, metrics).

  Args:
    model: a `Pretrainer`.
    tasks: built tasks.
    tx: the optimizer.
    schedule: learning rate by step, for the report.
    state: a state or its shapes, for the shardings.
    mesh: of the run.
  """
  def step(state: train_state.TrainState, batch: Mapping[str, Any]):
    (loss, metrics), grads = jax.value_and_grad(total_loss, has_aux=True)(
        state.params, batch, model, tasks)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics |= {
        "train/loss": loss,
        "train/grad_norm": optax.global_norm(grads),
        "train/learning_rate": jnp.asarray(schedule(state.step)),
    }
    return state.replace(
        step=state.step + 1, opt_state=opt_state,
        params=optax.apply_updates(state.params, updates)), metrics

  return jax.jit(
      step, donate_argnums=0,
      out_shardings=(
          sharding.state_sharding(state, mesh), NamedSharding(mesh, P())))

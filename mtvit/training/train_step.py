"""The train step: one forward pass, the weighted losses, one update.

A step whose loss or gradient is not finite changes nothing but its counters.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import optax

from mtvit import config as config_lib
from mtvit.models import blocks
from mtvit.models import chunks
from mtvit.models import pretrainer
from mtvit.training import optimizer
from mtvit.training import sharding
from mtvit.training import train_state
from mtvit.training import weighting as weighting_lib

if TYPE_CHECKING:
  from mtvit.tasks import base

Metrics = dict[str, jax.Array]
Batch = Mapping[str, Any]       # Of `pipeline.Batches`, on the devices.


def model_inputs(batch: Batch) -> dict[str, Any]:
  """What the model may see of a batch: never the answers."""
  return {k: batch[k] for k in ("passes", "queries")}


class Aux(NamedTuple):
  """What a loss comes with.

  Attributes:
    metrics: name -> scalar.
    task_state: the next, by task name.
    weighting: its next state.
  """
  metrics: Metrics
  task_state: dict[str, Any]
  weighting: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Objective:
  """What a run minimises.

  Attributes:
    model: a `Pretrainer`; its tasks are built.
    weighting: the config's section.
    trainable: see `config.Optimizer`.
    accumulate: see `config.Config`.
  """
  model: pretrainer.Pretrainer
  weighting: config_lib.Weighting
  trainable: str = ""
  accumulate: int = 1

  @property
  def tasks(self) -> "tuple[base.Task, ...]":
    """The tasks that train."""
    return tuple(task for task in self.model.tasks if task.trains)

  def losses(
      self, params: Any, state: train_state.TrainState, batch: Batch,
      train: bool = True
  ) -> tuple[Metrics, tuple[Metrics, dict[str, Any]]]:
    """Each task's loss over its trivial value.

    Args:
      params: of the model, to differentiate.
      state: whose teacher and task state are used; its parameters are not.
      batch: the global batch.
      train: see `interface.Encoder`.

    Returns:
      Task name -> scalar; the metrics; and the next task state.
    """
    inputs = model_inputs(batch)
    # Layers that drop paths draw anew in every step.
    rng = jax.random.fold_in(state.rng, state.step) if train else None
    tokens, predicted = self._apply(
        optimizer.trainable_part(params, self.trainable), inputs, rng)
    taught: dict[str, Any] = {}
    if state.teacher:
      _, taught = jax.lax.stop_gradient(self._apply(state.teacher, inputs))
    losses: Metrics = {}
    metrics: Metrics = {}
    next_state: dict[str, Any] = {}
    for task in self.tasks:
      answers = dict(batch["answers"].get(task.name, {}))
      if task.teacher_momentum is not None:
        answers["teacher"] = taught[task.name]
      if task.name in state.task_state:
        answers["state"] = state.task_state[task.name]
        next_state[task.name] = task.update_state(answers)
      loss, found = task.loss(predicted[task.name], answers)
      losses[task.name] = loss / task.trivial_loss
      found = {"loss": loss} | found
      if task.slot_bound is not None:
        found["slot_bound"] = jnp.float32(task.slot_bound)
      metrics |= {f"{task.name}/{key}": value for key, value in found.items()}
      if task.token:
        views = tokens[pretrainer.pass_of(task.name, tokens)]
        metrics[f"features/{task.token}_spread"] = spread(views[task.token])
    return losses, (metrics, next_state)

  def _apply(
      self, params: Any, inputs: dict[str, Any], rng: jax.Array | None = None
  ) -> tuple[dict[str, Any], dict[str, Any]]:
    """Special tokens by pass, predictions by task; trains if it may draw."""
    params = blocks.in_dtype(params, self.model.config.dtype)

    def apply(inputs, piece):
      rngs = {}
      if rng is not None:
        rngs["dropout"] = jax.random.fold_in(rng, piece)
      features, predicted = self.model.apply(
          {"params": params}, inputs, train=rng is not None, rngs=rngs)
      return {name: f.tokens for name, f in features.items()}, predicted
    return chunks.in_chunks(apply, inputs, self.accumulate)

  def total(
      self, params: Any, state: train_state.TrainState, batch: Batch
  ) -> tuple[jax.Array, Aux]:
    """The weighted sum of the losses, and what comes with it."""
    losses, (metrics, task_state) = self.losses(params, state, batch)
    total = weighting_lib.total(
        self.weighting, self.tasks, losses, params, state.weighting)
    if self.weighting.kind != "fixed":
      factors = weighting_lib.weights(
          self.weighting, self.tasks, params, state.weighting)
      metrics |= {f"{name}/weight": x for name, x in factors.items()}
    history = weighting_lib.update_state(
        self.weighting, state.weighting, losses)
    return total, Aux(metrics, task_state, history)

  def teacher_momentum(
      self, step: jax.Array, total_steps: int
  ) -> jax.Array | float:
    """Of the momentum encoder: rises from the tasks' value to 1 (BYOL, B.3)."""
    start = max(task.teacher_momentum or 0.0 for task in self.tasks)
    progress = jnp.minimum(step / total_steps, 1.0)
    return 1 - (1 - start) * (jnp.cos(math.pi * progress) + 1) / 2


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
    objective: Objective, tx: optax.GradientTransformation,
    schedule: optax.Schedule, total_steps: int, state: Any,
    mesh: jax.sharding.Mesh
) -> Callable[
    [train_state.TrainState, Batch], tuple[train_state.TrainState, Metrics]]:
  """The jitted, donated, sharded function (state, batch) -> (state, metrics).

  Args:
    objective: what to minimise.
    tx: the optimizer.
    schedule: learning rate by step, for the report.
    total_steps: of the run, for the teacher's momentum.
    state: a state or its shapes, for the shardings.
    mesh: of the run.
  """
  def step(
      state: train_state.TrainState, batch: Batch
  ) -> tuple[train_state.TrainState, Metrics]:
    (loss, aux), grads = jax.value_and_grad(
        objective.total, has_aux=True)(state.params, state, batch)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    grad_norm = optax.global_norm(grads)
    # With a finite gradient, clipped, AdamW's update is finite too; looking at
    # the new parameters would read them all once more.
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    skipped = state.skipped + ~finite
    in_a_row = jnp.where(finite, 0, state.skipped_in_a_row + 1)
    metrics = aux.metrics | {
        "train/loss": loss,
        "train/grad_norm": grad_norm,
        # The optimizer counts the steps that it made.
        "train/learning_rate": jnp.asarray(
            schedule(state.step - state.skipped)),
        "train/finite": finite,
        "train/skipped": skipped,
        "train/skipped_in_a_row": in_a_row,
        "data/replaced": jnp.mean(batch["replaced"]),
    }
    teacher = state.teacher
    if teacher:
      momentum = objective.teacher_momentum(state.step, total_steps)
      metrics["train/teacher_momentum"] = momentum
      teacher = optax.incremental_update(params, teacher, 1 - momentum)
    made = dict(
        opt_state=opt_state, params=params, teacher=teacher,
        task_state=aux.task_state, weighting=aux.weighting)
    kept = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), made,
        {name: getattr(state, name) for name in made})
    return dataclasses.replace(
        state, step=state.step + 1, skipped=skipped, skipped_in_a_row=in_a_row,
        **kept), metrics

  return jax.jit(
      step, donate_argnums=0,
      out_shardings=(
          sharding.state_sharding(state, mesh), NamedSharding(mesh, P())))

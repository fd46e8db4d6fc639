"""How the tasks' losses add up to one.

Every loss comes divided by its trivial value, so 1 is a model that knows
nothing whatever the task is.

fixed: the sum of weight · L.
uncertainty: the sum of weight · (e^-s L + s / 2) with a learned s for each
  task (Kendall et al. 2018, arXiv:1705.07115). The optimizer keeps s in
  [-2, 4], since the weight of a loss that goes to 0 would explode. s is not
  decayed.
dwa: weight · K softmax(r / T) · L with r the ratio of a task's mean losses in
  the last two windows, so that a task that stopped falling counts more
  (dynamic weight average, Liu et al. 2019, arXiv:1803.10704, eq. 7).
"""

from typing import TYPE_CHECKING, Any, Mapping, Sequence

import jax
import jax.numpy as jnp

from mtvit import config as config_lib

if TYPE_CHECKING:
  from mtvit.tasks import base

LOG_VARIANCE = "log_variance"
LOG_VARIANCE_RANGE = (-2.0, 4.0)
Scalars = dict[str, jax.Array]


def init_params(
    config: config_lib.Weighting, tasks: "Sequence[base.Task]"
) -> dict[str, Any]:
  """What the weighting adds to the parameters: s of each task, or nothing."""
  if config.kind != "uncertainty":
    return {}
  return {LOG_VARIANCE: {t.name: jnp.zeros(()) for t in tasks if t.trains}}


def init_state(
    config: config_lib.Weighting, tasks: "Sequence[base.Task]"
) -> dict[str, Any]:
  """What the weighting carries from step to step: loss history, or nothing."""
  if config.kind != "dwa":
    return {}
  ones = {t.name: jnp.ones(()) for t in tasks if t.trains}
  # Copies, since the step donates each buffer once.
  copy = lambda: jax.tree.map(jnp.copy, ones)
  return {"count": jnp.zeros((), jnp.int32),
          "sum": jax.tree.map(jnp.zeros_like, ones),
          "last": copy(), "before": copy()}


def weights(
    config: config_lib.Weighting, tasks: "Sequence[base.Task]",
    params: Mapping[str, Any], state: Mapping[str, Any]
) -> Scalars:
  """The factor of each training task's loss, by task name."""
  base = {t.name: jnp.asarray(t.weight, jnp.float32)
          for t in tasks if t.trains}
  if config.kind == "uncertainty":
    return {name: weight * jnp.exp(-params[LOG_VARIANCE][name])
            for name, weight in base.items()}
  if config.kind == "dwa":
    ratios = jnp.stack([
        state["last"][name] / jnp.maximum(state["before"][name], 1e-8)
        for name in base])                                  # [K]
    factors = len(base) * jax.nn.softmax(ratios / config.dwa_temperature)
    return {name: weight * factor
            for (name, weight), factor in zip(base.items(), factors)}
  return base


def total(
    config: config_lib.Weighting, tasks: "Sequence[base.Task]", losses: Scalars,
    params: Mapping[str, Any], state: Mapping[str, Any]
) -> jax.Array:
  """The scalar to minimise.

  Args:
    config: the `weighting` section.
    tasks: built tasks.
    losses: task name -> loss over its trivial value.
    params: with `log_variance` for uncertainty.
    state: of `init_state`.
  """
  factors = weights(config, tasks, params, state)
  result: Any = sum(factors[name] * loss for name, loss in losses.items())
  if config.kind == "uncertainty":
    result += sum(t.weight * params[LOG_VARIANCE][t.name] / 2
                  for t in tasks if t.trains)
  return result


def update_state(
    config: config_lib.Weighting, state: Mapping[str, Any], losses: Scalars
) -> dict[str, Any]:
  """The loss history after a step.

  The windows before the first count as 1, what a loss starts from.
  """
  if config.kind != "dwa":
    return dict(state)
  count = state["count"] + 1
  sums = jax.tree.map(jnp.add, state["sum"], losses)
  full = count == config.dwa_window
  pick = lambda new, old: jax.tree.map(
      lambda a, b: jnp.where(full, a, b), new, old)
  mean = jax.tree.map(lambda x: x / config.dwa_window, sums)
  return {
      "count": jnp.where(full, 0, count),
      "sum": pick(jax.tree.map(jnp.zeros_like, sums), sums),
      "last": pick(mean, state["last"]),
      "before": pick(state["last"], state["before"])}

"""Weighting of losses, against the papers' formulas."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtvit import config as config_lib
from mtvit.training import optimizer
from mtvit.training import weighting


def task(name, weight=1.0, trains=True):
  return types.SimpleNamespace(name=name, weight=weight, trains=trains)


TASKS = (task("a"), task("b", 2.0), task("c", 5.0, trains=False))
LOSSES = {"a": jnp.float32(0.5), "b": jnp.float32(0.25)}


def section(kind, window=2, temperature=2.0):
  return config_lib.Weighting(
      kind=kind, dwa_window=window, dwa_temperature=temperature)


def test_fixed():
  config = section("fixed")
  assert weighting.init_params(config, TASKS) == {}
  assert weighting.init_state(config, TASKS) == {}
  total = weighting.total(config, TASKS, LOSSES, {}, {})
  assert float(total) == pytest.approx(0.5 + 2 * 0.25)


def test_uncertainty_by_hand():
  config = section("uncertainty")
  params = weighting.init_params(config, TASKS)
  assert set(params["log_variance"]) == {"a", "b"}
  params = {"log_variance": {"a": jnp.float32(1.0), "b": jnp.float32(-0.5)}}
  total = jax.jit(lambda p: weighting.total(config, TASKS, LOSSES, p, {}))
  want = (np.exp(-1) * 0.5 + 0.5) + 2 * (np.exp(0.5) * 0.25 - 0.25)
  assert float(total(params)) == pytest.approx(want, rel=1e-6)
  grads = jax.grad(total)(params)["log_variance"]
  assert float(grads["a"]) == pytest.approx(-np.exp(-1) * 0.5 + 0.5, rel=1e-5)


def optimizer_section(**changes):
  fields = dict(
      base_lr=0.5, warmup=0.0, weight_decay=0.5, decay="kernel$", b1=0.9,
      b2=0.99, clip_norm=1.0, layer_decay=1.0, trainable="")
  return config_lib.Optimizer(**(fields | changes))


def test_uncertainty_is_clamped_comes_back_and_is_not_decayed():
  config = section("uncertainty")
  tx = optimizer.create(optimizer_section(), 256, 10_000)
  params = weighting.init_params(config, TASKS) | {
      "head": {"kernel": jnp.ones((2, 2))}}
  state = tx.init(params)

  @jax.jit
  def step(params, state, losses):
    grads = jax.grad(
        lambda p: weighting.total(config, TASKS, losses, p, {}))(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  # A loss of 0 would drive s to minus infinity, a huge one far up.
  for _ in range(60):
    params, state = step(
        params, state, {"a": jnp.float32(0), "b": jnp.float32(1e4)})
    found = params["log_variance"]
    assert -2 <= float(found["a"]) <= 4 and -2 <= float(found["b"]) <= 4
  assert float(found["a"]) == -2 and float(found["b"]) == 4
  assert float(params["head"]["kernel"][0, 0]) < 1          # Decayed.
  # At the optimum of L = 1: e^-s = 1/2.
  for _ in range(2000):
    params, state = step(
        params, state, {"a": jnp.float32(1), "b": jnp.float32(1)})
  assert float(params["log_variance"]["a"]) == pytest.approx(
      np.log(2), abs=0.2)


def test_dwa_equals_the_paper():
  config = section("dwa", window=2, temperature=2.0)
  state = weighting.init_state(config, TASKS)
  history = {"a": [1.0, 0.8, 0.4, 0.2, 0.2, 0.2], "b": [1.0] * 6}
  factors = lambda: weighting.weights(config, TASKS, {}, state)
  # Until a window is full both count alike, times their fixed weights.
  assert float(factors()["a"]) == pytest.approx(1)
  assert float(factors()["b"]) == pytest.approx(2)
  update = jax.jit(lambda s, x: weighting.update_state(config, s, x))
  for i in range(6):
    state = update(state, {k: jnp.float32(x[i]) for k, x in history.items()})
  # Windows of a: 0.9, 0.3, 0.2. The last ratio is 2/3; b's is 1.
  exps = np.exp(np.array([2 / 3, 1.0]) / 2)
  want = 2 * exps / exps.sum()
  assert float(factors()["a"]) == pytest.approx(want[0], rel=1e-5)
  assert float(factors()["b"]) == pytest.approx(2 * want[1], rel=1e-5)
  total = weighting.total(config, TASKS, LOSSES, {}, state)
  assert float(total) == pytest.approx(
      want[0] * 0.5 + 2 * want[1] * 0.25, rel=1e-5)


@pytest.mark.parametrize("changes", [
    dict(kind="gradnorm"), dict(kind="dwa", window=0),
    dict(kind="dwa", temperature=0.0)])
def test_bad_sections_are_refused(changes):
  with pytest.raises(ValueError):
    section(**changes)

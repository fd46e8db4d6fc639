"""The step: equal on any mesh, one forward pass, at the cost of one task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from mtvit import build
from mtvit import config as config_lib
from mtvit import optimizer
from mtvit import sharding
from mtvit import tasks as tasks_lib
from mtvit import train_state
from mtvit import train_step
from mtvit.models import pretrainer

STATISTICS = {"colorize": {
    t: {"mean": [1.0, 2.0], "deviation": [15.0, 20.0]}
    for t in ("mean", "pixel")}}


@pytest.fixture
def parts(parsed):
  """(config, tasks, model, batch) of the tiny run."""
  tasks = tasks_lib.with_statistics(build.tasks(parsed), STATISTICS)
  train, _ = build.sources(parsed.data)
  batch = build.sample(parsed, tasks, train)
  return parsed, tasks, pretrainer.Pretrainer(parsed.model, tasks), batch


def init_state(config, model, batch, mesh):
  tx = optimizer.create(config.optimizer, config.batch_size, 100)
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype),
      train_step.model_inputs(batch))
  init = train_state.initializer(model, tx, shapes)
  return tx, train_state.create(init, 0, mesh)


def loss_and_grads(parts, axes):
  """On a mesh over the first devices."""
  config, tasks, model, batch = parts
  devices = np.array(jax.devices()[:int(np.prod(axes))]).reshape(axes)
  mesh = jax.sharding.Mesh(
      devices, ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)
  with jax.set_mesh(mesh):
    _, state = init_state(config, model, batch, mesh)
    function = jax.jit(
        jax.value_and_grad(train_step.total_loss, has_aux=True),
        static_argnums=(2, 3))
    (loss, metrics), grads = function(
        state.params, sharding.global_batch(batch, mesh), model, tasks)
    return jax.device_get((loss, metrics, grads))


def test_loss_and_gradients_are_equal_on_every_mesh(parts):
  model = dataclasses.replace(
      parts[0].model, variant="nano/8")      # 4 heads: tensor can split them.
  parts = (*parts[:2], pretrainer.Pretrainer(model, parts[1]), parts[3])
  want, want_metrics, want_grads = loss_and_grads(parts, (1, 1, 1))
  for axes in ((2, 1, 1), (8, 1, 1), (2, 4, 1), (2, 2, 2)):
    loss, metrics, grads = loss_and_grads(parts, axes)
    assert abs(loss - want) <= 1e-5 * max(1, abs(want))
    for key, value in metrics.items():
      assert value == pytest.approx(want_metrics[key], abs=1e-4), key
    for a, b in zip(jax.tree.leaves(want_grads), jax.tree.leaves(grads)):
      assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max() + 1e-6


def test_step_updates_donates_and_reports(parts):
  config, tasks, model, batch = parts
  mesh = sharding.create_mesh(config_lib.Mesh(data=2, fsdp=4, tensor=1))
  with jax.set_mesh(mesh):
    tx, state = init_state(config, model, batch, mesh)
    step = train_step.create(
        model, tasks, tx, optimizer.schedule(config.optimizer, 256, 100),
        state, mesh)
    on_device = sharding.global_batch(batch, mesh)
    losses = []
    for i in range(12):
      before = state.params["encoder"]["embed"]["kernel"]
      state, metrics = step(state, on_device)
      assert before.is_deleted()
      losses.append(float(metrics["train/loss"]))
      assert int(state.step) == i + 1
  # The same batch again and again is learnt.
  assert losses[-1] < losses[0] - 0.3, losses
  total = sum(
      t.weight * float(metrics[f"{t.name}/loss"]) / t.trivial_loss
      for t in tasks)
  assert losses[-1] == pytest.approx(total, rel=1e-5)
  assert not state.params["encoder"]["blocks"]["fc1"][
      "kernel"].sharding.is_fully_replicated
  mu = state.opt_state[1][0].mu["encoder"]["blocks"]["fc1"]["kernel"]
  assert mu.sharding == state.params["encoder"]["blocks"]["fc1"][
      "kernel"].sharding


def test_the_model_never_gets_the_answers(parts):
  config, tasks, model, batch = parts
  inputs = train_step.model_inputs(batch)
  assert set(inputs) == {"image", "hide_position", "queries"}
  assert set(batch) - set(inputs) == {"answers", "index", "label"}


def test_every_parameter_gets_a_gradient(parts):
  config, tasks, model, batch = parts
  params = model.init(
      jax.random.key(0), train_step.model_inputs(batch))["params"]
  grads = jax.grad(lambda p: train_step.total_loss(
      p, batch, model, tasks)[0])(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.any(leaf), path


def count_scans(jaxpr, length):
  """Scans of that length over layers, in nested jaxprs too."""
  count = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "scan" and eqn.params["length"] == length:
      count += 1
    for value in jax.tree.leaves(
        list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        count += count_scans(inner, length)
  return count


def test_one_forward_pass(parts):
  config, tasks, model, batch = parts
  params = jax.eval_shape(
      model.init, jax.random.key(0), train_step.model_inputs(batch))["params"]
  depth = 4                                    # ViT pico
  loss = lambda p: train_step.total_loss(p, batch, model, tasks)[0]
  assert count_scans(jax.make_jaxpr(loss)(params).jaxpr, depth) == 1
  # And with the gradient, one more: backwards.
  assert count_scans(
      jax.make_jaxpr(jax.grad(loss))(params).jaxpr, depth) == 2


def flops(config, names):
  """FLOPs of loss and gradients, layers unrolled, of some of the tasks."""
  config = config_lib.parse(config)
  all_tasks = tasks_lib.with_statistics(build.tasks(config), STATISTICS)
  tasks = tuple(t for t in all_tasks if t.name in names)
  model = pretrainer.Pretrainer(
      dataclasses.replace(config.model, unroll=0, dtype="float32"), tasks)
  b, side = 4, config.model.image_size
  n = all_tasks[0].geometry.grid[0] ** 2
  shape = lambda *s, dtype=jnp.int32: jax.ShapeDtypeStruct((b, *s), dtype)
  by_name = {t.name: t for t in tasks}
  queries, answers = {}, {}
  if "colorize" in by_name:
    k, p = by_name["colorize"].num_patches, config.model.patch_size
    queries["colorize"] = {"ids": shape(k)}
    answers["colorize"] = {
        "pixels": shape(k, p, p, 3, dtype=jnp.uint8),
        "around": shape(k, 3, dtype=jnp.float32),
        "around_found": shape(k, dtype=bool), "gray_view": shape(dtype=bool)}
  if "relative_position" in by_name:
    m = by_name["relative_position"].num_pairs
    queries["relative_position"] = {"ids": shape(m, 2)}
    answers["relative_position"] = {"label": shape(m)}
  batch = {
      "image": shape(side, side, 3, dtype=jnp.uint8),
      "hide_position": shape(n, dtype=bool), "queries": queries,
      "answers": answers}
  params = jax.eval_shape(
      model.init, jax.random.key(0), train_step.model_inputs(batch))["params"]
  lowered = jax.jit(
      jax.grad(train_step.total_loss, has_aux=True), static_argnums=(2, 3)
  ).lower(params, batch, model, tasks)
  return lowered.cost_analysis()["flops"]


def test_three_tasks_cost_at_most_a_tenth_more_than_one():
  config = imagenet.get_config("variant=S/16")
  one = flops(config, ["contrastive"])
  three = flops(config, ["contrastive", "relative_position", "colorize"])
  # 4 views of S/16: 3 · 4.6 GMACs each, so the layers have been counted.
  assert 0.8 < one / (4 * 3 * 2 * 4.6e9) < 1.4
  assert 1.0 < three / one <= 1.1


def test_spread_is_0_when_collapsed_and_1_when_uniform():
  assert float(train_step.spread(jnp.ones((64, 8)))) < 1e-3
  x = np.random.default_rng(0).standard_normal((4096, 64), np.float32)
  assert float(train_step.spread(x)) == pytest.approx(1, abs=0.01)

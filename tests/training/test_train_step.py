"""The step: equal on any mesh, one forward pass, at the cost of one task."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.training import assembly
from mtvit.training import cost
from mtvit.training import inputs
from mtvit.training import sharding
from mtvit.training import train_step


ADDITIONS = {
    "model.layer_scale": 0.1, "model.registers": 2, "model.norm_epsilon": 1e-5,
    "model.class_position": True, "model.rotary_base": 100.0}


@pytest.fixture
def parts(parsed):
  """Of the tiny run, with all its tasks."""
  return make_parts(parsed)


def make_parts(config, mesh=None):
  train, _ = inputs.sources(config)
  return assembly.create(config, mesh or one_device(), train, total_steps=100)


def first_batch(parts):
  return next(iter(parts.batches))


def changed(tiny, **changes):
  """Parts of the tiny config with dotted keys changed."""
  tiny.update_from_flattened_dict(changes)
  return make_parts(config_lib.parse(tiny))


def on(parts, mesh):
  return dataclasses.replace(parts, mesh=mesh)


def one_device():
  return jax.sharding.Mesh(
      np.array(jax.devices()[:1]).reshape(1, 1, 1),
      ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)


def loss_and_grads(parts, axes):
  """On a mesh over the first devices."""
  devices = np.array(jax.devices()[:int(np.prod(axes))]).reshape(axes)
  mesh = jax.sharding.Mesh(
      devices, ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)
  with jax.set_mesh(mesh):
    state = on(parts, mesh).first_state()
    function = jax.jit(jax.value_and_grad(parts.objective.total, has_aux=True))
    (loss, aux), grads = function(
        state.params, state, sharding.global_batch(first_batch(parts), mesh))
    return jax.device_get((loss, aux.metrics, grads))


def assert_equal(found, wanted):
  """Design: loss within 1e-5, each gradient within 1e-5 of its largest."""
  (loss, metrics, grads), (want, want_metrics, want_grads) = found, wanted
  assert abs(loss - want) <= 1e-5 * max(1, abs(want))
  assert metrics.keys() == want_metrics.keys()
  for key, value in metrics.items():
    assert value == pytest.approx(want_metrics[key], abs=1e-4), key
  for a, b in zip(jax.tree.leaves(want_grads), jax.tree.leaves(grads)):
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max() + 1e-6


@pytest.mark.parametrize("kind, remat, accumulate, meshes", [
    ("infonce", "none", 1, ((2, 2, 2),)),
    pytest.param("additions", "full", 1, ((2, 2, 2),), marks=pytest.mark.slow),
    pytest.param("infonce", "dots", 2, ((1, 1, 1), (2, 2, 2)),
                 marks=pytest.mark.slow),
    pytest.param("moco", "full", 2, ((8, 1, 1), (2, 4, 1)),
                 marks=pytest.mark.slow)])
def test_loss_and_gradients_are_equal_on_every_mesh(
    kind, remat, accumulate, meshes, everything):
  # All tasks; nano has 4 heads, which tensor can split.
  everything.model.variant = "nano/8"
  if kind == "additions":
    everything.update_from_flattened_dict(ADDITIONS)
  else:
    everything.tasks.contrastive.kind = kind
  wanted = loss_and_grads(
      make_parts(config_lib.parse(everything)), (1, 1, 1))
  everything.model.remat, everything.accumulate = remat, accumulate
  parts = make_parts(config_lib.parse(everything))
  assert {task.name for task in parts.objective.tasks} == set(
      everything.tasks) - {"supervised"}
  for axes in meshes:
    assert_equal(loss_and_grads(parts, axes), wanted)


def compiled_step(tiny, mesh, batch_size, **changes):
  """A step of the tiny config, compiled; all of it on a mesh."""
  tiny.batch_size = batch_size
  tiny.update_from_flattened_dict(changes)
  config = config_lib.parse(tiny)
  mesh = sharding.create_mesh(config_lib.Mesh(
      data=mesh[0], fsdp=mesh[1], tensor=mesh[2]))
  step = cost.train_step_of(config, mesh)
  with jax.set_mesh(mesh):
    return step.function.lower(step.state, step.batch).compile()


@pytest.mark.slow
def test_pieces_and_remat_hold_less(tiny):
  held = lambda **changes: compiled_step(
      tiny, (8, 1, 1), 256, **changes).memory_analysis().temp_size_in_bytes
  whole = held()
  assert held(**{"model.remat": "dots"}) < 0.9 * whole
  full = held(**{"model.remat": "full"})
  assert full < 0.7 * whole
  assert held(accumulate=4) < 0.6 * full


@pytest.mark.slow
def test_fsdp_gathers_parameters_and_sums_no_activations(tiny):
  # 32 images of two views, 4x4 patches and two tokens, 128 features.
  text = compiled_step(
      tiny, (1, 8, 1), 32, **{"model.variant": "nano/8"}).as_text()
  assert "all-gather" in text
  sums = re.findall(r"= \(?f32\[([\d,]*)\]\S* all-reduce", text)
  assert sums
  assert not [s for s in sums if ",18,128" in s or ",18,512" in s]


@pytest.mark.slow
def test_bfloat16_keeps_float32_parameters_and_nearly_the_gradient(tiny):
  of = lambda dtype: loss_and_grads(
      changed(tiny, **{"model.dtype": dtype}), (8, 1, 1))
  (want, _, exact), (loss, _, rounded) = of("float32"), of("bfloat16")
  assert loss == pytest.approx(want, abs=0.02)
  assert {x.dtype for x in jax.tree.leaves(rounded)} == {np.dtype("float32")}
  flat = lambda tree: np.concatenate(
      [x.ravel() for x in jax.tree.leaves(tree)])
  a, b = flat(exact), flat(rounded)
  assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.995


def test_step_updates_donates_and_reports(parts):
  batch = first_batch(parts)
  mesh = sharding.create_mesh(config_lib.Mesh(data=2, fsdp=4, tensor=1))
  with jax.set_mesh(mesh):
    parts = on(parts, mesh)
    state, step = parts.first_state(), parts.step
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
      for t in parts.objective.tasks)
  assert losses[-1] == pytest.approx(total, rel=1e-5)
  assert not state.params["encoder"]["blocks"]["fc1"][
      "kernel"].sharding.is_fully_replicated
  mu = state.opt_state[1][0].mu["encoder"]["blocks"]["fc1"]["kernel"]
  assert mu.sharding == state.params["encoder"]["blocks"]["fc1"][
      "kernel"].sharding
  assert state.teacher == {} and state.task_state == {}


def test_the_momentum_encoder_follows_the_parameters(tiny):
  parts = changed(tiny, **{
      "tasks.contrastive.kind": "moco", "tasks.contrastive.momentum": 0.8,
      "tasks.contrastive.queue_size": 32})
  mesh = sharding.create_mesh(config_lib.Mesh(data=2, fsdp=4, tensor=1))
  with jax.set_mesh(mesh):
    parts = on(parts, mesh)
    state, step = parts.first_state(), parts.step
    kernel = lambda tree: np.asarray(tree["encoder"]["embed"]["kernel"])
    teacher = kernel(state.teacher)
    np.testing.assert_array_equal(teacher, kernel(state.params))
    on_device = sharding.global_batch(first_batch(parts), mesh)
    for i in range(3):
      state, metrics = step(state, on_device)
      momentum = 1 - 0.2 * (np.cos(np.pi * i / 100) + 1) / 2
      assert float(metrics["train/teacher_momentum"]) == pytest.approx(
          momentum, abs=1e-6)
      teacher = momentum * teacher + (1 - momentum) * kernel(state.params)
      np.testing.assert_allclose(kernel(state.teacher), teacher, atol=1e-6)
  blocks = state.teacher["encoder"]["blocks"]["fc1"]["kernel"]
  assert blocks.sharding == state.params["encoder"]["blocks"]["fc1"][
      "kernel"].sharding and not blocks.sharding.is_fully_replicated
  assert state.task_state["contrastive"]["queue"].shape == (32, 128)


def test_the_model_never_gets_the_answers(parts):
  batch = first_batch(parts)
  seen = train_step.model_inputs(batch)
  assert set(seen) == {"passes", "queries"}
  assert set(batch) - set(seen) == {
      "answers", "index", "label", "replaced"}
  for views in batch["passes"].values():
    assert set(views) == {"image", "hide_position"}


@pytest.mark.parametrize("forward, kind", [
    ("shared", "byol"), ("separate", "infonce")])
def test_every_parameter_gets_a_gradient_and_no_momentum_encoder(
    forward, kind, tiny):
  parts = changed(tiny, **{"forward": forward, "tasks.contrastive.kind": kind},
                  **ADDITIONS if forward == "separate" else {})
  objective, batch = parts.objective, first_batch(parts)
  state = parts.first_state()
  assert bool(state.teacher) == (kind == "byol")
  grads, of_teacher = jax.jit(jax.grad(
      lambda params, teacher: objective.total(
          params, state.replace(teacher=teacher), batch)[0],
      (0, 1)))(state.params, state.teacher)
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.any(leaf), path
  assert not any(map(np.any, jax.tree.leaves(of_teacher)))


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


@pytest.mark.parametrize("forward, passes", [("shared", 1), ("separate", 3)])
def test_number_of_forward_passes(forward, passes, tiny):
  parts = changed(tiny, forward=forward)
  objective, batch = parts.objective, first_batch(parts)
  assert len(batch["passes"]) == passes
  with jax.set_mesh(one_device()):
    state = parts.shapes
  depth = 4                                    # ViT pico
  loss = lambda p, s: objective.total(p, s, batch)[0]
  jaxpr = jax.make_jaxpr(loss)(state.params, state).jaxpr
  assert count_scans(jaxpr, depth) == passes
  # And with the gradient, one more each: backwards.
  jaxpr = jax.make_jaxpr(jax.grad(loss))(state.params, state).jaxpr
  assert count_scans(jaxpr, depth) == 2 * passes


def test_spread_is_0_when_collapsed_and_1_when_uniform():
  assert float(train_step.spread(jnp.ones((64, 8)))) < 1e-3
  x = np.random.default_rng(0).standard_normal((4096, 64), np.float32)
  assert float(train_step.spread(x)) == pytest.approx(1, abs=0.01)

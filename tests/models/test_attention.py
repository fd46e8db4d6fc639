"""Attention in all its forms, what they keep, and where they run."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.models import attention
from mtvit.models import blocks
from mtvit.models import chunks
from mtvit.models import recompute
from mtvit.models import target
from mtvit.training import sharding
from tests.models import forward


def arrays(b=2, t=7, h=3, e=8, scale=1.0):
  rng = np.random.default_rng(0)
  return [scale * rng.standard_normal((b, t, h, e)) for _ in range(4)]


def by_definition(q, k, v, grad):
  """Attention [b, t, h, e] and its gradients, in numpy, a query at a time."""
  out, dq, dk, dv = (np.zeros_like(q) for _ in range(4))
  for b, h in np.ndindex(q.shape[0], q.shape[2]):
    for t in range(q.shape[1]):
      logits = k[b, :, h] @ q[b, t, h] / math.sqrt(q.shape[-1])
      weights = np.exp(logits - logits.max())
      weights /= weights.sum()
      out[b, t, h] = weights @ v[b, :, h]
      dweights = v[b, :, h] @ grad[b, t, h]
      dv[b, :, h] += np.outer(weights, grad[b, t, h])
      jacobian = np.diag(weights) - np.outer(weights, weights)
      dlogits = jacobian @ dweights / math.sqrt(q.shape[-1])
      dq[b, t, h] = dlogits @ k[b, :, h]
      dk[b, :, h] += np.outer(dlogits, q[b, t, h])
  return out, dq, dk, dv


@pytest.mark.parametrize("heads_first", [False, True])
@pytest.mark.parametrize("form", attention.FORMS)
@pytest.mark.parametrize("dtype, bound, scale", [
    ("float32", 2e-6, 1.0), ("float32", 2e-4, 12.0), ("bfloat16", 0.03, 1.0)])
def test_forms_are_softmax_attention(form, heads_first, dtype, bound, scale):
  q, k, v, grad = arrays(scale=scale)
  turn = (lambda x: x.swapaxes(1, 2)) if heads_first else lambda x: x
  given = [jnp.asarray(turn(x), dtype) for x in (q, k, v, grad)]
  out, pull = jax.vjp(lambda *x: attention.attend(
      *x, form=form, heads_first=heads_first), *given[:3])
  rounded = [turn(np.asarray(x, np.float64)) for x in given]
  for found, want in zip((out, *pull(given[3])), by_definition(*rounded)):
    assert found.dtype == dtype
    np.testing.assert_allclose(
        turn(np.asarray(found, np.float64)), want,
        atol=bound * np.abs(want).max())


@pytest.mark.parametrize("changes", [
    {}, {"rotary_base": 100.0, "position_init": "none"},
    {"drop_path": 0.5, "layer_scale": 0.1}, {"remat": "full", "unroll": 0},
    {"remat": "dots", "registers": 1}], ids=str)
def test_an_encoder_has_the_same_gradient_in_all_forms(changes):
  def gradient(form):
    encoder, params, image = forward.make(attention=form, **changes)
    return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(encoder.apply(
        {"params": p}, image, train=True,
        rngs={"dropout": jax.random.key(0)}).patches))))(params)

  want = gradient("plain")
  for form in ("auto", "xla"):
    for a, b in zip(jax.tree.leaves(gradient(form)), jax.tree.leaves(want)):
      np.testing.assert_allclose(
          a, b, atol=1e-5 * float(jnp.abs(b).max()) + 1e-5)


def test_who_asks_for_the_weights_gets_them():
  encoder, params, image = forward.make()
  out = encoder.apply({"params": params}, image, attention=True)
  plain = encoder.apply({"params": params}, image)
  np.testing.assert_allclose(out.patches, plain.patches, atol=1e-5)
  np.testing.assert_allclose(out.attention.sum(-1), 1, rtol=1e-5)
  assert plain.attention is None


def kept(form, dtype, unroll=1):
  """Shapes and types of what a training pass keeps for the gradient."""
  encoder, params, image = forward.make(
      attention=form, dtype=dtype, unroll=unroll)
  apply = lambda params: encoder.apply({"params": params}, image).patches
  pull = jax.eval_shape(lambda p: jax.vjp(apply, p)[1], params)
  return [(x.shape, x.dtype.name) for x in jax.tree.leaves(pull)]


# Of pico/8 on 24x24 pixels: 11 tokens of 96 channels, 3 heads, 4 layers.
LAYERS, B, T, D, H, E = 4, 3, 11, 96, 3, 32


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA H200", "TPU v5 lite"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_layer_keeps_the_inputs_of_its_products(kind, dtype, monkeypatch):
  monkeypatch.setattr(target, "device_kind", lambda: kind)
  found = kept("xla", dtype)
  assert not [x for x in found if x[0][-2:] == (T, T)]
  stacked = [x for x in found if x[0][:2] == (LAYERS, B) and T in x[0]]
  sums = (LAYERS, B, H, T), "float32"
  assert stacked.count(sums) == 1
  stacked = [x for x in stacked if x != sums]
  assert {x[1] for x in stacked} == {dtype}
  # In units of [b, t, d]: two inputs of norms, queries, keys, values, what
  # attention gives, and four of hidden units.
  units = sum(math.prod(x[0]) for x in stacked) / (LAYERS * B * T * D)
  assert units == 10


def test_the_plain_form_keeps_the_weights():
  assert [x for x in kept("plain", "float32") if x[0][-2:] == (T, T)]


def test_without_cudnn_there_is_a_note_and_another_form(monkeypatch, caplog):
  monkeypatch.setattr(target, "device_kind", lambda: "NVIDIA H200")
  attention._note.cache_clear()
  q, k, v, _ = (jnp.asarray(x, jnp.bfloat16) for x in arrays())
  with caplog.at_level(logging.WARNING):
    found = [attention.attend(q, k, v) for _ in range(2)]
  assert caplog.text.count("cuDNN's attention does not work here") == 1
  assert "cuDNN is not detected" in caplog.text
  for x in found:
    np.testing.assert_array_equal(x, attention.attend(q, k, v, "xla"))


def test_float32_is_never_given_to_cudnn(monkeypatch, caplog):
  monkeypatch.setattr(target, "device_kind", lambda: "NVIDIA H200")
  attention._note.cache_clear()
  attention.attend(*(jnp.asarray(x, jnp.float32) for x in arrays()[:3]))
  assert "cuDNN" not in caplog.text


@pytest.mark.parametrize("rows, heads", [(8, 4), (7, 4), (8, 3)])
@pytest.mark.parametrize("data, fsdp, tensor", [(8, 1, 1), (2, 2, 2)])
def test_a_kernel_on_each_device_is_one_kernel(data, fsdp, tensor, rows, heads):
  q, k, v, grad = (jnp.asarray(x, jnp.float32) for x in arrays(
      rows, 5, heads))
  kernel = lambda *x: attention.with_weights(*x)[0]

  def gradient(run):
    out, pull = jax.vjp(run, q, k, v)
    return out, *pull(grad)

  want = gradient(kernel)
  mesh = sharding.create_mesh(
      config_lib.Mesh(data=data, fsdp=fsdp, tensor=tensor))
  with jax.set_mesh(mesh):
    found = jax.jit(lambda: gradient(
        functools.partial(attention.on_each_device, kernel)))()
  for a, b in zip(found, want):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_activations_stay_row_major_and_on_their_devices(monkeypatch):
  x = jnp.asarray(np.random.default_rng(0).standard_normal((16, 5, 8)))
  mesh = sharding.create_mesh(config_lib.Mesh(data=4, fsdp=2, tensor=1))

  def program():
    def loss(x):
      return jnp.sum(jnp.sin(chunks.row_major(jnp.tanh(x))) ** 2, (1, 2))
    with jax.set_mesh(mesh):
      place = sharding.batch_sharding(mesh)
      return jax.jit(jax.grad(lambda x: loss(x).sum())).lower(
          jax.device_put(x, place))

  plain = program()
  monkeypatch.setattr(target, "device_kind", lambda: "NVIDIA H200")
  jax.clear_caches()
  found = program()
  assert "LayoutConstraint" in found.as_text()
  assert "LayoutConstraint" not in plain.as_text()
  compiled = found.compile()
  assert "all-gather" not in compiled.as_text()
  given = jax.device_put(x, sharding.batch_sharding(mesh))
  np.testing.assert_allclose(
      compiled(given), plain.compile()(given), atol=1e-5)


@pytest.mark.parametrize("kind, times", [("cpu", 2), ("TPU v5 lite", 1)])
def test_what_is_cheap_is_computed_again(kind, times, monkeypatch):
  monkeypatch.setattr(target, "device_kind", lambda: kind)
  x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)), "float32")
  gelu = blocks.ACTIVATIONS["gelu_tanh"]
  made = recompute.for_gradient(gelu)
  _, pull = jax.vjp(made, x)
  saved = [y for y in jax.tree.leaves(pull) if jnp.ndim(y)]
  assert len(saved) == 1
  np.testing.assert_array_equal(saved[0], x)
  np.testing.assert_allclose(pull(x)[0], jax.vjp(gelu, x)[1](x)[0], atol=1e-6)
  program = jax.jit(jax.value_and_grad(
      lambda x: jnp.sum(made(x)))).lower(x).compile().as_text()
  assert program.count(" tanh(") == times

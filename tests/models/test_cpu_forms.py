"""The forms for CPUs against the plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.models import blocks
from mtvit.models import cpu_forms
from mtvit.training import sharding


def normal(*shape, seed=0, dtype="float32"):
  x = np.random.default_rng(seed).standard_normal(shape, np.float32)
  return jnp.asarray(x, dtype)


def close(found, wanted, dtype="float32"):
  assert found.dtype == wanted.dtype and found.shape == wanted.shape
  found, wanted = np.asarray(found, np.float32), np.asarray(wanted, np.float32)
  np.testing.assert_allclose(
      found, wanted,
      atol=np.abs(wanted).max() * (1e-6 if dtype == "float32" else 0.03))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("k, n", [(3, 7), (7, 3), (5, 5)])
def test_products_have_the_gradients_of_automatic_differentiation(k, n, dtype):
  x, kernel = normal(2, 4, k, dtype=dtype), normal(k, n, seed=1, dtype=dtype)
  out = normal(2, 4, n, seed=2, dtype=dtype)
  plain = lambda x, kernel: jnp.einsum("btk,kn->btn", x, kernel)
  close(cpu_forms.product(x, kernel), plain(x, kernel), dtype)
  gradient = lambda f: jax.jit(jax.grad(
      lambda x, kernel: jnp.sum(f(x, kernel) * out), (0, 1)))(x, kernel)
  for found, wanted in zip(gradient(cpu_forms.product), gradient(plain)):
    close(found, wanted, dtype)


@pytest.mark.parametrize("k, n", [(32, 96), (96, 32)])
def test_the_gradient_of_a_kernel_transposes_no_rows(k, n):
  program = jax.jit(jax.grad(
      lambda kernel, x: jnp.sum(jnp.sin(cpu_forms.product(x, kernel))))).lower(
          normal(k, n), normal(20, 25, k)).compile().as_text()
  # Rows are the first dimension of all arrays, and the narrow matrix is left.
  assert "[500,32]" in program and "[500,96]" in program
  assert "[32,500]" not in program and "[96,500]" not in program
  dots = [line for line in program.splitlines()
          if "lhs_contracting_dims={0}, rhs_contracting_dims={0}" in line]
  assert len(dots) == 1 and " = f32[32,96]" in dots[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_heads_first_is_a_plain_projection(dtype):
  x, kernel = normal(3, 5, 8, dtype=dtype), normal(
      8, 3, 2, 4, seed=1, dtype=dtype)
  bias, out = normal(3, 2, 4, seed=2, dtype=dtype), normal(
      3, 3, 2, 5, 4, seed=3, dtype=dtype)
  plain = lambda x, kernel, bias: (
      jnp.einsum("btd,dihe->ibhte", x, kernel) + bias[:, None, :, None])
  ours = lambda *args: jnp.stack(cpu_forms.heads_first(*args))
  close(ours(x, kernel, bias), plain(x, kernel, bias), dtype)
  gradient = lambda f: jax.grad(
      lambda *args: jnp.sum(f(*args) * out), (0, 1, 2))(x, kernel, bias)
  for found, wanted in zip(gradient(ours), gradient(plain)):
    close(found, wanted, dtype)


def test_other_programs_keep_their_form():
  assert cpu_forms.target()
  for tensor in (1, 2):
    mesh = config_lib.Mesh(data=-1, fsdp=2, tensor=tensor)
    with jax.set_mesh(sharding.create_mesh(mesh)):
      assert cpu_forms.target() == (tensor == 1)
  tpu = jax.sharding.AbstractMesh(
      (8,), ("data",), abstract_device=jax.sharding.AbstractDevice(
          device_kind="TPU v5 lite", num_cores=1, platform="tpu"))
  with jax.sharding.use_abstract_mesh(tpu):
    assert not cpu_forms.target()
    assert cpu_forms.dot_general() is None


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("other", ["heads on several devices", "not a CPU"])
def test_a_block_is_the_same_in_all_forms(other, turned, monkeypatch):
  block = blocks.Block(
      heads=4, mlp_dim=24, activation="gelu_tanh", dtype=jnp.float32,
      layers=False, weights=True, layer_scale=0.1 * turned)
  x, out = normal(8, 5, 16), normal(8, 5, 16, seed=1)
  angles = normal(1, 5, 2, seed=3) if turned else None
  params = jax.tree.map(
      lambda p: p + 0.1 * normal(*p.shape, seed=2),
      block.init(jax.random.key(0), x, None, angles)["params"])

  def loss(params, x):
    y, (_, weights) = block.apply({"params": params}, x, None, angles)
    return jnp.sum(y * out), weights

  gradient = lambda: jax.jit(jax.value_and_grad(
      loss, (0, 1), has_aux=True))(params, x)
  found = gradient()
  if other == "not a CPU":
    monkeypatch.setattr(cpu_forms, "target", lambda: False)
    jax.clear_caches()
    wanted = gradient()
  else:
    with jax.set_mesh(sharding.create_mesh(
        config_lib.Mesh(data=2, fsdp=1, tensor=4))):
      wanted = gradient()
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    np.testing.assert_allclose(
        a, b, atol=1e-5 * float(jnp.abs(b).max()) + 1e-6)

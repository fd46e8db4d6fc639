"""The real TPU compiler, on small functions whose costs are known."""

import math

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import pytest

from mtvit import errors
from mtvit.planning import chips
from mtvit.planning import compiler
from mtvit.planning import totals
from mtvit.training import cost
from tests.planning import libtpu

pytestmark = libtpu.MARKS


@pytest.fixture(autouse=True)
def settings():
  """Those of this process stay as they were."""
  cached = jax.config.jax_enable_compilation_cache
  yield
  jax.config.update("jax_enable_compilation_cache", cached)


def compiled(function, *shapes, slice_name="v5e:2x4", axes=()):
  """A function of a state, by shape, and of a batch, split over axes."""
  slice_ = chips.parse(slice_name)
  compiler.prepare(slice_)
  devices = compiler.devices(slice_)
  mesh = jax.make_mesh(
      (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
  place = lambda shape, spec: jax.ShapeDtypeStruct(
      shape, jnp.bfloat16, sharding=NamedSharding(mesh, spec))
  step = cost.Step(
      jax.jit(function, out_shardings=NamedSharding(mesh, P())),
      place(shapes[0], P()), place(shapes[1], P(*axes)))
  return compiler.compiled(step, mesh)


def total(*args, **kwargs):
  return totals.of(compiled(*args, **kwargs).as_text(), 8)


def layers(unroll):
  """The gradient of four layers of two products each, with remat."""
  def function(w, x):
    layer = lambda x, w: (x + jax.nn.gelu(x @ w) @ w, None)
    return jnp.sum(jax.lax.scan(
        jax.checkpoint(layer), x, w, unroll=unroll)[0].astype(jnp.float32))
  return total(jax.grad(function), (4, 512, 512), (4096, 512))


def test_scanned_layers_cost_about_what_unrolled_ones_do():
  scanned, unrolled = layers(1), layers(4)
  assert scanned.unknown_loops == unrolled.unknown_loops == 0
  # Each product forward, twice backward, and again of what remat drops.
  product = 2 * 4096 * 512 * 512
  assert 4 * 6 * product <= unrolled.flops <= scanned.flops
  assert scanned.flops <= 4 * 8 * product * 1.001
  # A scan also moves what it carries and keeps.
  assert 1 <= scanned.cycles / unrolled.cycles < 2


def test_loops_in_loops_multiply():
  def function(w, x):
    layer = lambda i, x: jnp.tanh(x @ w)
    some = lambda i, x: jax.lax.fori_loop(0, 5, layer, x)
    return jnp.sum(jax.lax.fori_loop(0, 7, some, x))
  found = total(function, (512, 512), (4096, 512))
  assert found.unknown_loops == 0
  assert found.flops == pytest.approx(35 * 2 * 4096 * 512 * 512, rel=1e-3)


def test_the_sum_over_a_split_batch_is_an_all_reduce():
  found = total(
      lambda w, x: jnp.float32(w) + jnp.dot(
          x.T, x, preferred_element_type=jnp.float32), (512, 512), (4096, 512),
      axes=("data",))
  assert found.flops == pytest.approx(2 * 4096 * 512 * 512 / 8, rel=1e-3)
  # XLA may also scatter the sum and then gather it.
  assert sum(found.collectives.values()) == pytest.approx(
      2 * 7 / 8 * 512 * 512 * 4, rel=0.01)


@pytest.mark.parametrize("name", ["v5e:2x4", "v5p:2x2x2", "v4:2x2x2",
                                  "v6e:2x4", "v5e:1x1"])
def test_a_large_product_takes_its_flops_at_nearly_the_peak(name):
  slice_ = chips.parse(name)
  compiler.prepare(slice_)
  assert len(compiler.devices(slice_)) == math.prod(slice_.shape)
  found = total(lambda w, x: x @ w, (4096, 4096), (16384, 4096),
                slice_name=name)
  bound = found.flops / slice_.chip.peak
  assert found.flops == pytest.approx(2 * 16384 * 4096 * 4096, rel=1e-3)
  assert 0.7 < bound / (found.cycles / slice_.chip.clock) <= 1.01


def test_what_does_not_fit_says_what_it_needs():
  def function(w, x):
    y = x @ w                                   # 20 GB.
    return jnp.sum(jnp.sin(y.T @ y) @ y.T)
  with pytest.raises(compiler.DoesNotFit) as e:
    compiled(function, (8, 100_000), (100_000, 8))
  assert 19e9 < e.value.temporaries < 100e9


@pytest.mark.parametrize("name", ["v5e:3x3", "v5p:3x2x2"])
def test_a_slice_that_the_compiler_does_not_know(name):
  slice_ = chips.parse(name)
  compiler.prepare(slice_)
  with pytest.raises(errors.ConfigError) as e:
    print(len(compiler.devices(slice_)))
  message = str(e.value)
  assert name in message and f"{slice_.chip.name}:2x2" in message
  assert len(message.splitlines()) <= 4

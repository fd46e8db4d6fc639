"""Kinds of instructions in a program that is compiled and run."""

import jax
import jax.numpy as jnp
import pytest

from mtvit.benchmarks import profile


def program(x, y):
  def body(z, _):
    return jnp.tanh(z @ y), None
  z, _ = jax.lax.scan(body, x, length=30)
  return z, jnp.sum(jnp.sort(x, axis=0), axis=0)


def test_shares_add_up_and_products_lead():
  x, y = (jax.random.normal(jax.random.key(i), (600, 600)) for i in range(2))
  compiled = jax.jit(program).lower(x, y).compile()
  jax.block_until_ready(compiled(x, y))

  def work():
    jax.block_until_ready(compiled(x, y))
    return 1

  shares = profile.of_steps(compiled.as_text(), work, work)
  assert sum(shares.values()) == pytest.approx(1)
  assert shares["matrix products, and what is fused with them"] > 0.1
  assert any(kind.startswith("reductions") for kind in shares)


def test_kinds():
  found = profile.kinds("""HloModule x
%fused (p: f32[4,4]) -> f32[4,4] {
  %p = f32[4,4]{1,0} parameter(0)
  %e = f32[4,4]{1,0} exponential(%p)
  ROOT %d = f32[4,4]{1,0} dot(%e, %p), lhs_contracting_dims={1}
}
%moved (p: f32[4,4]) -> f32[4,4] {
  %p.1 = f32[4,4]{1,0} parameter(0)
  %c = f32[4,4]{0,1} copy(%p.1)
  ROOT %t = f32[4,4]{1,0} transpose(%c), dimensions={1,0}
}
ENTRY %main (a: f32[4,4]) -> f32[4,4] {
  %a = f32[4,4]{1,0} parameter(0)
  %one = f32[4,4]{1,0} fusion(%a), kind=kLoop, calls=%fused
  %two = f32[4,4]{1,0} fusion(%one), kind=kLoop, calls=%moved
  %four = f32[4,4]{1,0} call(%two), to_apply=%moved
  ROOT %three = f32[4,4]{1,0} negate(%four)
}
""")
  assert found["one"].startswith("matrix products")
  assert found["two"] == "copies and transposes"
  assert found["three"] == "elementwise"
  assert "four" not in found

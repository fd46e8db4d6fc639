"""Fingerprints see every change and no sharding."""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit.checkpoints import fingerprint


def arrays():
  rng = np.random.default_rng(0)
  return {
      "f": rng.standard_normal((8, 24)).astype("f"),
      "h": rng.standard_normal((16, 8)).astype(jnp.bfloat16),
      "i": np.arange(8, dtype=np.int32),
      "flags": np.array([True, False] * 4),
      "bytes": rng.integers(0, 256, 32).astype(np.uint8),
      "one": np.float32(3)}


@pytest.mark.parametrize("spec", [P(), P("a"), P(("a", "b")), P(None, "b")])
def test_sharding_does_not_matter(spec):
  mesh = jax.sharding.Mesh(
      np.array(jax.devices()).reshape(4, 2), ("a", "b"),
      axis_types=(AxisType.Auto,) * 2)
  tree = arrays()
  placed = {
      name: jax.device_put(x, NamedSharding(
          mesh, spec if x.ndim >= len(spec) else P()))
      for name, x in tree.items()}
  assert fingerprint.of_arrays(placed) == fingerprint.of_arrays(tree)


@pytest.mark.parametrize("name", ["f", "h", "i", "flags", "bytes", "one"])
def test_every_bit_counts(name):
  tree = arrays()
  before = fingerprint.of_arrays(tree)
  x = np.array(tree[name])
  raw = x.reshape(-1).view(np.uint8)
  places = np.random.default_rng(1).choice(
      raw.size, min(raw.size, 20), replace=False)
  for place in places:
    raw[place] ^= 1 if name == "flags" else 0x10
    after = fingerprint.of_arrays(tree | {name: x})
    assert {k for k in before if before[k] != after[k]} == {name}
    raw[place] ^= 1 if name == "flags" else 0x10


def test_order_counts():
  a = np.arange(12, dtype=np.float32)
  swapped = a.copy()
  swapped[[3, 7]] = swapped[[7, 3]]
  assert fingerprint.of_arrays({"x": a}) != fingerprint.of_arrays(
      {"x": swapped})
  # By numbers worked out with Python's integers.
  total = 0
  for place, bits in enumerate(a.view(np.uint32).tolist()):
    h = bits ^ (place * 0x9E3779B1 % 2**32)
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    total += h ^ h >> 16
  assert fingerprint.of_arrays({"x": a}) == {"x": total % 2**32}


def test_keys_and_json():
  assert fingerprint.of_arrays({"k": jax.random.key(1)}) != (
      fingerprint.of_arrays({"k": jax.random.key(2)}))
  assert fingerprint.of_json({"a": 1, "b": [1.5]}) == fingerprint.of_json(
      {"b": [1.5], "a": 1})
  assert fingerprint.of_json({"a": 1}) != fingerprint.of_json({"a": 2})

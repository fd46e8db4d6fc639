"""Fingerprints of arrays: 32 bits that tell any one change of content.

They are computed where the arrays are, and do not depend on how these are
spread over devices.
"""

import hashlib
import json
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp

from mtvit.models import parameter_names

_WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of_json(value: Any) -> str:
  """SHA-256 of a JSON value, whatever the order of its keys."""
  return hashlib.sha256(
      json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_arrays(tree: Any) -> dict[str, int]:
  """Path -> fingerprint of every array of a tree.

  Args:
    tree: of arrays of at most 32 bits an element, or keys.
  """
  places = [getattr(x, "sharding", None) for x in jax.tree.leaves(tree)]
  everywhere = next(
      (NamedSharding(place.mesh, P()) for place in places
       if isinstance(place, NamedSharding)), None)
  found = jax.device_get(_compiled(everywhere)(tree))
  return {parameter_names.path_name(path): int(value)
          for path, value in jax.tree_util.tree_leaves_with_path(found)}


_cache: dict[Any, Any] = {}


def _compiled(out_sharding: NamedSharding | None) -> Any:
  if out_sharding not in _cache:
    _cache[out_sharding] = jax.jit(
        lambda tree: jax.tree.map(_of_array, tree),
        out_shardings=out_sharding)
  return _cache[out_sharding]


def _of_array(x: jax.Array) -> jax.Array:
  """uint32: the sum over elements of a hash of (place, bits).

  The hash is one-to-one in the bits, so a change of one element always shows;
  sums of integers don't depend on their order, so sharding doesn't matter.
  """
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  bits = jax.lax.bitcast_convert_type(x, _WORDS[x.dtype.itemsize])
  place, stride = jnp.zeros(x.shape, jnp.uint32), 1
  for axis in reversed(range(x.ndim)):           # No reshape: it would gather.
    place += jax.lax.broadcasted_iota(
        jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
    stride *= x.shape[axis]
  # The finalizer of MurmurHash3 (Appleby, public domain), with the place mixed
  # in first.
  h = bits.astype(jnp.uint32) ^ (place * jnp.uint32(0x9E3779B1))
  h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
  h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
  return jnp.sum(h ^ (h >> 16), dtype=jnp.uint32)

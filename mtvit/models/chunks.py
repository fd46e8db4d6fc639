"""Work on the rows of a batch piece by piece, to hold less at a time.

The result is that of the whole; only a piece's intermediate values are kept,
and those are computed again for the gradient.
"""

from typing import Any, Callable

import jax
from jax.experimental import layout
from jax.sharding import PartitionSpec as P
import jax.numpy as jnp

from mtvit.models import target

# The axes of the mesh that split the rows of a batch.
ROWS = ("data", "fsdp")


def shards() -> int:
  """Into how many parts the current mesh splits the rows; 1 without a mesh."""
  sizes = jax.sharding.get_abstract_mesh().shape
  return sizes.get(ROWS[0], 1) * sizes.get(ROWS[1], 1)


def in_chunks(
    function: Callable[[Any, jax.Array], Any], rows: Any, count: int
) -> Any:
  """Applies a function of rows to pieces of them, one after another.

  Args:
    function: (rows, number of the piece) -> a tree of arrays; each of its rows
      depends on that row alone.
    rows: a tree of arrays [b, ...]; b is a multiple of count · `shards()`.
    count: of pieces; 1 calls the function once, on all.

  Returns:
    What `function` gives, for all rows: [b, ...].
  """
  if count == 1:
    return function(rows, jnp.int32(0))

  # Every device has its share of each piece: a piece is every count-th row.
  def split(x):
    x = jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)
    return _placed(x, P(None, ROWS))                   # [count, b/count, ...]

  def join(x):
    x = jnp.moveaxis(x, 0, 1)                          # [b/count, count, ...]
    return _placed(x.reshape(-1, *x.shape[2:]), P(ROWS))

  def piece(_, inputs):
    return None, jax.checkpoint(function, prevent_cse=False)(*inputs)

  _, out = jax.lax.scan(
      piece, None, (jax.tree.map(split, rows), jnp.arange(count)))
  return jax.tree.map(join, out)


def by_rows(x: jax.Array) -> jax.Array:
  """Keeps activations [b, ...] split by rows, and by nothing else.

  Without it XLA may take the split of the parameters over `fsdp` for one of
  the features, and sum activations over the network.
  """
  return x if x.shape[0] % shards() else _placed(x, P(ROWS))


def row_major(x: jax.Array) -> jax.Array:
  """Keeps XLA for GPUs from transposing activations [b, ...] in memory.

  The gradient of position embeddings is a sum over the batch, for which it
  would write the batch last, from the first layer to the last; every norm and
  every product then needs another copy. Elsewhere XLA knows better.
  """
  if not target.is_nvidia():
    return x
  order = layout.Layout(major_to_minor=tuple(range(x.ndim)))
  constrained = lambda x: layout.with_layout_constraint(x, order)
  if not jax.sharding.get_abstract_mesh().shape:
    return constrained(x)
  # XLA can't split a constraint: each device has its own.
  spec = P() if x.shape[0] % shards() else P(ROWS)
  return jax.shard_map(
      constrained, in_specs=spec, out_specs=spec, check_vma=False)(x)


def _placed(x, spec):
  """Tells the compiler where rows are, if there is a mesh."""
  if shards() == 1:
    return x
  return jax.lax.with_sharding_constraint(x, spec)

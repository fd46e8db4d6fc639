"""Random rectangles: of patches in the grid, and of pixels in a patch."""

from typing import TYPE_CHECKING, Any

from etils import epy

with epy.lazy_imports():
  import tensorflow as tf

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

NUM_RECTANGLES = 64    # of `block_patches`: enough for 3/4 of a grid


def _spans(
    draw: "draws.Draw", axis: str, count: int, size: int,
    sides: tuple[int, int], margin: int
) -> Any:
  """Marks random intervals of `size` places: bool [b, count, size].

  Lengths are uniform from sides[0] to sides[1], and so are starts: of intervals
  inside (margin 0), or with one place inside at least (margin 1).
  """
  low, high = sides
  side = low + draw.integers(f"{axis}_side", (count,), high - low + 1)
  first = -margin * (side - 1)                              # [b, count]
  starts = tf.cast(size - side + 1 - 2 * first, tf.float32)  # how many
  chance = draw.uniform(f"{axis}_start", (count,))          # [b, count]
  start = first + tf.cast(chance * starts, tf.int32)        # [b, count]
  after = tf.range(size) - start[..., None]                 # [b, count, size]
  return (after >= 0) & (after < side[..., None])


def block_patches(
    layout: "corruption.Layout", k: int, draw: "draws.Draw"
) -> Any:
  """Chooses k free patches block-wise: int32 [b, k].

  Those that random rectangles cover, one rectangle after the other until there
  are k, and a random part of the last one's. Sides are 1 to half the grid's. A
  rectangle may hang over the edge, so every patch is equally likely covered. If
  the rectangles cover too few free patches, random others follow.
  """
  gh, gw = layout.grid
  rows, columns = (                                         # [b, r, gh or gw]
      _spans(draw, axis, NUM_RECTANGLES, size, (1, (size + 1) // 2), margin=1)
      for axis, size in (("row", gh), ("column", gw)))
  inside = rows[..., None] & columns[:, :, None]            # [b, r, gh, gw]
  index = tf.range(float(NUM_RECTANGLES))[:, None, None]
  rank = tf.where(inside, index, NUM_RECTANGLES)            # [b, r, gh, gw]
  first = tf.reshape(tf.reduce_min(rank, axis=1), [-1, gh * gw])
  last = 2.0 * NUM_RECTANGLES * tf.cast(layout.taken, tf.float32)
  order = first + last + draw.uniform("ties", (gh * gw,))   # [b, n]
  return tf.argsort(order, axis=1, stable=True)[:, :k]


def rectangles(k: int, p: int, draw: "draws.Draw") -> Any:
  """A random rectangle in each of k patches of side p: bool [b, k, p, p].

  Sides are p/4 .. 3p/4 pixels and at least 1: only for p = 1 the whole patch.
  """
  sides = (max(1, p // 4), max(1, 3 * p // 4))
  spans = lambda axis: _spans(draw, axis, k, p, sides, margin=0)
  return spans("row")[..., None] & spans("column")[..., None, :]

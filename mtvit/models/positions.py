"""Where patches are: embeddings by sines and cosines, and rotary positions."""

import math

import jax
import jax.numpy as jnp
import numpy as np


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
  """Sines and cosines of row and column, [rows * columns, width].

  A quarter of the channels each for sin(row), cos(row), sin(column) and
  cos(column), at frequencies from 1 down to 1/10000 (MoCo v3, section 4).
  """
  if width % 4:
    raise ValueError(f"sincos positions need a width of 4k, not {width}")
  frequency = 10_000.0 ** -(np.arange(width // 4) / (width / 4))
  row, column = np.divmod(np.arange(rows * columns), columns)
  angles = [at[:, None] * frequency for at in (row, column)]  # [n, d/4] each
  return np.concatenate(
      [f(x) for x in angles for f in (np.sin, np.cos)], 1).astype(np.float32)


def resized(position: np.ndarray, count: int) -> np.ndarray:
  """Embeddings of a square grid for another: [n, d] -> [count, d], cubic."""
  side, new = math.isqrt(len(position)), math.isqrt(count)
  if len(position) == count or side**2 != len(position) or new**2 != count:
    return position
  grid = position.reshape(side, side, -1)                   # [g, g, d]
  grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "cubic")
  return np.asarray(grid).reshape(count, -1)


def rotary_angles(
    rows: int, columns: int, head_dim: int, base: float
) -> np.ndarray:
  """Angles of 2-D rotary positions, as in DINOv3: float32 [n, e / 2].

  Row and column of a patch's centre, from -1 to 1 over the image, are divided
  by periods from 1 up to nearly `base`, a turn for each period: the first half
  of the angles is of the row, the second of the column (Siméoni et al. 2025,
  arXiv:2508.10104; rotations: Su et al. 2021, arXiv:2104.09864).

  Args:
    rows: of patches.
    columns: of patches.
    head_dim: e, channels of an attention head, a multiple of 4.
    base: of the periods.
  """
  period = base ** (np.arange(head_dim // 4) / (head_dim / 4))
  row, column = np.divmod(np.arange(rows * columns), columns)
  angles = [
      2 * np.pi * (2 * (at[:, None] + 0.5) / side - 1) / period  # [n, e/4]
      for at, side in ((row, rows), (column, columns))]
  return np.concatenate(angles, 1).astype(np.float32)


def rotate(x: jax.Array, angles: jax.Array) -> jax.Array:
  """Turns the plane of channels i and e / 2 + i by angle i, in float32.

  Args:
    x: queries or keys [..., e].
    angles: that broadcast to [..., e / 2].

  Returns:
    [..., e], in the dtype of x.
  """
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  a, b = jnp.split(x.astype(jnp.float32), 2, -1)            # [..., e/2] each
  return jnp.concatenate(
      [a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)

"""CIE Lab (CIE 15) of sRGB in JAX; the constants are in `data.srgb`."""

import jax
import jax.numpy as jnp
import numpy as np

from mtvit.data import srgb

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.jit
def rgb_to_lab(rgb: jax.Array) -> jax.Array:
  """sRGB in [0, 1], [..., 3] -> L in [0, 100] and a, b, [..., 3], float32."""
  linear = srgb.to_linear(rgb, jnp.where)
  xyz = jnp.matmul(linear, srgb.RGB_TO_XYZ.T, precision=_HIGHEST) / srgb.WHITE
  f = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
  x, y, z = jnp.moveaxis(f, -1, 0)
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@jax.jit
def lab_to_rgb(lab: jax.Array) -> jax.Array:
  """The inverse of `rgb_to_lab`, clipped to the sRGB gamut."""
  lightness, a, b = jnp.moveaxis(lab, -1, 0)
  y = (lightness + 16) / 116
  f = jnp.stack([y + a / 500, y, y - b / 200], axis=-1)
  xyz = jnp.where(f > 0.2068966, f ** 3, (f - 16 / 116) / 7.787) * srgb.WHITE
  linear = jnp.matmul(
      xyz, np.linalg.inv(srgb.RGB_TO_XYZ).T, precision=_HIGHEST)
  return srgb.from_linear(jnp.clip(linear, 0, 1), jnp.where)

"""CIE Lab (sRGB primaries, D65 white, 2 degree observer) in JAX.

Source: IEC 61966-2-1 for sRGB and CIE 15 for Lab.
"""

import jax
import jax.numpy as jnp
import numpy as np

RGB_TO_XYZ = np.array([
    [0.412453, 0.357580, 0.180423],
    [0.212671, 0.715160, 0.072169],
    [0.019334, 0.119193, 0.950227],
], np.float32)
WHITE = np.array([0.95047, 1.0, 1.08883], np.float32)
_HIGHEST = jax.lax.Precision.HIGHEST


@jax.jit
def rgb_to_lab(rgb: jax.Array) -> jax.Array:
  """sRGB in [0, 1], [..., 3] -> L in [0, 100] and a, b, [..., 3], float32."""
  linear = jnp.where(
      rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
  xyz = jnp.matmul(linear, RGB_TO_XYZ.T, precision=_HIGHEST) / WHITE
  f = jnp.where(xyz > 0.008856, jnp.cbrt(xyz), 7.787 * xyz + 16 / 116)
  x, y, z = jnp.moveaxis(f, -1, 0)
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@jax.jit
def lab_to_rgb(lab: jax.Array) -> jax.Array:
  """The inverse of `rgb_to_lab`, clipped to the sRGB gamut."""
  lightness, a, b = jnp.moveaxis(lab, -1, 0)
  y = (lightness + 16) / 116
  f = jnp.stack([y + a / 500, y, y - b / 200], axis=-1)
  xyz = jnp.where(f > 0.2068966, f ** 3, (f - 16 / 116) / 7.787) * WHITE
  linear = jnp.matmul(
      xyz, np.linalg.inv(RGB_TO_XYZ).T, precision=_HIGHEST)
  linear = jnp.clip(linear, 0, 1)
  return jnp.where(
      linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)

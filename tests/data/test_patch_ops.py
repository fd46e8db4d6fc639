"""Patches of views: cut out, pasted, added up, without colour."""

import numpy as np
import pytest
import skimage.color

from mtvit.data import patch_ops
from tests.tasks import helpers


@pytest.mark.parametrize("size, p", [(12, 4), (24, 8), (30, 5)])
def test_patches_are_cut_out_and_pasted_by_slicing(size, p):
  x, other = (helpers.views(seed, size=size) for seed in (0, 1))
  rng, n = np.random.default_rng(0), (size // p)**2
  ids = rng.permuted(np.tile(np.arange(n), (6, 1)), axis=1)[:, :4]
  ids, rows = ids.astype(np.int32), np.arange(6)[:, None]
  want = helpers.cut(x, p)
  np.testing.assert_array_equal(patch_ops.cut(x, ids, p), want[rows, ids])
  np.testing.assert_array_equal(
      patch_ops.cut(x, ids, p, np.arange(6, dtype=np.int32)[::-1]),
      want[rows[::-1], ids])
  new = helpers.cut(other, p)[rows, ids]
  want[rows, ids] = new
  np.testing.assert_array_equal(
      helpers.cut(patch_ops.paste(x, ids, new).numpy(), p), want)
  sums = helpers.cut(x, p).sum((2, 3), dtype=float)         # [6, n, 3]
  np.testing.assert_array_equal(
      patch_ops.sums(x, p).numpy().reshape(6, n, 3), sums)


def test_scatter_and_mark():
  values = np.zeros((2, 4, 2), np.int32)
  ids = np.array([[3, 0], [1, 2]], np.int32)
  new = np.arange(8, dtype=np.int32).reshape(2, 2, 2) + 1
  got = patch_ops.scatter(values, ids, new).numpy()
  for row in range(2):
    for j in range(2):
      np.testing.assert_array_equal(got[row, ids[row, j]], new[row, j])
  assert (got != 0).sum() == 8
  marked = patch_ops.mark(np.zeros((2, 4), bool), ids).numpy()
  np.testing.assert_array_equal(
      marked, [[True, False, False, True], [False, True, True, False]])


def test_luminance_keeps_the_lightness():
  x = helpers.views(0, size=32)
  gray = patch_ops.luminance(x).numpy()
  assert gray.dtype == np.uint8 and (gray == gray[..., :1]).all()
  np.testing.assert_allclose(
      skimage.color.rgb2lab(gray)[..., 0], skimage.color.rgb2lab(x)[..., 0],
      atol=0.5)


def test_luminance_of_every_colour_is_the_formula_rounded():
  """IEC 61966-2-1, in float64."""
  level = np.arange(256) / 255
  linear = np.where(
      level > 0.04045, ((level + 0.055) / 1.055) ** 2.4, level / 12.92)
  green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
  for red in range(256):
    x = np.stack([np.full_like(green, red), green, blue], -1).astype(np.uint8)
    y = linear[x] @ [0.212671, 0.715160, 0.072169]
    want = 255 * np.where(
        y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y)
    got = patch_ops.luminance(x).numpy()
    assert np.abs(got - want[..., None]).max() < 0.5 + 1e-3

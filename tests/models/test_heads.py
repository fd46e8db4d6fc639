"""Heads read the places they are asked about, in order."""

import jax
import numpy as np
import pytest

from mtvit.models import heads
from mtvit.models import interface


def features(seed=0):
  rng = np.random.default_rng(seed)
  return interface.Features(
      tokens={"ct": rng.standard_normal((2, 16), np.float32)},
      patches=rng.standard_normal((2, 9, 16), np.float32))


def apply(head, queries, f):
  variables = head.init(jax.random.key(0), f, queries)
  return head.apply(variables, f, queries)


def test_token_head_reads_its_token_only():
  f = features()
  head = heads.TokenHead("ct", (8,), 4)
  want = apply(head, {}, f)
  assert want.shape == (2, 4)
  np.testing.assert_array_equal(
      want, apply(head, {}, f.replace(patches=f.patches + 1)))


def test_patch_head_is_shared_and_reads_k_patches_only():
  f = features()
  ids = np.array([[3, 5, 3], [0, 8, 0]])
  out = np.asarray(apply(heads.PatchHead((8,), 4), {"ids": ids}, f))
  assert out.shape == (2, 3, 4)
  np.testing.assert_array_equal(out[:, 0], out[:, 2])
  changed = f.patches.copy()
  changed[:, 1] += 1                       # Nobody asked about patch 1.
  np.testing.assert_array_equal(
      out, apply(heads.PatchHead((8,), 4), {"ids": ids},
                 f.replace(patches=changed)))


@pytest.mark.parametrize("s", [2, 4])
def test_group_head_sees_the_order_of_its_own_group(s):
  f = features()
  groups = np.random.default_rng(1).permuted(
      np.tile(np.arange(9), (2, 3, 1)), axis=-1)[..., :s]   # [2, 3, s]
  groups[:, 1] = groups[:, 0, ::-1]
  groups[:, 2] = groups[:, 0]
  head = heads.GroupHead((8,), 4)
  out = np.asarray(apply(head, {"ids": groups}, f))
  assert out.shape == (2, 3, 4)
  assert np.abs(out[:, 0] - out[:, 1]).min() > 1e-4
  np.testing.assert_array_equal(out[:, 0], out[:, 2])
  # Every member is read, and nothing of the other groups or views.
  for member in range(s):
    patches = f.patches.copy()
    patches[0, groups[0, 0, member]] += 1
    changed = np.asarray(apply(head, {"ids": groups}, f.replace(
        patches=patches)))
    assert np.abs(changed[0, 0] - out[0, 0]).max() > 1e-4
    np.testing.assert_array_equal(changed[1], out[1])


def test_group_head_is_its_mlp_on_the_concatenated_outputs():
  f = features()
  groups = np.array([[[3, 5, 1]], [[0, 8, 2]]])
  head = heads.GroupHead((), 4)                             # A linear map.
  variables = head.init(jax.random.key(0), f, {"ids": groups})
  out = variables["params"]["mlp"]["out"]
  want = [np.concatenate([f.patches[view, i] for i in ids]) @ out["kernel"]
          for view, ids in enumerate(groups[:, 0])]
  np.testing.assert_allclose(
      head.apply(variables, f, {"ids": groups})[:, 0], want, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e19, 1e25, 1e36])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_rows_of_any_length_get_length_1(scale, wrap):
  z = np.array([[3, 4], [0, 0], [0, -5]], np.float32) * np.float32(scale)
  np.testing.assert_allclose(
      wrap(heads.normalise)(z), [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)
  # d(z / |z|) = (1 - u uT) / |z|: for the first value 0.64 and -0.48, over 5.
  gradient = wrap(jax.grad(lambda z: heads.normalise(z)[:, 0].sum()))(z)
  assert np.isfinite(gradient).all()
  np.testing.assert_allclose(
      np.asarray(gradient[0], np.float64) * 5 * scale, [0.64, -0.48],
      rtol=1e-5)
  np.testing.assert_allclose(
      np.asarray(gradient[2], np.float64) * 5 * scale, [1, 0], atol=1e-6)

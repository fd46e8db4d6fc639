"""Heads read the places they are asked about, in order."""

import jax
import numpy as np

from mtvit.models import heads
from mtvit.models import vit


def features(seed=0):
  rng = np.random.default_rng(seed)
  return vit.Features(
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


def test_pair_head_sees_the_order():
  f = features()
  pairs = np.array([[[3, 5], [5, 3]], [[0, 8], [8, 0]]])
  out = np.asarray(apply(heads.PairHead((8,), 4), {"ids": pairs}, f))
  assert out.shape == (2, 2, 4)
  assert np.abs(out[:, 0] - out[:, 1]).min() > 1e-4

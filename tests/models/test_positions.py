"""Sines and cosines, and rotary positions."""

import math

import numpy as np

from mtvit.models import positions


def test_sincos_positions_tell_places_apart():
  found = positions.sincos_positions(3, 5, 96)
  assert found.shape == (15, 96)
  # Places of one row share the row's half, places of one column the other.
  grid = found.reshape(3, 5, 96)
  np.testing.assert_array_equal(grid[:, :1, :48], grid[:, 4:, :48])
  np.testing.assert_array_equal(grid[:1, :, 48:], grid[2:, :, 48:])
  np.testing.assert_allclose(grid[2, 3, [0, 24, 48, 72]], [
      math.sin(2), math.cos(2), math.sin(3), math.cos(3)], rtol=1e-6)
  distance = np.linalg.norm(found[:, None] - found[None], axis=-1)
  assert distance[~np.eye(15, dtype=bool)].min() > 1


def test_rotary_angles_by_hand():
  angles = positions.rotary_angles(2, 4, 8, 100.0)          # [8, 4]
  # Centres of two rows are at -1/2 and 1/2; of four columns at -3/4 to 3/4; the
  # periods are 1 and 100^(1/2).
  np.testing.assert_allclose(
      angles[6] / (2 * math.pi), [0.5, 0.05, 0.25, 0.025], rtol=1e-6)
  np.testing.assert_allclose(
      angles[0] / (2 * math.pi), [-0.5, -0.05, -0.75, -0.075], rtol=1e-6)


def test_rotary_logits_depend_on_differences_of_places_alone():
  rng = np.random.default_rng(0)
  q, k = rng.standard_normal((2, 32), np.float32)
  angles = positions.rotary_angles(6, 6, 32, 100.0)         # [36, 16]
  turned = lambda x: np.asarray(positions.rotate(x[None], angles))
  np.testing.assert_allclose(                               # A rotation.
      np.linalg.norm(turned(q), axis=-1), np.linalg.norm(q), rtol=1e-6)
  logits = (turned(q) @ turned(k).T).reshape(6, 6, 6, 6)
  found = {}
  for place in np.ndindex(6, 6, 6, 6):
    step = place[2] - place[0], place[3] - place[1]
    found.setdefault(step, []).append(logits[place])
  assert max(np.ptp(x) for x in found.values()) < 1e-4
  # The other way, and any other way, is another logit.
  means = np.array([np.mean(x) for x in found.values()])
  assert len(means) == 121 and np.diff(np.sort(means)).min() > 1e-6


def test_rotation_keeps_the_dtype_and_leaves_angle_0_alone():
  x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float16)
  found = positions.rotate(x, np.zeros((3, 4), np.float32))
  assert found.dtype == np.float16
  np.testing.assert_array_equal(found, x)

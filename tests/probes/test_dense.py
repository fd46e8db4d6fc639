"""Mosaics: which image lies under which patch, by hand."""

import numpy as np
import pytest

from mtvit.probes import dense
from mtvit.probes import linear


def flat(m, side=4):
  """Image i has value i everywhere."""
  return np.broadcast_to(
      np.arange(m, dtype=np.uint8)[:, None, None, None], (m, side, side, 3))


def test_shrinking_is_the_mean_of_four_pixels():
  image = np.zeros((1, 4, 4, 3), np.uint8)
  image[0, :2, :2, 0] = [[1, 2], [3, 4]]      # 2.5 rounds up
  image[0, :2, 2:, 0] = 255
  image[0, 2:, :2, 1] = [[0, 0], [0, 1]]
  want = np.zeros((1, 2, 2, 3), np.uint8)
  want[0, 0, 0, 0], want[0, 0, 1, 0] = 3, 255
  np.testing.assert_array_equal(dense.shrink(image), want)


def test_each_quadrant_shows_the_image_of_its_class():
  labels = np.arange(10) + 100
  found = dense.mosaics(flat(10), labels)
  assert found.images.shape == (2, 8, 8, 3) and found.classes.shape == (2, 4)
  assert len(np.unique(found.classes)) == 8     # No image is there twice.
  for image, classes in zip(found.images, found.classes):
    for q, corner in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
      part = image[corner[0]:corner[0] + 4, corner[1]:corner[1] + 4]
      assert (part == classes[q] - 100).all()


def test_orientation_inside_a_quadrant():
  small = np.arange(4 * 2 * 2 * 3, dtype=np.uint8).reshape(4, 2, 2, 3)
  found = dense.mosaics(small, np.arange(4))
  top_right = small[found.classes[0, 1]]
  np.testing.assert_array_equal(found.images[0, :2, 2:], top_right)


def test_quadrants_of_small_grids():
  assert dense.quadrants((4, 4)).reshape(4, 4).tolist() == [
      [0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
  assert dense.quadrants((6, 6)).reshape(6, 6).tolist() == (
      [[0, 0, 0, 1, 1, 1]] * 3 + [[2, 2, 2, 3, 3, 3]] * 3)
  # Middle patches of an odd grid straddle.
  assert dense.quadrants((3, 5)).reshape(3, 5).tolist() == [
      [0, 0, -1, 1, 1], [-1] * 5, [2, 2, -1, 3, 3]]
  assert (dense.quadrants((1, 1)) == -1).all()


def test_labels_of_patches():
  classes = np.array([[5, 6, 7, 8]])
  every = dense.pick((4, 4), 16)
  assert dense.patch_labels(classes, (4, 4), every).tolist() == [
      [5, 5, 6, 6, 5, 5, 6, 6, 7, 7, 8, 8, 7, 7, 8, 8]]
  corners = dense.pick((3, 3), 16)
  assert corners.tolist() == [0, 2, 6, 8]
  assert dense.patch_labels(classes, (3, 3), corners).tolist() == [[5, 6, 7, 8]]


def test_no_more_patches_than_asked_for():
  found = dense.pick((7, 7), 10)
  assert len(set(found)) == 10 and (dense.quadrants((7, 7))[found] >= 0).all()
  assert found.tolist() == sorted(found)


def probed(rng, shuffle):
  """The probe on tokens that show the class of their quadrant, and noise."""
  ids = dense.pick((4, 4), 16)
  sets = []
  for m in (800, 600):
    classes = dense.mosaics(flat(m), rng.integers(0, 4, m)).classes
    labels = dense.patch_labels(classes, (4, 4), ids)
    x = np.eye(4)[labels] + 0.3 * rng.standard_normal((*labels.shape, 4))
    if shuffle:
      labels = dense.patch_labels(rng.permutation(classes), (4, 4), ids)
    sets.append((x.astype(np.float32), labels))
  (x, labels), (test, test_labels) = sets
  probe = linear.fit(x.reshape(-1, 4), labels.ravel(), 4, 1e-3)
  return dense.score(
      probe.predict(test.reshape(-1, 4)).reshape(test_labels.shape),
      test_labels)


def test_labels_follow_the_mosaics_and_shuffled_ones_are_chance():
  assert probed(np.random.default_rng(0), False)["accuracy"] > 0.9
  found = probed(np.random.default_rng(0), True)
  assert abs(found["accuracy"] - 0.25) < 0.06
  assert found["low"] < 0.27 and 0.25 <= found["chance"] < 0.32


def test_the_interval_is_over_mosaics():
  # A mosaic is all right or all wrong: 100 coin flips, whatever k is.
  labels = np.ones((100, 16), int)
  guesses = labels * (np.arange(100) < 50)[:, None]
  found = dense.score(guesses, labels)
  assert found["accuracy"] == 0.5 and found["chance"] == 1
  assert found["high"] - found["low"] == pytest.approx(0.196, abs=0.03)
  assert found["low"] == pytest.approx(0.402, abs=0.03)

"""Views of one image against plain implementations, for given numbers."""

import numpy as np
import pytest

from mtvit.data import image_ops
from mtvit.data import photo_crops
from mtvit.data import views
from tests.data import plain

PHOTOGRAPHS = ("astronaut", "coffee", "china")


def matrix(amounts, strength=0.5, jitter=True, gray=False):
  """What `make` wants to know of a view's colour jitter."""
  return image_ops.color_matrices(
      jitter=np.array([jitter]), gray=np.array([gray]),
      amounts=np.array([amounts], np.float32), strength=strength,
      mean=np.ones((1, 3), np.float32)).numpy()[0]


IDENTITY = np.eye(3, 4, dtype=np.float32)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("gray", [False, True])
def test_color_equals_the_chain_of_plain_operations(seed, strength, gray):
  amounts = np.random.default_rng(seed).uniform(-1, 1, 4)
  x = photo_crops.load(PHOTOGRAPHS[seed % 3])[:90, :120]
  got = views.recolor(x, matrix(amounts, strength, gray=gray))
  want = plain.rounded(plain.color(
      x.astype(np.float64), amounts, strength, gray))
  assert np.abs(got - want).max() <= 1
  if gray:
    assert (np.ptp(got.astype(int), axis=-1) == 0).all()


def test_without_jitter_colours_stay():
  x = np.arange(256 * 3, dtype=np.uint8).reshape(16, 16, 3)
  amounts = [1, 1, 1, 1]
  np.testing.assert_array_equal(
      views.recolor(x, matrix(amounts, jitter=False)), x)


def test_a_view_is_all_of_it_in_order():
  """Each view by its own numbers, against plain operations in a row."""
  photo = photo_crops.load("coffee")
  rng = np.random.default_rng(3)
  boxes = np.array(
      [[0, 0, 400, 600], [40, 60, 200, 150], [10, 300, 90, 100],
       [99, 5, 260, 300], [0, 0, 100, 100], [50, 50, 250, 250]], np.float32)
  flip = np.array([True, False, True, False, True, False])
  sigma = np.array([0, 1.2, 2.0, 0.4, 0, 0.8], np.float32)
  amounts = rng.uniform(-1, 1, (6, 4))
  gray = np.array([False, False, True, False, False, False])
  solarized = np.array([False, True, False, False, True, True])
  got = views.make(
      photo, np.array(photo.shape[:2]), views.Drawn(
          boxes, flip, sigma,
          np.stack([matrix(a, gray=g) for a, g in zip(amounts, gray)]),
          solarized), 112)
  assert got.shape == (6, 112, 112, 3) and got.dtype == np.uint8
  for i in range(6):
    x = plain.resize(photo, boxes[i], 112)
    x = x[:, ::-1] if flip[i] else x
    x = plain.blur(x, sigma[i], 5) if sigma[i] else x
    x = plain.rounded(plain.color(x, amounts[i], 0.5, gray[i]))
    # A level of 127 or 128 may fall on the other side.
    near = solarized[i] & (np.abs(x - 127.5) < 8)
    x = plain.solarize(x) if solarized[i] else x
    apart = np.abs(got[i] - x)[~near]
    # Rounded after each step; colour makes up to twice as much of it.
    assert apart.mean() < 0.7 and apart.max() < 4, i


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_boxes_are_those_of_the_full_image(ratio):
  rng = np.random.default_rng(0)
  small = rng.integers(0, 256, (45, 61, 3), np.uint8)
  full = np.array([45 * ratio - ratio // 2, 61 * ratio])
  boxes = np.array([[3, 5, 32, 40], [0, 0, 32, 32], [11, 20, 33.5, 35]])
  off = np.zeros(3, bool)
  got = views.make(
      small, full, views.Drawn(
          (boxes * ratio).astype(np.float32), off, np.zeros(3, np.float32),
          np.stack([IDENTITY] * 3), off), 32)
  for x, box in zip(got, boxes):
    assert np.abs(x - plain.resize(small, box, 32)).max() <= 1


def test_solarized_exactly():
  ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
  boxes = np.array([[0, 0, 16, 16]] * 2, np.float32)
  off = np.zeros(2, bool)
  got = views.make(
      ramp, np.array([16, 16]), views.Drawn(
          boxes, off, np.zeros(2, np.float32), np.stack([IDENTITY] * 2),
          np.array([False, True])), 16)
  np.testing.assert_array_equal(got[0], ramp)
  np.testing.assert_array_equal(got[1], plain.solarize(ramp))


def test_the_image_stays_as_it_is():
  photo = photo_crops.load("astronaut")[:40, :40].copy()
  before = photo.copy()
  views.make(
      photo, np.array([40, 40]), views.Drawn(
          np.array([[0, 0, 40, 40]], np.float32), np.array([True]),
          np.array([1.0], np.float32), matrix([1, 1, 1, 1])[None],
          np.array([True])), 40)
  np.testing.assert_array_equal(photo, before)


def test_rotate_turns_as_numpy_does():
  x = np.random.default_rng(0).integers(0, 256, (8, 10, 10, 3), np.uint8)
  before, turns = x.copy(), np.arange(8, dtype=np.int32) % 4
  got = views.rotate(x, turns)
  np.testing.assert_array_equal(
      got, [np.rot90(image, k) for image, k in zip(x, turns)])
  np.testing.assert_array_equal(x, before)


def test_look_up_goes_by_red_green_and_blue():
  table = np.zeros(2**24, np.uint8)
  table[1 + 256 * 2 + 65536 * 3], table[-1], table[0] = 7, 9, 4
  x = np.array([[[1, 2, 3], [255, 255, 255], [0, 0, 0]]], np.uint8)
  np.testing.assert_array_equal(
      views.look_up(x, table), [[[7] * 3, [9] * 3, [4] * 3]])

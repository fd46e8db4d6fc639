"""Every way to resize and to blur, against plain sums of weights in float64."""

import types

import numpy as np
import pytest
import tensorflow as tf

from mtvit import encoder
from mtvit.data import image_ops
from mtvit.data import photo_crops
from mtvit.data import resizing
from mtvit.data import views
from tests.data import plain

# Of an image of 120 x 150: whole, up, down, both, thin, single pixels.
BOXES = (
    (0, 0, 120, 150), (30, 50, 20, 17), (10, 20, 64, 64), (5, 9, 100, 31),
    (0, 7, 120, 3), (100, 0, 1, 150), (119, 149, 1, 1), (0, 0, 1, 1),
    (3, 3, 90, 91), (60, 0, 33, 150))
SIDES = (1, 8, 31, 64)


def pictures():
  """Worst cases and an ordinary one, uint8 [120, 150, 3] each."""
  rng = np.random.default_rng(0)
  stripes = np.zeros((120, 150, 3), np.uint8)
  stripes[::2] += 127
  stripes[:, ::3] += 128
  return (
      (rng.integers(0, 2, (120, 150, 3)) * 255).astype(np.uint8), stripes,
      np.ascontiguousarray(photo_crops.load("coffee")[100:220, 200:350]))


def by_matrices(image, box, size):
  """What held images are resized by."""
  h, w, _ = image.shape
  top, left, height, width = (np.array([x], np.float32) for x in box)
  x = image_ops.resample(
      tf.cast(image[None], tf.float32),
      image_ops.crop_matrices(top, height, h, size),
      image_ops.crop_matrices(left, width, w, size))
  return image_ops.to_uint8(x).numpy()[0]


def close(got, want, most=1.001):
  """Within rounding: Pillow rounds twice."""
  assert got.dtype == np.uint8 and got.shape == want.shape
  assert np.abs(got - want).max() <= most


@pytest.mark.parametrize("size", SIDES)
def test_both_routes_and_pillow_have_one_definition(size):
  for image in pictures():
    for box in BOXES:
      want = plain.resize(image, box, size)
      close(resizing.resize(image, box, size), want)
      close(by_matrices(image, box, size), want)
      close(plain.pillow(image, box, size).astype(np.uint8), want)


@pytest.mark.parametrize("shape", [
    (400, 512), (512, 512), (64, 48), (33, 97), (3, 200), (200, 1), (1, 1)])
def test_evaluations_and_notebooks_have_it_too(shape):
  rng = np.random.default_rng(0)
  image = (rng.integers(0, 2, (*shape, 3)) * 255).astype(np.uint8)
  side = min(shape)
  top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
  for size in (16, 64, 96):
    want = plain.resize(image, (top, left, side, side), size)
    close(image_ops.centre(image, size).numpy(), want)
    # What `mtvit.load` gives; "values may differ by 1 of 255".
    notebook, = encoder.Encoder.prepare(
        types.SimpleNamespace(image_size=size, gray=False), [image])
    close(notebook, want)
    close(notebook, image_ops.centre(image, size).numpy().astype(int), most=1)


def test_boxes_of_shrunken_images_have_fractions():
  for image in pictures():
    for box in ((0.5, 0.25, 64.5, 99.75), (10.875, 3.125, 90, 64.125),
                (0, 0, 119.5, 149.125)):
      for size in (31, 64):
        close(resizing.resize(image, box, size),
              plain.resize(image, box, size))


def test_very_wide_and_very_large():
  image = np.full((3, 70_000, 3), (1, 2, 3), np.uint8)
  assert (resizing.resize(image, (0, 0, 3, 70_000), 16) == (1, 2, 3)).all()
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (90, 2100, 3), np.uint8)
  for box in ((0, 0, 90, 2100), (7, 9, 80, 2000)):
    close(resizing.resize(image, box, 40), plain.pillow(image, box, 40), 2)


def test_the_same_size_changes_nothing():
  image = pictures()[0]
  np.testing.assert_array_equal(
      resizing.resize(image, (20, 30, 64, 64), 64), image[20:84, 30:94])


@pytest.mark.parametrize("size", [32, 64, 112])
def test_both_routes_blur_alike_up_to_the_border(size):
  sigmas = np.array([0.1, 0.3, 0.5, 0.8, 1.0, 1.4, 1.7, 2.0], np.float32)
  matrices = image_ops.blur_matrices(sigmas, np.ones(8, bool), size)
  for image in pictures():
    x = resizing.resize(image, (0, 0, 120, 150), size)
    held = image_ops.to_uint8(image_ops.resample(
        np.repeat(x[None].astype(np.float32), 8, 0), matrices, matrices))
    for sigma, its in zip(sigmas.tolist(), held.numpy()):
      want = plain.blur(x.astype(np.float64), sigma, max(1, size // 20))
      close(its, want)
      close(views.blur(x, sigma), want, most=1.5)

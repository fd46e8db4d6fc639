"""Augmentations against plain implementations, eagerly and in tf.data."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from mtvit.data import image_ops
from tests.data import plain


def both(function, *arrays):
  """The result eagerly and inside tf.data; they must be equal."""
  eager = function(*map(tf.constant, arrays)).numpy()
  shapes = [a.shape for a in arrays]
  ds = tf.data.Dataset.from_tensors(arrays).map(
      lambda *xs: function(*map(tf.ensure_shape, xs, shapes)))
  mapped = next(ds.as_numpy_iterator())
  np.testing.assert_allclose(eager, mapped, atol=1e-5)
  return mapped


def images(b=4, h=20, w=30, seed=0):
  return np.random.default_rng(seed).uniform(
      0, 255, (b, h, w, 3)).astype(np.float32)


@pytest.mark.parametrize("out", [8, 20, 41])
def test_crop_and_resize_equals_tf_image(out):
  x = images()
  top = np.array([0, 3, 5, 19], np.float32)
  height = np.array([20, 9, 15, 1], np.float32)
  left = np.array([0, 2, 10, 0], np.float32)
  width = np.array([30, 25, 20, 30], np.float32)

  def resample(x, top, height, left, width):
    return image_ops.resample(
        x, image_ops.crop_matrices(top, height, 20, out),
        image_ops.crop_matrices(left, width, 30, out))

  got = both(resample, x, top, height, left, width)
  for i in range(4):
    t, h, s, w = (int(v[i]) for v in (top, height, left, width))
    want = tf.image.resize(
        x[i, t:t + h, s:s + w], [out, out], antialias=True)
    np.testing.assert_allclose(got[i], want, atol=1e-2)


def test_crop_boxes_lie_inside_and_have_the_area_and_ratio():
  u = np.random.default_rng(0).random((5000, 4), np.float32)
  top, left, h, w = (
      v.numpy() for v in image_ops.crop_boxes(u, 200, 200, (0.2, 0.8)))
  assert (top >= 0).all() and (top + h <= 200).all()
  assert (left >= 0).all() and (left + w <= 200).all()
  np.testing.assert_array_equal(top, np.round(top))
  area = h * w / 200**2
  assert 0.19 < area.min() and area.max() < 0.81
  assert area.mean() == pytest.approx(0.5, abs=0.01)
  ratio = np.log(w / h)
  assert abs(ratio).max() < np.log(4 / 3) + 0.03
  assert ratio.mean() == pytest.approx(0, abs=0.02)
  # Every place is reached.
  assert top.min() == 0 and (top + h).max() == 200


def test_flip_mirrors_where_told():
  x = images()
  flip = np.array([True, False, True, False])

  def run(x, flip):
    rows = tf.eye(20, batch_shape=[4])
    columns = image_ops.flip_matrices(tf.eye(30, batch_shape=[4]), flip)
    return image_ops.resample(x, rows, columns)

  got = both(run, x, flip)
  want = np.where(flip[:, None, None, None], x[:, :, ::-1], x)
  np.testing.assert_allclose(got, want, atol=1e-3)


def test_blur_equals_scipy_away_from_the_border():
  x = images(h=60, w=60)
  sigma = np.array([0.3, 1.0, 2.0, 1.5], np.float32)
  apply = np.array([True, True, True, False])

  def run(x, sigma, apply):
    blur = image_ops.blur_matrices(sigma, apply, 60)
    return image_ops.resample(x, blur, blur)

  got = both(run, x, sigma, apply)
  for i in range(3):
    want = scipy.ndimage.gaussian_filter(
        x[i].astype(np.float64), (sigma[i], sigma[i], 0), radius=3)
    np.testing.assert_allclose(got[i, 3:-3, 3:-3], want[3:-3, 3:-3], atol=1e-2)
  np.testing.assert_allclose(got[3], x[3], atol=1e-3)
  flat = run(np.full_like(x, 77), sigma, apply)      # Normalised at borders.
  np.testing.assert_allclose(flat, 77, atol=1e-3)


def test_color_equals_the_chain_of_plain_operations():
  x = images(b=6)
  rng = np.random.default_rng(1)
  amounts = rng.uniform(-1, 1, (6, 4)).astype(np.float32)
  jitter = np.array([True, True, True, True, False, False])
  gray = np.array([False, False, True, True, True, False])

  def run(x, amounts, jitter, gray):
    return image_ops.apply_color(x, image_ops.color_matrices(
        jitter=jitter, gray=gray, amounts=amounts, strength=0.5,
        mean=tf.reduce_mean(x, axis=(1, 2))))

  got = both(run, x, amounts, jitter, gray)
  for i in range(6):
    chosen = amounts[i] if jitter[i] else np.zeros(4)
    want = plain.color(x[i].astype(np.float64), chosen, 0.5, gray[i])
    np.testing.assert_allclose(got[i], want, atol=0.05)
  np.testing.assert_allclose(got[5], x[5], atol=1e-3)


def test_solarize_and_rounding():
  x = np.array([0, 127.4, 128, 255, -3, 300], np.float32)
  x = np.repeat(x.reshape(1, 1, 6, 1), 3, 3)
  got = both(lambda x: image_ops.to_uint8(image_ops.solarize(
      x, tf.constant([True]))), x)
  np.testing.assert_array_equal(got[0, 0, :, 0], [0, 127, 127, 0, 0, 0])
  np.testing.assert_array_equal(
      image_ops.to_uint8(x).numpy()[0, 0, :, 0], [0, 127, 128, 255, 0, 255])

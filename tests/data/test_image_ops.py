"""Augmentations against plain implementations, eagerly and in tf.data."""

import numpy as np
import pytest
import scipy.stats
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


SIZES = ((375, 500), (32, 32), (500, 100), (64, 48), (30, 200))


def boxes(height, width, scale, count, seed=0):
  """Boxes of random crops, float64 [count, 4], eagerly and in tf.data."""
  rng = np.random.default_rng(seed)
  u = rng.random((count, 10, 2), np.float32)
  place = rng.random((count, 2), np.float32)
  got = both(
      lambda u, place: image_ops.crop_boxes(
          image_ops.crop_sides(u, scale), place, height, width), u, place)
  return got.astype(np.float64)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.9, 1.0)])
@pytest.mark.parametrize("height, width", SIZES)
def test_crops_are_distributed_as_torchvisions(height, width, scale):
  rng = np.random.default_rng(1)
  want = np.array(
      [plain.crop(rng, height, width, scale) for _ in range(3000)], float)
  got = boxes(height, width, scale, 20_000)
  for name, of in {
      "area": lambda x: x[:, 2] * x[:, 3],
      "aspect": lambda x: x[:, 3] / x[:, 2],
      "top": lambda x: x[:, 0], "left": lambda x: x[:, 1],
      "height": lambda x: x[:, 2], "width": lambda x: x[:, 3],
      "a whole side": lambda x: (x[:, 2:] == (height, width)).any(1),
  }.items():
    p = scipy.stats.ks_2samp(of(got), of(want)).pvalue
    assert p > 0.01, (name, p)


def test_each_crop_is_the_first_try_that_fits():
  rng = np.random.default_rng(2)
  for height, width in ((375, 500), (33, 47), (48, 64), (500, 100), (1, 1)):
    u = rng.random((500, 10, 2), np.float32)
    place = rng.random((500, 2), np.float32)
    sides = image_ops.crop_sides(u, (0.5, 1.0)).numpy()
    got = image_ops.crop_boxes(sides, place, height, width).numpy()
    np.testing.assert_allclose(
        sides.prod(-1), 0.5 + 0.5 * u[..., 0], rtol=1e-5)
    np.testing.assert_allclose(
        np.log(sides[..., 1] / sides[..., 0]),
        (2 * u[..., 1] - 1) * np.log(4 / 3), atol=1e-5)
    fell_back = 0
    for box, tries, its in zip(got, sides, place):
      tries = np.round(tries * np.sqrt(np.float32(height * width)))
      good = [(h, w) for h, w in tries if 1 <= h <= height and 1 <= w <= width]
      if good:
        h, w = good[0]
        want = (*np.floor(its * (height - h + 1, width - w + 1)), h, w)
      else:
        h = min(height, round(width * 4 / 3))
        w = min(width, round(height * 4 / 3))
        want = ((height - h) // 2, (width - w) // 2, h, w)
        fell_back += 1
      np.testing.assert_array_equal(box, want)
      assert min(box) >= 0 and box[0] + h <= height and box[1] + w <= width
    assert (fell_back == 500) == (width == 100)


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


def test_blur_is_that_of_scipy():
  x = images(h=60, w=60)
  sigma = np.array([0.3, 1.0, 2.0, 1.5], np.float32)
  apply = np.array([True, True, True, False])

  def run(x, sigma, apply):
    blur = image_ops.blur_matrices(sigma, apply, 60)
    return image_ops.resample(x, blur, blur)

  got = both(run, x, sigma, apply)
  for i in range(3):
    want = plain.blur(x[i].astype(np.float64), sigma[i], 3)
    np.testing.assert_allclose(got[i], want, atol=1e-2)
  np.testing.assert_allclose(got[3], x[3], atol=1e-3)


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

"""Colorization: the corruption, its undoing, and the loss by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color

from mtvit.tasks import base
from mtvit.tasks import colorize
from mtvit.tasks import picture
from tests.tasks import helpers

STATISTICS = {"mean": [2.0, 4.0], "deviation": [12.0, 25.0]}


def make(size=48, patch=8, **changes):
  fields = dict(
      mode="train", weight=1.0, num_patches=5, target="pixel", hidden_dim=8,
      statistics=STATISTICS)
  return colorize.Colorize(
      **(fields | changes), geometry=base.Geometry(size, patch, 6))


@pytest.mark.parametrize("seed, size, patch, k", [
    (0, 48, 8, 5), (1, 32, 4, 20), (2, 48, 16, 9), (3, 36, 6, 1)])
@pytest.mark.parametrize("in_dataset", [False, True])
def test_corruption(seed, size, patch, k, in_dataset):
  images = helpers.views(seed, size=size)
  task = make(size, patch, num_patches=k)
  batch = helpers.corrupt(
      images, [task], patch, seed=seed, in_dataset=in_dataset)
  ids = batch["queries"]["colorize"]["ids"]
  assert ids.shape == (6, k) and all(len(set(row)) == k for row in ids)
  chosen = np.zeros((6, (size // patch) ** 2), bool)
  np.put_along_axis(chosen, ids, True, axis=1)
  # Only the chosen patches change, and they are gray of the same lightness.
  np.testing.assert_array_equal(
      helpers.changed(images, batch["image"], patch), chosen)
  before, after = (
      helpers.cut(x, patch)[chosen] for x in (images, batch["image"]))
  assert (after == after[..., :1]).all()
  lightness = lambda x: skimage.color.rgb2lab(x)[..., 0]
  np.testing.assert_allclose(lightness(before), lightness(after), atol=0.4)
  # The answers undo it.
  restored = np.stack([
      picture.paste(*row) for row in zip(
          batch["image"], ids, batch["answers"]["colorize"]["pixels"])])
  np.testing.assert_array_equal(restored, images)
  assert not batch["hide_position"].any()


def test_pixel_color_with_the_kept_lightness_undoes_it():
  images = helpers.views(0)
  task = make()
  batch = helpers.corrupt(images, [task], 8)
  pixels = batch["answers"]["colorize"]["pixels"]
  ab = skimage.color.rgb2lab(pixels)[..., 1:].reshape(6, 5, -1, 2)
  perfect = (ab - STATISTICS["mean"]) / STATISTICS["deviation"]
  for view in range(6):
    panels = task.panels(
        batch["image"][view], jax.tree.map(
            lambda x, view=view: x[view], batch["queries"]["colorize"]),
        jax.tree.map(
            lambda x, view=view: x[view], batch["answers"]["colorize"]),
        perfect[view].reshape(5, -1).astype(np.float32))
    assert [p.title for p in panels] == [
        "what the model sees", "predicted colours", "true colours"]
    difference = panels[1].image.astype(int) - images[view]
    assert np.abs(difference).max() <= 1


def answers_of(pixels, gray_view, around=None):
  b, k = pixels.shape[:2]
  found = np.full((b, k), around is not None)
  around = np.zeros((b, k, 3), np.float32) if around is None else around
  return dict(
      pixels=pixels, gray_view=gray_view, around=around, around_found=found)


@pytest.mark.parametrize("target", ["mean", "pixel"])
def test_loss_by_hand(target):
  task = make(target=target, num_patches=2)
  pixels = np.random.default_rng(0).integers(
      0, 256, (3, 2, 8, 8, 3), np.uint8)
  around = np.random.default_rng(1).uniform(0, 255, (3, 2, 3))
  gray = np.array([False, True, False])
  shape = (3, 2, 2 if target == "mean" else 128)
  predicted = np.random.default_rng(2).standard_normal(shape, np.float32)
  found = STATISTICS
  ab = skimage.color.rgb2lab(pixels)[..., 1:].reshape(3, 2, 64, 2)
  if target == "mean":
    ab = ab.mean(2, keepdims=True)
  want = (ab - found["mean"]) / found["deviation"]
  near = (skimage.color.rgb2lab(around / 255)[..., None, 1:]
          - found["mean"]) / found["deviation"]
  error = (predicted.reshape(want.shape) - want)[~gray]
  loss, metrics = jax.jit(task.loss)(
      predicted, answers_of(pixels, gray, around.astype(np.float32)))
  assert float(loss) == pytest.approx((error**2).mean(), rel=1e-4)
  assert float(metrics["skill"]) == pytest.approx(
      1 - (error**2).mean() / (want[~gray] ** 2).mean(), abs=1e-4)
  assert float(metrics["skill_local"]) == pytest.approx(
      1 - (error**2).mean() / ((near - want)[~gray] ** 2).mean(), abs=1e-4)
  assert float(metrics["error_ab"]) == pytest.approx(
      (np.abs(error) * found["deviation"]).mean(), rel=1e-4)


def test_gray_views_have_no_loss_and_no_gradient():
  task = make(num_patches=2)
  pixels = np.random.default_rng(0).integers(
      0, 256, (2, 2, 8, 8, 3), np.uint8)
  loss = lambda predicted, gray: task.loss(
      predicted, answers_of(pixels, np.array(gray)))[0]
  predicted = jnp.ones((2, 2, 128))
  grad = jax.grad(loss)(predicted, [True, False])
  assert not np.any(grad[0]) and np.any(grad[1])
  assert float(loss(predicted, [True, True])) == 0


def test_neighbours_are_those_that_nobody_changed():
  # The red of patches is their id; 0 and 1 of a 3x3 grid are claimed. 0 is
  # black, so it stays as it was.
  images = np.repeat(np.repeat(
      np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1), 8, 1), 8, 2)
  images = images * np.array([1, 2, 0], np.uint8)

  class Fixed(colorize.Colorize):
    def claim(self, layout, draw):
      import tensorflow as tf
      return tf.constant([[0, 1]])

  fields = dict(
      mode="train", weight=1.0, num_patches=2, target="pixel", hidden_dim=8)
  answers = helpers.corrupt(
      images, [Fixed(**fields)], 8)["answers"]["colorize"]
  # Of 0: 3 and 4. Of 1: 0, 2, 3, 4 and 5.
  np.testing.assert_allclose(
      answers["around"][0, :, 0], [(3 + 4) / 2, (2 + 3 + 4 + 5) / 5])
  assert answers["around_found"].all()


@pytest.mark.parametrize("target", ["mean", "pixel"])
def test_statistics_are_the_mean_and_deviation_of_colored_views(target):
  images = helpers.views(5, b=4, size=16)
  gray = np.array([False, True, False, False])
  got = make(16, 8, target=target, statistics={}).statistics_of(
      [{"image": images, "gray_view": gray}])
  ab = skimage.color.rgb2lab(helpers.cut(images[~gray], 8))[..., 1:]
  if target == "mean":
    ab = ab.mean((2, 3))
  ab = ab.reshape(-1, 2)
  np.testing.assert_allclose(got["mean"], ab.mean(0), atol=1e-2)
  np.testing.assert_allclose(
      got["deviation"], np.maximum(ab.std(0), 1), rtol=1e-3)


@pytest.mark.parametrize("changes", [
    dict(target="lab"), dict(num_patches=0), dict(mode="on")])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)

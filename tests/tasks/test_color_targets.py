"""Colour bins against Zhang et al.'s equations in plain float64 numpy."""

import json

import jax
import numpy as np
import pytest
import skimage.color

from mtvit.tasks import base
from mtvit.tasks import color_targets
from mtvit.tasks import colorize
from tests.tasks import helpers

PATCH = 8


def photographs(seed, b=12, size=48):
  """Smooth colourful views, unlike noise, whose cells are all gray."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:size, :size] / size
  phase = rng.uniform(0, 6, (b, 1, 1, 3))
  right, down = rng.uniform(-4, 4, (2, b, 1, 1, 3))
  waves = np.sin(phase + right * x[..., None] + down * y[..., None])
  return np.uint8(127.5 + 120 * waves)


def make(images, gray=None, **changes):
  """A task that has measured the images."""
  fields = dict(
      mode="train", weight=1.0, num_patches=4, target="bins", hidden_dim=8,
      geometry=base.Geometry(images.shape[1], PATCH, 2 * len(images)))
  gray = np.zeros(len(images), bool) if gray is None else gray
  found = colorize.Colorize(**(fields | changes)).statistics_of(
      [{"image": images, "gray_view": gray}])
  # What a checkpoint keeps of it.
  return colorize.Colorize(
      **(fields | changes), statistics=json.loads(json.dumps(found)))


def cell_colors(patches, side=4):
  """Mean a and b of each cell of [..., p, p, 3]: [..., q, 2]."""
  ab = skimage.color.rgb2lab(patches)[..., 1:]
  p = ab.shape[-2]
  return np.stack([
      ab[..., y:y + side, x:x + side, :].mean((-3, -2))
      for y in range(0, p, side) for x in range(0, p, side)], axis=-2)


def soft(ab, centres):
  """The soft encoding of one colour."""
  distance = np.hypot(*(centres - ab).T)
  nearest = np.argsort(distance)[:5]
  target = np.zeros(len(centres))
  target[nearest] = np.exp(-distance[nearest] ** 2 / (2 * 5.0**2))
  return target / target.sum()


def weights_of(prior):
  w = 1 / (0.5 * prior + 0.5 / len(prior))
  return w / np.sum(prior * w)


def test_gamut_has_every_color_and_only_colors():
  centres = color_targets.gamut()
  assert not (centres % 10).any()
  assert len(np.unique(centres, axis=0)) == len(centres)
  level = np.linspace(0, 1, 52)
  rgb = np.stack(np.meshgrid(level, level, level), -1).reshape(1, -1, 3)
  ab = skimage.color.rgb2lab(rgb)[0, :, 1:]
  seen = np.unique(np.round(ab / 10), axis=0) * 10
  have = {tuple(c) for c in centres.tolist()}
  assert {tuple(c) for c in seen.tolist()} <= have
  # A coarse cube misses what only the edges of the gamut reach.
  assert len(have) - len(seen) <= 3


def test_encoding_is_shared_by_the_five_nearest_bins():
  centres = color_targets.gamut()
  ab = np.random.default_rng(0).uniform(-60, 60, (40, 2)).astype(np.float32)
  got = np.asarray(jax.jit(color_targets.encode)(ab, centres))
  np.testing.assert_allclose(
      got, [soft(x, centres) for x in ab], atol=1e-5)
  assert ((got > 0).sum(1) == 5).all()


def test_rebalancing_by_hand():
  # 1 / (0.5 p + 0.5 / 2): 1 / 0.7 and 1 / 0.3; mean 0.9 / 0.7 + 0.1 / 0.3.
  mean = 0.9 / 0.7 + 0.1 / 0.3
  np.testing.assert_allclose(
      color_targets.rebalanced(np.array([0.9, 0.1])),
      [1 / 0.7 / mean, 1 / 0.3 / mean])


def test_measured_prior_and_constant():
  images = photographs(0)
  gray = np.arange(12) % 4 == 1
  found = make(images, gray).statistics
  centres = np.asarray(found["centres"])
  ab = cell_colors(helpers.cut(images[~gray], PATCH)).reshape(-1, 2)
  np.testing.assert_allclose(found["mean"], ab.mean(0), atol=1e-2)
  np.testing.assert_allclose(found["deviation"], ab.std(0), rtol=1e-3)
  targets = np.array([soft(x, centres) for x in ab])
  prior = targets.mean(0)
  # Colours were counted as if rounded to 1, a fifth of sigma.
  np.testing.assert_allclose(found["prior"], prior, atol=2e-3)
  v = weights_of(prior)[targets.argmax(1)]
  constant = (v[:, None] * targets).mean(0)
  constant /= constant.sum()
  np.testing.assert_allclose(found["constant"], constant, atol=3e-3)
  loss = np.mean(-v * (targets @ np.log(constant + 1e-12)))
  assert found["constant_loss"] == pytest.approx(loss, rel=0.01)


def answers_of(pixels, gray):
  around = np.random.default_rng(5).uniform(0, 255, (*pixels.shape[:2], 3))
  return dict(
      pixels=pixels, gray_view=gray, around=around.astype(np.float32),
      around_found=np.ones(pixels.shape[:2], bool))


def test_loss_by_the_definition():
  task = make(photographs(0))
  pixels = helpers.cut(photographs(1, b=3), PATCH)[:, :2]   # [3, 2, 8, 8, 3]
  gray = np.array([False, True, False])
  found = task.statistics
  centres = np.asarray(found["centres"])
  count = len(centres)
  logits = np.random.default_rng(2).standard_normal(
      (3, 2, 4 * count)).astype(np.float32)
  loss, metrics = jax.jit(task.loss)(logits, answers_of(pixels, gray))
  logits = logits.reshape(3, 2, 4, count).astype(np.float64)
  shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  weights = weights_of(np.asarray(found["prior"]))
  want, trivial, errors = [], [], []
  for view in (0, 2):
    for patch in range(2):
      for cell, ab in enumerate(cell_colors(pixels[view, patch])):
        z = soft(ab, centres)
        v = weights[z.argmax()]
        want.append(-v * (z * np.log(shares[view, patch, cell])).sum())
        trivial.append(
            -v * (z * np.log(np.asarray(found["constant"]) + 1e-6)).sum())
        # Annealed mean, equation 5.
        sharp = shares[view, patch, cell] ** (1 / 0.38)
        errors.append(np.abs(sharp / sharp.sum() @ centres - ab).mean())
  assert float(loss) == pytest.approx(np.mean(want), rel=1e-4)
  assert float(metrics["skill"]) == pytest.approx(
      1 - np.mean(want) / np.mean(trivial), abs=1e-3)
  assert float(metrics["error_ab"]) == pytest.approx(
      np.mean(errors), rel=1e-3)


def test_the_constant_has_the_trivial_loss_on_the_training_views():
  images = photographs(0)
  task = make(images)
  pixels = helpers.cut(images, PATCH)
  constant = np.log(np.asarray(task.statistics["constant"]) + 1e-9)
  logits = np.broadcast_to(np.tile(constant, 4), (12, 36, 4 * len(constant)))
  loss, metrics = jax.jit(task.loss)(
      logits.astype(np.float32), answers_of(pixels, np.zeros(12, bool)))
  assert float(loss) == pytest.approx(task.trivial_loss, rel=0.01)
  assert abs(float(metrics["skill"])) < 0.01


def test_a_perfect_prediction_gives_the_colors_back():
  images = photographs(3)
  task = make(images)
  batch = helpers.corrupt(images, [task], PATCH)
  answers = batch["answers"]["colorize"]
  centres = np.asarray(task.statistics["centres"])
  ab = cell_colors(answers["pixels"])                       # [b, k, 4, 2]
  near = ((ab[..., None, :] - centres) ** 2).sum(-1).argmin(-1)
  logits = 50.0 * np.eye(len(centres), dtype=np.float32)[near]
  _, metrics = jax.jit(task.loss)(
      logits.reshape(*ab.shape[:2], -1), answers)
  # Not farther than the nearest bin's centre is.
  assert float(metrics["error_ab"]) == pytest.approx(
      np.abs(centres[near] - ab).mean(), abs=1e-2)
  assert float(metrics["error_ab"]) < 5
  panels = task.panels(
      batch["image"][0], {"ids": batch["queries"]["colorize"]["ids"][0]},
      jax.tree.map(lambda x: x[0], answers), logits[0].reshape(4, -1))
  difference = np.abs(panels[1].image.astype(int) - images[0])
  assert difference.mean() < 5


@pytest.mark.parametrize("patch, cell", [(8, 4), (4, 4), (16, 4), (14, 2)])
def test_cells_divide_the_patch(patch, cell):
  images = photographs(0, b=2, size=4 * patch)
  task = make(images, geometry=base.Geometry(4 * patch, patch, 4))
  head = task.head()
  assert head.out == (patch // cell) ** 2 * len(color_targets.gamut())
  want = cell_colors(images, cell)
  np.testing.assert_allclose(
      np.asarray(color_targets.cell_colors(images, cell)), want, atol=0.02)


def test_gray_data_have_a_prior_too():
  images = np.full((4, 48, 48, 3), 90, np.uint8)
  task = make(images, np.ones(4, bool))
  assert np.isfinite(task.trivial_loss) and task.trivial_loss > 0

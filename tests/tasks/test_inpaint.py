"""Inpainting: what is missing, what replaces it, and the loss by hand."""

import itertools

import jax
import numpy as np
import pytest
import tensorflow as tf

from mtvit.tasks import base
from mtvit.tasks import inpaint
from mtvit.tasks import picture
from mtvit.tasks import relative_position
from tests.tasks import helpers

STATISTICS = {
    "mean": [0.5, 0.4, 0.3], "deviation": [0.2, 0.25, 0.3],
    "absolute": {"normalised": 0.8, "pixels": 0.7}}


def make(size=48, patch=8, **changes):
  fields = dict(
      mode="train", weight=1.0, num_patches=5, region="whole", fill="mask",
      shape="random", target="normalised", error="squared", scope="missing",
      hidden_dim=8, statistics=STATISTICS)
  return inpaint.Inpaint(
      **(fields | changes), geometry=base.Geometry(size, patch, 6))


def run(images, task, patch=8, **options):
  batch = helpers.corrupt(images, [task], patch, **options)
  return (batch["image"], batch["queries"]["inpaint"]["ids"],
          batch["answers"]["inpaint"])


@pytest.mark.parametrize("seed, size, patch, k", [
    (0, 48, 8, 5), (1, 32, 4, 20), (2, 48, 16, 9), (3, 36, 6, 1)])
@pytest.mark.parametrize("region", ["whole", "part"])
@pytest.mark.parametrize("shape, in_dataset", [
    ("random", False), ("blocks", True)])
def test_only_what_is_missing_changes(
    seed, size, patch, k, region, shape, in_dataset):
  images = helpers.views(seed, size=size)
  task = make(size, patch, num_patches=k, region=region, shape=shape)
  image, ids, answers = run(
      images, task, patch, seed=seed, in_dataset=in_dataset)
  assert ids.shape == (6, k) and all(len(set(row)) == k for row in ids)
  before, after = helpers.cut(images, patch), helpers.cut(image, patch)
  chosen = np.zeros(before.shape[:2], bool)
  np.put_along_axis(chosen, ids, True, axis=1)
  np.testing.assert_array_equal(after[~chosen], before[~chosen])
  rows = np.arange(6)[:, None]
  missing = answers["missing"]                              # [6, k, p, p]
  np.testing.assert_array_equal(
      after[rows, ids],
      np.where(missing[..., None], 128, before[rows, ids]))
  assert missing.all() == (region == "whole") and missing.any((2, 3)).all()
  # The answers undo it.
  restored = np.stack([
      picture.paste(*row) for row in zip(image, ids, answers["pixels"])])
  np.testing.assert_array_equal(restored, images)


@pytest.mark.parametrize("p", [1, 2, 3, 8, 16])
def test_parts_are_rectangles_of_a_quarter_to_three_quarters(p):
  images = np.zeros((64, 4 * p, 4 * p, 3), np.uint8)
  _, _, answers = run(
      images, make(4 * p, p, num_patches=16, region="part"), p)
  missing = answers["missing"].reshape(-1, p, p)
  height, width = missing.any(2).sum(1), missing.any(1).sum(1)
  np.testing.assert_array_equal(missing.sum((1, 2)), height * width)
  for mask, h, w in zip(missing, height, width):
    y, x = mask.any(1).argmax(), mask.any(0).argmax()
    assert mask[y:y + h, x:x + w].all()
  sides = np.arange(max(1, p // 4), max(1, 3 * p // 4) + 1)
  for found in (height, width):
    share = np.bincount(found, minlength=p + 1)[sides] / len(found)
    np.testing.assert_allclose(share, 1 / len(sides), atol=0.07)


def partner(row):
  """Row 2 i + v belongs to view v of image i."""
  image, view = divmod(row, 2)
  return 2 * (image + 1 if image % 2 == 0 else image - 1) + view


def test_another_images_patch_is_from_the_same_place():
  images = helpers.views(0, b=8)
  image, ids, _ = run(images, make(fill="other"))
  before, after = helpers.cut(images, 8), helpers.cut(image, 8)
  for row, chosen in enumerate(ids):
    np.testing.assert_array_equal(
        after[row, chosen], before[partner(row), chosen])


def test_the_last_of_an_odd_number_of_images_takes_from_the_one_before():
  images = helpers.views(0, b=6)
  image, ids, _ = run(images, make(fill="other"))
  np.testing.assert_array_equal(
      helpers.cut(image, 8)[5, ids[5]], helpers.cut(images, 8)[3, ids[5]])


def test_noise_is_uniform_and_different_everywhere():
  images = np.full((32, 48, 48, 3), 7, np.uint8)
  image, ids, _ = run(images, make(fill="noise"))
  noise = helpers.cut(image, 8)[np.arange(32)[:, None], ids]
  assert noise.mean() == pytest.approx(127.5, abs=2)
  assert noise.std() == pytest.approx(256 / 12**0.5, abs=2)
  patches = noise.reshape(-1, 8 * 8 * 3)
  assert len(np.unique(patches, axis=0)) == len(patches)
  correlation = np.corrcoef(noise.reshape(-1, 3).T)
  assert np.abs(correlation - np.eye(3)).max() < 0.05


def test_mixed_is_noise_or_another_image():
  images = helpers.views(0, b=32)
  image, ids, _ = run(images, make(fill="mixed"))
  before, after = helpers.cut(images, 8), helpers.cut(image, 8)
  other = np.array([
      (after[row, i] == before[partner(row), i]).all()
      for row, chosen in enumerate(ids) for i in chosen])
  assert 0.35 < other.mean() < 0.65             # 160 fair coins.


def neighbours(ids, side):
  """Pairs of chosen patches that share an edge."""
  places = {divmod(int(i), side) for i in ids}
  return sum(
      place in places for y, x in places for place in ((y + 1, x), (y, x + 1)))


def test_blocks_hang_together_and_cover_all_places_alike():
  images = np.zeros((512, 64, 64, 3), np.uint8)
  ids = {
      shape: run(images, make(64, 8, shape=shape, num_patches=16))[1]
      for shape in ("random", "blocks")}
  count = {shape: np.mean([neighbours(row, 8) for row in x])
           for shape, x in ids.items()}
  # Of 112 edges a random pair of patches has both ends with 1 / 4 * 15 / 63.
  assert count["random"] == pytest.approx(112 / 4 * 15 / 63, rel=0.1)
  assert count["blocks"] > 2 * count["random"]
  share = np.bincount(ids["blocks"].ravel(), minlength=64) / 512
  assert abs(share - 0.25).max() < 0.1 and share.mean() == 0.25


def test_blocks_avoid_what_others_claimed():
  pairs = relative_position.RelativePosition(
      mode="train", weight=1.0, pairs="neighbours", num_pairs=9,
      position="keep",
      crop=1.0, jitter=0.0, jitter_strength=0.0, gray=0.0, hidden_dim=8,
      geometry=base.Geometry(48, 8, 6))
  images = helpers.views(0, b=16)
  batch = helpers.corrupt(
      images, [pairs, make(shape="blocks", num_patches=18)], 8)
  for mine, theirs in zip(batch["queries"]["inpaint"]["ids"],
                          batch["queries"]["relative_position"]["ids"]):
    # Nine pairs are taken: the other 18 patches are all.
    assert len(set(mine)) == 18 and not set(mine) & set(theirs.ravel())


def reference(task, predicted, answers):
  """Loss and skills in float64, patch by patch."""
  error = {"squared": np.square, "absolute": np.abs}[task.error]
  totals = {"loss": [], "zero": [], "model": [], "local": []}
  for index in itertools.product(*map(range, answers["missing"].shape[:2])):
    pixels = answers["pixels"][index] / 255.0
    mean, deviation = STATISTICS["mean"], STATISTICS["deviation"]
    if task.target == "normalised":
      mean, deviation = pixels.mean(), np.sqrt(pixels.var() + 1e-6)
    target = (pixels - mean) / deviation
    guess = predicted[index].reshape(target.shape)
    near = (answers["around"][index] / 255 - mean) / deviation
    if not answers["around_found"][index]:
      near = np.zeros(3)
    missing = answers["missing"][index]
    counted = missing if task.scope == "missing" else missing | True
    totals["loss"].append(error(guess - target)[counted])
    totals["zero"].append(error(target)[counted])
    totals["model"].append(error(guess - target)[missing])
    totals["local"].append(error(near - target)[missing])
  mean = {key: np.concatenate(x).mean() for key, x in totals.items()}
  return (mean["loss"], 1 - mean["loss"] / mean["zero"],
          1 - mean["model"] / mean["local"])


@pytest.mark.parametrize("target", ["normalised", "pixels"])
@pytest.mark.parametrize("error", ["squared", "absolute"])
@pytest.mark.parametrize("scope", ["missing", "all"])
def test_loss_by_the_definition(target, error, scope):
  task = make(target=target, error=error, scope=scope, region="part")
  _, ids, answers = run(helpers.views(0), task)
  predicted = np.random.default_rng(1).standard_normal(
      (*ids.shape, 192), np.float32)
  loss, metrics = jax.jit(task.loss)(predicted, answers)
  want, skill, local = reference(task, predicted, answers)
  assert float(loss) == pytest.approx(want, rel=1e-4)
  assert float(metrics["skill"]) == pytest.approx(skill, abs=1e-3)
  assert float(metrics["skill_local"]) == pytest.approx(local, abs=1e-3)


def test_loss_by_hand():
  # A patch of two pixels' worth of levels: half 0, half 1, so the mean is 1/2,
  # the deviation 1/2 and the targets are -1 and 1.
  pixels = np.zeros((1, 1, 2, 2, 3), np.uint8)
  pixels[:, :, 1] = 255
  missing = np.array([[[[True, False], [True, False]]]])
  predicted = np.zeros((1, 1, 2, 2, 3), np.float32)
  predicted[:, :, 0, 0], predicted[:, :, :, 1] = -1, 9   # 9 is not counted.
  task = make(4, 2, num_patches=1)
  loss, metrics = task.loss(predicted.reshape(1, 1, 12), dict(
      pixels=pixels, missing=missing, around=np.zeros((1, 1, 3), np.float32),
      around_found=np.ones((1, 1), bool)))
  # One missing pixel is right and the other is off by 1.
  assert float(loss) == pytest.approx(0.5, abs=1e-4)
  assert float(metrics["skill"]) == pytest.approx(0.5, abs=1e-4)
  # The neighbours are black: right for one pixel, off by 2 for the other.
  assert float(metrics["skill_local"]) == pytest.approx(1 - 0.5 / 2, abs=1e-4)


def test_scope_all_asks_for_the_whole_view():
  images = helpers.views(2)
  image, ids, answers = run(images, make(scope="all", num_patches=4))
  np.testing.assert_array_equal(ids, np.tile(np.arange(36), (6, 1)))
  np.testing.assert_array_equal(answers["pixels"], helpers.cut(images, 8))
  np.testing.assert_array_equal(
      answers["missing"].any((2, 3)), helpers.changed(images, image, 8))


@pytest.mark.parametrize("scope", ["missing", "all"])
def test_pixels_to_predict_are_gray_where_the_input_is(scope):
  images = helpers.views(3)
  batch = helpers.corrupt(
      images, [make(scope=scope, fill="other")], 8, gray_input=True)
  answers = batch["answers"]["inpaint"]
  assert (batch["image"] == batch["image"][..., :1]).all()
  assert (answers["pixels"] == answers["pixels"][..., :1]).all()
  np.testing.assert_allclose(
      answers["around"], np.repeat(answers["around"][..., :1], 3, -1))


def test_trivial_loss_is_that_of_the_mean_on_the_training_views():
  images = helpers.views(4, b=8)
  for target, error in itertools.product(
      ("normalised", "pixels"), ("squared", "absolute")):
    task = make(target=target, error=error, scope="all", statistics={})
    found = task.statistics_of([{"input": images[:4]}, {"input": images[4:]}])
    task = make(target=target, error=error, scope="all", statistics=found)
    _, ids, answers = run(images, task)
    loss, metrics = task.loss(
        np.zeros((*ids.shape, 192), np.float32), answers)
    assert float(loss) == pytest.approx(task.trivial_loss, rel=1e-3)
    assert float(metrics["skill"]) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(
        found["mean"], images.mean((0, 1, 2)) / 255, rtol=1e-6)
    np.testing.assert_allclose(
        found["deviation"], images.std((0, 1, 2)) / 255, rtol=1e-6)


@pytest.mark.parametrize("target", ["normalised", "pixels"])
@pytest.mark.parametrize("region", ["whole", "part"])
def test_a_perfect_prediction_restores_the_picture(target, region):
  task = make(target=target, region=region)
  images = helpers.views(0)
  image, ids, answers = run(images, task)
  pixels = answers["pixels"] / 255.0
  mean, deviation = STATISTICS["mean"], STATISTICS["deviation"]
  if target == "normalised":
    axes = (2, 3, 4)
    mean = pixels.mean(axes, keepdims=True)
    deviation = np.sqrt(pixels.var(axes, keepdims=True) + 1e-6)
  perfect = ((pixels - mean) / deviation).reshape(*ids.shape, -1)
  panels = task.panels(
      image[1], {"ids": ids[1]}, jax.tree.map(lambda x: x[1], answers),
      perfect[1].astype(np.float32))
  assert [p.title for p in panels] == [
      "what the model sees", "predicted pixels", "true pixels"]
  for panel in panels[1:]:
    np.testing.assert_array_equal(panel.image, images[1])
  np.testing.assert_array_equal(panels[0].image, image[1])


@pytest.mark.parametrize("changes", [
    dict(region="half"), dict(fill="black"), dict(shape="block"),
    dict(target="bins"), dict(error="huber"), dict(scope="some"),
    dict(num_patches=0)])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)


def test_another_image_is_needed_to_take_from():
  with pytest.raises(ValueError, match="needs two images"):
    inpaint.Inpaint(
        mode="train", weight=1.0, num_patches=1, region="whole", fill="other",
        shape="random", target="pixels", error="squared", scope="missing",
        hidden_dim=8, geometry=base.Geometry(32, 8, 2))


def test_partners_are_never_oneself():
  for images in range(2, 9):
    rows = np.asarray(inpaint._partners(tf.constant(2 * images)))
    assert (rows // 2 != np.arange(2 * images) // 2).all()
    assert (rows % 2 == np.arange(2 * images) % 2).all()

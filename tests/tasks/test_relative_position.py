"""Relative position: labels against geometry, and what stays untouched."""

import itertools

import numpy as np
import pytest

from mtvit.tasks import base
from mtvit.tasks import relative_position
from tests.tasks import helpers


def make(size=48, patch=8, **changes):
  fields = dict(
      mode="train", weight=1.0, num_pairs=3, position="drop", crop=1.15,
      jitter=0.8, jitter_strength=0.5, gray=0.2, hidden_dim=8)
  return relative_position.RelativePosition(
      **(fields | changes), geometry=base.Geometry(size, patch, 6))


@pytest.mark.parametrize("seed, size, patch, m", [
    (0, 48, 8, 4), (1, 32, 4, 3), (2, 32, 8, 1), (3, 40, 5, 2)])
@pytest.mark.parametrize("in_dataset", [False, True])
def test_corruption(seed, size, patch, m, in_dataset):
  images = helpers.views(seed, b=16, size=size)
  batch = helpers.corrupt(
      images, [make(size, patch, num_pairs=m)], patch, seed=seed,
      in_dataset=in_dataset)
  pairs = batch["queries"]["relative_position"]["ids"]
  labels = batch["answers"]["relative_position"]["label"]
  assert pairs.shape == (16, m, 2) and labels.shape == (16, m)
  # The label is the direction from the first to the second, in reading order.
  side = size // patch
  rows, columns = pairs // side, pairs % side
  directions = [
      d for d in itertools.product((-1, 0, 1), repeat=2) if d != (0, 0)]
  got = np.stack([rows[..., 1] - rows[..., 0],
                  columns[..., 1] - columns[..., 0]], -1)
  np.testing.assert_array_equal(got, np.array(directions)[labels])
  # Pairs are disjoint; nothing else changes; all of them lose the embedding.
  chosen = np.zeros((16, side**2), bool)
  for view, row in enumerate(pairs):
    assert len(set(row.flat)) == 2 * m
    chosen[view, row.flat] = True
  assert not (helpers.changed(images, batch["image"], patch) & ~chosen).any()
  np.testing.assert_array_equal(batch["hide_position"], chosen)


def test_keep_hides_nothing_and_changes_no_pixel_and_no_label():
  images = helpers.views(0)
  drop = helpers.corrupt(images, [make()], 8)
  keep = helpers.corrupt(images, [make(position="keep")], 8)
  assert not keep["hide_position"].any()
  np.testing.assert_array_equal(keep["image"], drop["image"])
  np.testing.assert_array_equal(
      keep["answers"]["relative_position"]["label"],
      drop["answers"]["relative_position"]["label"])


def test_all_directions_and_both_orders_are_equally_likely():
  images = helpers.views(0, b=512)
  batch = helpers.corrupt(images, [make(num_pairs=4)], 8)
  labels = batch["answers"]["relative_position"]["label"]
  share = np.bincount(labels.ravel(), minlength=8) / labels.size
  np.testing.assert_allclose(share, 1 / 8, atol=0.03)
  # On a 6x6 grid the centres are fixed: 7, 10, 25 and 28.
  first = np.isin(
      batch["queries"]["relative_position"]["ids"][..., 0], [7, 10, 25, 28])
  assert abs(first.mean() - 0.5) < 0.05


def test_without_augmentation_the_patches_keep_their_pixels():
  images = helpers.views(0)
  batch = helpers.corrupt(
      images, [make(crop=1.0, jitter=0.0, gray=0.0)], 8)
  np.testing.assert_array_equal(batch["image"], images)


def test_each_patch_is_augmented_on_its_own():
  # One colour everywhere: the crop changes nothing, the jitter all.
  images = np.full((64, 48, 48, 3), (200, 120, 40), np.uint8)
  batch = helpers.corrupt(
      images, [make(jitter=1.0, gray=0.0, num_pairs=1)], 8)
  pairs = batch["queries"]["relative_position"]["ids"][:, 0]
  patches = helpers.cut(batch["image"], 8)
  colors = patches[np.arange(64)[:, None], pairs, 0, 0].astype(int)
  assert (np.abs(colors[:, 0] - colors[:, 1]).max(-1) > 5).mean() > 0.9


@pytest.mark.parametrize("m, bound", [(1, 0.50), (4, 0.27), (16, 0.19)])
def test_slot_bound(m, bound):
  assert relative_position.slot_bound(m) == pytest.approx(bound, abs=0.005)
  # Against the ideal reader itself, by simulation.
  rng = np.random.default_rng(0)
  axes = rng.integers(0, 4, (20_000, m))
  guess = np.array([np.bincount(row, minlength=4).argmax() for row in axes])
  right = (axes[:, 0] == guess) * 0.5           # Either order, so one in two.
  assert right.mean() == pytest.approx(
      relative_position.slot_bound(m), abs=0.01)


def test_loss_by_hand():
  predicted = np.zeros((1, 2, 8), np.float32)
  predicted[0, 0, 3] = np.log(9.0)              # p = 9 / 16 for label 3
  loss, metrics = make().loss(predicted, {"label": np.array([[3, 5]])})
  want = (np.log(16 / 9) + np.log(8)) / 2
  assert float(loss) == pytest.approx(want, abs=1e-6)
  assert float(metrics["accuracy"]) == 0.5
  assert float(metrics["skill"]) == pytest.approx(1 - want / np.log(8))
  assert "slot_bound" in metrics
  _, metrics = make(position="keep").loss(
      predicted, {"label": np.array([[3, 5]])})
  assert "slot_bound" not in metrics


@pytest.mark.parametrize("changes", [
    dict(position="hide"), dict(num_pairs=0), dict(crop=0.9),
    dict(jitter=1.5), dict(gray=float("nan"))])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)


def test_predicted_arrows_point_where_the_model_says():
  task = make(num_pairs=1)
  panels = task.panels(
      np.zeros((48, 48, 3), np.uint8), {"ids": np.array([[14, 7]])},
      {"label": np.array([0])}, np.eye(8, dtype=np.float32)[[4]])
  assert panels[0].arrows == ((14, (-1, -1), "cyan"),)
  assert panels[1].arrows == ((14, (0, 1), "red"),)

"""Relative position: labels against geometry, and what stays untouched."""

import itertools
import math

import jax
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from mtvit.tasks import base
from mtvit.tasks import directions as directions_lib
from mtvit.tasks import neighbours
from mtvit.tasks import relative_position
from tests.tasks import helpers

POLICIES = ("keep", "drop", "drop_all", "mask_token", "swap")
KINDS = ("neighbours", "any")
PLAIN = dict(crop=1.0, jitter=0.0, gray=0.0)


def make(size=48, patch=8, **changes):
  fields = dict(
      mode="train", weight=1.0, pairs="neighbours", num_pairs=3,
      position="drop",
      crop=1.15, jitter=0.8, jitter_strength=0.5, gray=0.2, hidden_dim=8)
  return relative_position.RelativePosition(
      **(fields | changes), geometry=base.Geometry(size, patch, 6))


def run(images, task, patch=8, **options):
  batch = helpers.corrupt(images, [task], patch, **options)
  name = "relative_position"
  return batch, batch["queries"][name]["ids"], batch["answers"][name]


def direction(first, second, side):
  """The octant of the angle between two patches, in reading order."""
  dy, dx = second // side - first // side, second % side - first % side
  octant = round(math.atan2(dy, dx) / math.radians(45)) % 8
  # From the right clockwise, as y points down.
  return [4, 7, 6, 5, 3, 0, 1, 2][octant]


def directions(pairs, side):
  flat = [direction(a, b, side) for a, b in pairs.reshape(-1, 2).tolist()]
  return np.reshape(flat, pairs.shape[:-1])


@pytest.mark.parametrize("seed, size, patch, m, in_dataset", [
    (0, 48, 8, 4, True), (1, 32, 4, 3, False), (2, 40, 5, 2, False),
    (3, 32, 8, 2, False)])
@pytest.mark.parametrize("pairs", KINDS)
@pytest.mark.parametrize("position", ["drop", "swap"])
def test_corruption(seed, size, patch, m, pairs, position, in_dataset):
  images = helpers.views(seed, b=8, size=size)
  batch, ids, answers = run(
      images, make(size, patch, num_pairs=m, pairs=pairs, position=position),
      patch, seed=seed, in_dataset=in_dataset)
  home, labels = answers["home"], answers["label"]
  assert ids.shape == home.shape == (8, m, 2) and labels.shape == (8, m)
  assert home.dtype == np.int32
  # The label is the direction between the places the contents came from.
  np.testing.assert_array_equal(directions(home, size // patch), labels)
  if pairs == "neighbours":     # The second is a neighbour of the first.
    y, x = np.divmod(home, size // patch)
    assert np.abs(np.diff(y)).max() <= 1 and np.abs(np.diff(x)).max() <= 1
  # Pairs are disjoint; nothing else changes.
  chosen = np.zeros((8, (size // patch) ** 2), bool)
  for view, row in enumerate(ids):
    assert len(set(row.flat)) == 2 * m
    chosen[view, row.flat] = True
  assert not (helpers.changed(images, batch["image"], patch) & ~chosen).any()
  np.testing.assert_array_equal(
      batch["hide_position"], chosen & (position == "drop"))


@pytest.mark.parametrize("pairs", KINDS)
def test_policies_differ_in_what_is_hidden_and_swap_in_pixels(pairs):
  images = helpers.views(0)
  runs = {
      p: run(images, make(position=p, pairs=pairs)) for p in POLICIES}
  batch, ids, answers = runs["keep"]
  for policy, (got, _, _) in runs.items():
    assert make(position=policy).position_policy == policy
    hidden = 6 if policy in ("drop", "mask_token") else 0
    assert (got["hide_position"].sum(1) == hidden).all(), policy
  for policy in ("drop", "drop_all", "mask_token"):
    np.testing.assert_array_equal(runs[policy][0]["image"], batch["image"])
    np.testing.assert_array_equal(runs[policy][1], ids)
    np.testing.assert_array_equal(runs[policy][2]["home"], ids)
    np.testing.assert_array_equal(runs[policy][2]["label"], answers["label"])
  # Rows are in the order of the slots, so they don't tell what moved where.
  for _, got, _ in runs.values():
    np.testing.assert_array_equal(got, ids)
  assert (np.diff(ids[:, :, 0]) > 0).all()
  assert (runs["swap"][2]["home"] != ids).all()


@pytest.mark.parametrize("seed, m, in_dataset", [
    (0, 2, False), (1, 3, True), (2, 4, False)])
@pytest.mark.parametrize("pairs", KINDS)
def test_swap_is_undone_by_the_answers(seed, m, pairs, in_dataset):
  images = helpers.views(seed)
  batch, ids, answers = run(
      images, make(position="swap", num_pairs=m, pairs=pairs, **PLAIN),
      seed=seed, in_dataset=in_dataset)
  before, after = helpers.cut(images, 8), helpers.cut(batch["image"], 8)
  restored = after.copy()
  for view in range(len(images)):
    slots = [tuple(pair) for pair in ids[view].tolist()]
    home = [tuple(pair) for pair in answers["home"][view].tolist()]
    # Whole pairs move in order, and none stays.
    assert sorted(slots) == sorted(home)
    assert not any(a == b for a, b in zip(slots, home))
    restored[view, answers["home"][view]] = after[view, ids[view]]
  np.testing.assert_array_equal(restored, before)
  assert helpers.changed(images, batch["image"], 8).sum() == 6 * 2 * m


@pytest.mark.parametrize("pairs", KINDS)
def test_swapped_labels_do_not_depend_on_the_slots(pairs):
  images = np.zeros((768, 24, 24, 3), np.uint8)
  _, ids, answers = run(
      images, make(24, 4, num_pairs=4, pairs=pairs, position="swap", **PLAIN),
      4)
  slots = directions(ids, 6)
  table = np.zeros((8, 8))
  np.add.at(table, (slots.ravel(), answers["label"].ravel()), 1)
  assert scipy.stats.chi2_contingency(table).pvalue > 0.01
  assert (slots == answers["label"]).mean() == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("pairs", KINDS)
def test_without_augmentation_the_patches_keep_their_pixels(pairs):
  images = helpers.views(0)
  batch, _, _ = run(images, make(pairs=pairs, **PLAIN))
  np.testing.assert_array_equal(batch["image"], images)


def all_pairs(side):
  return np.array(list(itertools.permutations(range(side**2), 2)))


@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_shares_of_any_are_those_of_all_ordered_pairs(side):
  labels = directions(all_pairs(side), side)
  want = np.bincount(labels, minlength=8) / len(labels)
  np.testing.assert_allclose(
      directions_lib.direction_shares((side, side)), want, rtol=1e-12)
  task = make(side * 4, 4, pairs="any")
  assert task.chance == pytest.approx(want.max())
  assert task.trivial_loss == pytest.approx(-(want * np.log(want)).sum())


def test_shares_of_a_grid_that_is_not_square():
  pairs = itertools.permutations(itertools.product(range(2), range(7)), 2)
  # As patches of a grid with 7 columns.
  labels = [direction(a[0] * 7 + a[1], b[0] * 7 + b[1], 7) for a, b in pairs]
  np.testing.assert_allclose(
      directions_lib.direction_shares((2, 7)),
      np.bincount(labels, minlength=8) / len(labels))


def test_any_draws_pairs_from_the_whole_grid():
  images = np.zeros((512, 16, 16, 3), np.uint8)
  _, ids, answers = run(images, make(16, 4, num_pairs=4, pairs="any"), 4)
  share = np.bincount(answers["label"].ravel(), minlength=8) / 2048
  labels = directions(all_pairs(4), 4)
  np.testing.assert_allclose(
      share, np.bincount(labels, minlength=8) / len(labels), atol=0.03)
  np.testing.assert_allclose(
      np.bincount(ids.ravel(), minlength=16) / ids.size, 1 / 16, atol=0.01)


def test_pairs_and_patches_to_claim():
  near, free = make(pairs="neighbours"), make(pairs="any")
  assert (near.num_blocks, near.num_neighbours, near.num_patches) == (0, 3, 0)
  assert (free.num_blocks, free.num_neighbours, free.num_patches) == (0, 0, 6)
  assert near.chance == 1 / 8
  assert near.trivial_loss == pytest.approx(math.log(8))


def test_each_patch_is_augmented_on_its_own():
  # One colour everywhere: the crop changes nothing, the jitter all.
  images = np.full((64, 48, 48, 3), (200, 120, 40), np.uint8)
  batch, ids, _ = run(images, make(jitter=1.0, gray=0.0, num_pairs=1))
  patches = helpers.cut(batch["image"], 8)
  colors = patches[np.arange(64)[:, None], ids[:, 0], 0, 0].astype(int)
  assert (np.abs(colors[:, 0] - colors[:, 1]).max(-1) > 5).mean() > 0.9


def test_each_patch_is_cropped_and_resized_on_its_own():
  images = helpers.views(0)
  batch, ids, _ = run(images, make(jitter=0.0, gray=0.0))
  before, after = helpers.cut(images, 8), helpers.cut(batch["image"], 8)
  corners = list(itertools.product((0, 1), (0, 1)))     # 7 of 8 pixels.
  seen = []
  for view, row in enumerate(ids):
    for i in row.flat:
      want = [np.round(tf.image.resize(
          before[view, i, y:y + 7, x:x + 7], [8, 8])) for y, x in corners]
      apart = [np.abs(w - after[view, i]).max() for w in want]
      assert min(apart) <= 1
      seen.append(corners[int(np.argmin(apart))])
  assert set(seen) == set(corners)


def test_jitter_and_gray_are_those_of_whole_images():
  """On patches of one colour, which the crop leaves alone."""
  images = np.full((64, 48, 48, 3), (130, 120, 100), np.uint8)
  color = lambda **changes: run(
      images, make(num_pairs=1, **changes))[0]["image"][:, ::8, ::8]
  gray = color(jitter=0.0, gray=1.0).reshape(-1, 3)
  luma = round(0.299 * 130 + 0.587 * 120 + 0.114 * 100)
  assert sorted(map(tuple, np.unique(gray, axis=0))) == [
      (luma,) * 3, (130, 120, 100)]
  # Contrast blends with the patch's own mean, which is its one colour: so
  # brightness alone, 0.6 to 1.4, changes its luma.
  jittered = color(jitter=1.0, gray=0.0).reshape(-1, 3)
  share = jittered @ [0.299, 0.587, 0.114] / luma
  assert 0.55 < share.min() < 0.7 and 1.2 < share.max() < 1.45


def exact_any_bound(side, m):
  """The mean over all sets of slots of the commonest direction's share."""
  shares = []
  for slots in itertools.combinations(range(side**2), 2 * m):
    asked = [direction(a, b, side)
             for a, b in itertools.permutations(slots, 2)]
    shares.append(max(np.bincount(asked)) / len(asked))
  return np.mean(shares)


@pytest.mark.parametrize("side, m", [(2, 2), (3, 2), (3, 3), (4, 2)])
def test_slot_bound_of_any_two_patches(side, m):
  assert directions_lib.any_slot_bound(m, (side, side)) == pytest.approx(
      exact_any_bound(side, m), abs=0.002)


def test_slot_bound_of_one_pair_is_a_half():
  assert directions_lib.any_slot_bound(1, (5, 5)) == 0.5


def test_loss_by_hand():
  predicted = np.zeros((1, 2, 8), np.float32)
  predicted[0, 0, 3] = np.log(9.0)              # p = 9 / 16 for label 3
  answers = {"label": np.array([[3, 5]])}
  want = (np.log(16 / 9) + np.log(8)) / 2
  for loss in (make().loss, jax.jit(make().loss)):
    value, metrics = loss(predicted, answers)
    assert float(value) == pytest.approx(want, abs=1e-6)
    assert float(metrics["accuracy"]) == 0.5
    assert float(metrics["skill"]) == pytest.approx(
        1 - want / np.log(8), abs=1e-6)
  labels = directions(all_pairs(3), 3)
  shares = np.bincount(labels) / len(labels)
  _, metrics = jax.jit(make(12, 4, pairs="any").loss)(predicted, answers)
  assert float(metrics["skill"]) == pytest.approx(
      1 + want / (shares * np.log(shares)).sum(), abs=1e-6)


@pytest.mark.parametrize("position", POLICIES)
def test_slot_bound_where_slots_tell(position):
  for pairs, bound in (
      ("neighbours", neighbours.slot_bound(2, 3)),
      ("any", exact_any_bound(3, 2))):
    task = make(12, 4, num_pairs=2, pairs=pairs, position=position)
    if position in ("drop", "mask_token"):
      assert task.slot_bound == pytest.approx(bound, abs=0.002)
    elif position == "swap":
      assert task.slot_bound == 0.5     # The other pair's slots tell the axis.
    else:
      assert task.slot_bound is None


@pytest.mark.parametrize("changes", [
    dict(position="hide"), dict(num_pairs=0), dict(crop=0.9), dict(crop=16.0),
    dict(jitter=1.5), dict(gray=float("nan")), dict(pairs="all"),
    dict(position="swap", num_pairs=1)])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError, match=next(iter(changes))):
    make(**changes)


def test_predicted_arrows_point_where_the_model_says():
  task = make(num_pairs=1)
  panels = task.panels(
      np.zeros((48, 48, 3), np.uint8), {"ids": np.array([[14, 7]])},
      {"label": np.array([0])}, np.eye(8, dtype=np.float32)[[4]])
  assert panels[0].arrows == ((14, (-1, -1), "white"),)
  assert panels[1].arrows == ((14, (0, 1), "red"),)


def test_swapped_arrows_start_at_the_slot_and_show_the_source():
  task = make(num_pairs=2, position="swap")
  # The contents of 7 and 1 (up) stand at 28 and 29, and conversely (right).
  panels = task.panels(
      np.zeros((48, 48, 3), np.uint8),
      {"ids": np.array([[28, 29], [7, 1]])},
      {"label": np.array([1, 4]), "home": np.array([[7, 1], [28, 29]])}, None)
  assert [p.title for p in panels] == ["true directions of the contents"]
  assert panels[0].arrows == ((28, (-1, 0), "white"), (7, (0, 1), "white"))
  # The patches of a pair have one colour, and those of another pair another.
  (a, one), (b, two), (c, three), (d, four) = panels[0].boxes
  assert [a, b, c, d] == [28, 29, 7, 1]
  assert one == two != three == four

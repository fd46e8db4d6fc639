"""Jigsaw: contents move and can be put back; the permutations are far apart."""

import itertools
import math

import jax
import numpy as np
import pytest

from mtvit.models import interface
from mtvit.tasks import base
from mtvit.tasks import jigsaw
from tests.tasks import helpers

POLICIES = ("keep", "drop", "drop_all", "mask_token")


def make(size=48, patch=8, **changes):
  fields = dict(
      mode="train", weight=1.0, kind="patch", num_pieces=5, num_groups=2,
      num_permutations=20, position="keep", hidden_dim=8)
  return jigsaw.Jigsaw(
      **(fields | changes), geometry=base.Geometry(size, patch, 6))


def run(images, task, patch=8, **options):
  batch = helpers.corrupt(images, [task], patch, **options)
  return batch, batch["queries"]["jigsaw"]["ids"], batch["answers"]["jigsaw"]


def put_back(batch, slots, home, patch):
  """Patches [b, n, p, p, 3] with every content at its home."""
  after = helpers.cut(batch["image"], patch)
  restored = after.copy()
  for view, (row, places) in enumerate(zip(slots, home)):
    for slot, place in zip(row, places):
      restored[view, place] = after[view, slot]
  return restored


@pytest.mark.parametrize("seed, size, patch, k", [
    (0, 48, 8, 5), (1, 32, 4, 64), (2, 32, 8, 2), (3, 40, 5, 9)])
@pytest.mark.parametrize("position", ["keep", "mask_token"])
@pytest.mark.parametrize("in_dataset", [False, True])
def test_patches(seed, size, patch, k, position, in_dataset):
  images = helpers.views(seed, size=size)
  batch, slots, answers = run(
      images, make(size, patch, num_pieces=k, position=position), patch,
      seed=seed, in_dataset=in_dataset)
  home = answers["label"]
  assert slots.shape == home.shape == (6, k)
  # In the order of the slots: the rows don't tell what moved where.
  assert (np.diff(slots, axis=1) > 0).all()
  for row, places in zip(slots, home):
    # One cycle through all of them: k moves lead back, and no fewer.
    move = dict(zip(row.tolist(), places.tolist()))
    place, visited = int(row[0]), set()
    for _ in range(k):
      visited.add(place)
      place = move[place]
    assert place == row[0] and visited == set(row.tolist())
    assert len(visited) == k
  np.testing.assert_array_equal(
      put_back(batch, slots, home, patch), helpers.cut(images, patch))
  chosen = np.zeros((6, (size // patch) ** 2), bool)
  np.put_along_axis(chosen, slots, True, axis=1)
  np.testing.assert_array_equal(
      helpers.changed(images, batch["image"], patch), chosen)
  np.testing.assert_array_equal(
      batch["hide_position"], chosen & (position == "mask_token"))


@pytest.mark.parametrize("seed, size, patch, g, num", [
    (0, 48, 8, 2, 20), (1, 36, 4, 9, 7), (2, 24, 8, 1, 100)])
@pytest.mark.parametrize("position", ["keep", "drop"])
@pytest.mark.parametrize("in_dataset", [False, True])
def test_permutations(seed, size, patch, g, num, position, in_dataset):
  images, side = helpers.views(seed, size=size), size // patch
  task = make(
      size, patch, kind="permutation", num_groups=g, num_permutations=num,
      position=position)
  batch, blocks, answers = run(
      images, task, patch, seed=seed, in_dataset=in_dataset)
  assert blocks.shape == answers["order"].shape == (6, g, 9)
  assert answers["order"].dtype == np.int32
  assert answers["label"].shape == (6, g)
  # Slots are 3x3 blocks in reading order, and disjoint.
  around = np.array([y * side + x for y in range(3) for x in range(3)])
  np.testing.assert_array_equal(blocks - blocks[..., :1] - around, 0)
  chosen = np.zeros((6, side**2), bool)
  np.put_along_axis(chosen, blocks.reshape(6, -1), True, axis=1)
  assert (chosen.sum(1) == 9 * g).all()
  assert not (helpers.changed(images, batch["image"], patch) & ~chosen).any()
  np.testing.assert_array_equal(
      batch["hide_position"], chosen & (position == "drop"))
  # The order undoes it, and the label names the order.
  np.testing.assert_array_equal(
      put_back(batch, blocks.reshape(6, -1),
               answers["order"].reshape(6, -1), patch),
      helpers.cut(images, patch))
  table = jigsaw.max_hamming(num)
  for view, group in np.ndindex(6, g):
    permutation = table[answers["label"][view, group]]
    for slot in range(9):
      assert answers["order"][view, group, slot] == blocks[
          view, group, permutation[slot]]


def test_homes_and_permutations_are_equally_likely():
  images = np.zeros((1024, 12, 12, 3), np.uint8)
  _, slots, answers = run(images, make(12, 2, num_pieces=4), 2)
  share = np.bincount(answers["label"].ravel(), minlength=36) / 4096
  np.testing.assert_allclose(share, 1 / 36, atol=0.01)
  # Of a slot's content only this is known: it comes from elsewhere.
  from_first = answers["label"][slots == 0]
  assert 60 < len(from_first) < 170 and 0 not in from_first
  assert len(set(from_first)) > 25
  _, _, answers = run(
      images, make(12, 2, kind="permutation", num_permutations=10), 2)
  share = np.bincount(answers["label"].ravel(), minlength=10) / 2048
  np.testing.assert_allclose(share, 1 / 10, atol=0.025)


@pytest.mark.parametrize("kind", ["patch", "permutation"])
def test_policies_differ_in_what_is_hidden_alone(kind):
  images = helpers.views(0)
  want, slots, _ = run(images, make(kind=kind))
  for policy in POLICIES:
    task = make(kind=kind, position=policy)
    assert task.position_policy == policy
    got, ids, _ = run(images, task)
    np.testing.assert_array_equal(got["image"], want["image"])
    np.testing.assert_array_equal(ids, slots)
    hidden = slots[0].size if policy in ("drop", "mask_token") else 0
    assert (got["hide_position"].sum(1) == hidden).all()


def hamming(a, b):
  return sum(x != y for x, y in zip(a, b))


@pytest.mark.parametrize("items, num, seed", [
    (3, 6, 0), (4, 24, 1), (5, 30, 2), (6, 20, 3)])
def test_each_permutation_is_a_farthest_one(items, num, seed):
  chosen = [
      tuple(row) for row in jigsaw.max_hamming(num, seed, items).tolist()]
  assert len(set(chosen)) == num
  every = list(itertools.permutations(range(items)))
  for i in range(1, num):
    def score(candidate, before=chosen[:i]):
      distances = [hamming(candidate, other) for other in before]
      return min(distances), sum(distances)
    assert score(chosen[i]) == max(map(score, every))


def test_the_usual_permutations():
  table = jigsaw.max_hamming(100)
  np.testing.assert_array_equal(np.sort(table, axis=1), [range(9)] * 100)
  distances = np.array([
      hamming(a, b) for a, b in itertools.combinations(table.tolist(), 2)])
  assert distances.min() == 6 and distances.mean() > 8
  first = [hamming(a, b)
           for a, b in itertools.combinations(table[:9].tolist(), 2)]
  assert set(first) == {9}
  # The same in every process, and a beginning of a longer table.
  np.testing.assert_array_equal(
      table, jigsaw.max_hamming.__wrapped__(120)[:100])
  assert not (table == jigsaw.max_hamming(100, seed=1)).all()
  with pytest.raises(ValueError):
    table[0, 0] = 1
  for num in (0, 7):
    with pytest.raises(ValueError, match=f"num={num}"):
      jigsaw.max_hamming(num, items=3)


def test_loss_by_hand():
  # Grid 2x2: four places, or as many permutations.
  predicted = np.zeros((1, 2, 4), np.float32)
  predicted[0, 0, 3] = np.log(5.0)              # p = 5 / 8 for label 3
  want = (np.log(8 / 5) + np.log(4)) / 2
  for task in (make(16, 8, num_pieces=2),
               make(kind="permutation", num_permutations=4)):
    assert task.chance == 1 / 4
    assert task.trivial_loss == pytest.approx(math.log(4))
    for loss in (task.loss, jax.jit(task.loss)):
      value, metrics = loss(predicted, {"label": np.array([[3, 1]])})
      assert float(value) == pytest.approx(want, abs=1e-6)
      assert float(metrics["accuracy"]) == 0.5
      assert float(metrics["skill"]) == pytest.approx(
          1 - want / np.log(4), abs=1e-6)


@pytest.mark.parametrize("position", POLICIES)
def test_slot_bound_where_slots_tell(position):
  hidden = position in ("drop", "mask_token")
  assert make(kind="patch", position=position).slot_bound == (
      1 / 5 if hidden else None)
  assert make(kind="permutation", position=position).slot_bound is None


@pytest.mark.parametrize("kind, ids, out", [
    ("patch", (2, 5), (2, 5, 36)), ("permutation", (2, 2, 9), (2, 2, 20))])
def test_head_has_one_output_for_each_class(kind, ids, out):
  head = make(kind=kind).head()
  features = interface.Features(
      tokens={}, patches=np.ones((2, 36, 4), np.float32))
  predicted, variables = head.init_with_output(
      jax.random.key(0), features, {"ids": np.zeros(ids, np.int32)})
  assert predicted.shape == out
  assert set(variables["params"]) == {"mlp"}


def test_blocks_and_patches_to_claim():
  patch, groups = make(), make(kind="permutation")
  assert (patch.num_blocks, patch.num_patches) == (0, 5)
  assert (groups.num_blocks, groups.num_patches) == (2, 0)


@pytest.mark.parametrize("changes", [
    dict(kind="block"), dict(num_pieces=1), dict(num_groups=0),
    dict(num_permutations=1), dict(num_permutations=1001),
    dict(position="swap"), dict(position="hide")])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError, match=next(iter(changes))):
    make(**changes)


def show(task, images, predict):
  batch, slots, answers = run(images, task)
  predicted = None if predict is None else predict(
      {k: v[0] for k, v in answers.items()})
  panels = task.panels(
      batch["image"][0], {"ids": slots[0]},
      {k: v[0] for k, v in answers.items()}, predicted)
  return panels, slots[0].ravel().tolist(), answers, batch


@pytest.mark.parametrize("kind, classes", [
    ("patch", 36), ("permutation", 20)])
def test_a_right_prediction_restores_the_view(kind, classes):
  images = helpers.views(0)
  panels, slots, _, batch = show(
      make(kind=kind), images,
      lambda answers: np.eye(classes, dtype=np.float32)[answers["label"]])
  assert [p.title for p in panels] == [
      "what the model sees", "put where the model says", "true order"]
  for panel, want in zip(panels, (batch["image"][0], images[0], images[0])):
    np.testing.assert_array_equal(panel.image, want)
    assert [i for i, _ in panel.boxes] == slots
  assert {color for _, color in panels[1].boxes} == {"lime"}
  panels, *_ = show(make(kind=kind), images, None)
  assert [p.title for p in panels] == ["what the model sees", "true order"]


def test_each_place_gets_one_patch_in_the_likeliest_way():
  images = helpers.views(0)

  def predict(answers):
    # Contents 0 and 1 both want the home of 1, and 0 wants it more; but 1 would
    # hardly go anywhere else. 2 is sure. 3 and 4 want each other's.
    home = answers["label"]
    other = next(i for i in range(36) if i not in home)
    predicted = np.zeros((5, 36), np.float32)
    predicted[:, other] = 20                    # Not among the places.
    for content, place, logit in (
        (0, 1, 6), (0, 0, 5), (1, 1, 5), (2, 2, 9), (3, 4, 3), (4, 3, 3)):
      predicted[content, home[place]] = logit
    return predicted

  panels, slots, answers, batch = show(make(), images, predict)
  home = answers["label"][0]
  truth, before = (helpers.cut(x[:1], 8)[0] for x in (images, batch["image"]))
  got = helpers.cut(panels[1].image[None], 8)[0]
  for place in range(36):
    want = truth[place]
    if place in home[3:]:
      # The content that belongs to the other of the two.
      want = truth[home[3] + home[4] - place]
    np.testing.assert_array_equal(got[place], want)
  assert {tuple(x.ravel()) for x in got} == {tuple(x.ravel()) for x in before}
  colors = dict(panels[1].boxes)
  assert {i for i in slots if colors[i] == "lime"} == set(home[:3])


def test_a_wrong_permutation_misplaces_the_contents():
  images = helpers.views(0)
  task = make(kind="permutation", num_groups=1)
  wrong = lambda answers: np.eye(20, dtype=np.float32)[
      (answers["label"] + 1) % 20]
  panels, slots, answers, batch = show(task, images, wrong)
  after = helpers.cut(batch["image"], 8)[0]
  got = helpers.cut(panels[1].image[None], 8)[0]
  guess = jigsaw.max_hamming(20)[(answers["label"][0, 0] + 1) % 20]
  colors = dict(panels[1].boxes)
  for slot, place in zip(slots, guess):
    np.testing.assert_array_equal(got[slots[place]], after[slot])
  for i in slots:
    right = (got[i] == helpers.cut(images, 8)[0, i]).all()
    assert colors[i] == ("lime" if right else "red")
  assert "red" in colors.values()

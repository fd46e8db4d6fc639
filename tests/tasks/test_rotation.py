"""Rotation: labels in the final frame, and the three kinds of views."""

import jax
import numpy as np
import pytest

from mtvit.tasks import base
from mtvit.tasks import colorize
from mtvit.tasks import picture
from mtvit.tasks import rotation
from tests.tasks import helpers


def make(**changes):
  fields = dict(mode="train", weight=1.0, views="both_views", hidden_dim=8)
  return rotation.Rotation(
      **(fields | changes), geometry=base.Geometry(32, 8, 8))


@pytest.mark.parametrize("seed, size, patch", [(0, 32, 8), (1, 20, 5)])
@pytest.mark.parametrize("in_dataset", [False, True])
def test_the_label_undoes_the_rotation(seed, size, patch, in_dataset):
  images = helpers.views(seed, b=16, size=size)
  batch = helpers.corrupt(
      images, [make()], patch, seed=seed, in_dataset=in_dataset)
  labels = batch["answers"]["rotation"]["label"]
  assert set(labels) == {0, 1, 2, 3}
  for before, after, label in zip(images, batch["image"], labels):
    # np.rot90 turns counter-clockwise.
    np.testing.assert_array_equal(np.rot90(before, label), after)
    np.testing.assert_array_equal(np.rot90(after, -label), before)
  assert batch["answers"]["rotation"]["counts"].all()


def test_which_views_turn():
  images = helpers.views(0, b=256, size=16)
  draws = {
      views: helpers.corrupt(images, [make(views=views)], 8)["answers"][
          "rotation"] for views in rotation.VIEWS}
  both = draws["both_views"]["label"].reshape(-1, 2)
  assert 0.1 < (both[:, 0] == both[:, 1]).mean() < 0.4
  share = np.bincount(both.ravel()) / both.size
  np.testing.assert_allclose(share, 1 / 4, atol=0.08)
  shared = draws["shared"]["label"].reshape(-1, 2)
  np.testing.assert_array_equal(shared[:, 0], shared[:, 1])
  one = draws["one_view"]["label"].reshape(-1, 2)
  assert not one[:, 0].any() and len(set(one[:, 1])) == 4
  counts = draws["one_view"]["counts"].reshape(-1, 2)
  assert not counts[:, 0].any() and counts[:, 1].all()


def test_patch_labels_live_in_the_rotated_frame():
  images = helpers.views(0, b=16, size=32)
  gray = colorize.Colorize(
      mode="train", weight=1.0, num_patches=3, target="pixel", hidden_dim=8)
  batch = helpers.corrupt(images, [make(), gray], 8)
  for i, label in enumerate(batch["answers"]["rotation"]["label"]):
    restored = picture.paste(
        batch["image"][i], batch["queries"]["colorize"]["ids"][i],
        batch["answers"]["colorize"]["pixels"][i])
    np.testing.assert_array_equal(restored, np.rot90(images[i], label))


def test_loss_by_hand():
  logits = np.zeros((4, 4), np.float32)
  logits[0, 2] = np.log(5.0)                    # p = 5 / 8
  answers = {"label": np.array([2, 1, 0, 3]),
             "counts": np.array([True, True, True, False])}
  loss, metrics = jax.jit(make().loss)(logits, answers)
  want = (np.log(8 / 5) + 2 * np.log(4)) / 3
  assert float(loss) == pytest.approx(want, abs=1e-6)
  # Ties go to the first class: rows 0 and 2 are right, row 3 does not count.
  assert float(metrics["accuracy"]) == pytest.approx(2 / 3)
  assert float(metrics["skill"]) == pytest.approx(1 - want / np.log(4))


def test_panels_turn_the_view_back():
  image = helpers.views(0, b=1, size=16)[0]
  panels = make().panels(
      np.rot90(image), {}, {"label": np.int32(1)}, np.array([0, 0, 9.0, 0]))
  assert [p.title for p in panels] == [
      "turned by 90°", "turned back by the 180° that the model says",
      "upright"]
  np.testing.assert_array_equal(panels[2].image, image)
  np.testing.assert_array_equal(panels[1].image, np.rot90(image, -1))


@pytest.mark.parametrize("changes", [dict(views="all"), dict(hidden_dim=-1)])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)

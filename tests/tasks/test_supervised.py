"""Supervised runs read the labels of the data."""

import numpy as np
import pytest

from mtvit import errors
from mtvit.tasks import base
from mtvit.tasks import supervised
from tests.tasks import helpers


def make(num_classes=5, views=2, **changes):
  fields = dict(readout="cls", smoothing=0.0, mixup=0.0, cutmix=0.0) | changes
  return supervised.Supervised(
      mode="train", weight=1.0, num_classes=num_classes,
      geometry=base.Geometry(32, 8, 8, views), **fields)


def test_labels_are_those_of_the_data_and_no_pixel_changes():
  images = helpers.views(0, b=4, size=32)
  labels = np.array([3, 3, 0, 0], np.int32)
  batch = helpers.corrupt(images, [make()], 8, label=labels)
  np.testing.assert_array_equal(batch["image"], images)
  np.testing.assert_array_equal(batch["answers"]["supervised"]["label"], labels)
  assert "supervised" not in batch["queries"]


def test_loss_by_hand():
  logits = np.zeros((2, 5), np.float32)
  logits[0, 3] = np.log(6.0)                    # p = 6 / 10
  loss, metrics = make().loss(logits, {"label": np.array([3, 1])})
  assert float(loss) == pytest.approx((np.log(10 / 6) + np.log(5)) / 2)
  assert float(metrics["accuracy"]) == 0.5
  assert make().trivial_loss == pytest.approx(np.log(5))


@pytest.mark.parametrize("labels, fix", [
    ([0, 5], "set it to 6"), ([-1, -1], "images without labels")])
def test_other_labels_are_refused(labels, fix):
  with pytest.raises(errors.ConfigError, match=fix):
    make().statistics_of([{"label": np.array(labels)}])
  make().statistics_of([{"label": np.array([0, 4])}])


def test_smoothed_and_mixed_loss_by_hand():
  task = make(smoothing=0.5)
  logits = np.log(np.array([[0.6, 0.1, 0.1, 0.1, 0.1]], np.float32))
  answers = {"label": np.array([0]), "other": np.array([1]),
             "share": np.array([0.25], np.float32)}
  # Class 0: a quarter of a half, and the half spread over five: 0.225;
  # class 1: 0.475; the others 0.1 each.
  want = -(0.225 * np.log(0.6) + 0.775 * np.log(0.1))
  loss, metrics = task.loss(logits, answers)
  assert float(loss) == pytest.approx(want, rel=1e-5)
  assert float(metrics["accuracy"]) == 0.0      # Class 1 has the larger share.


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_pictures_are_mixed_with_their_partner(views, kind):
  images = helpers.views(1, b=8, size=32)
  labels = np.repeat(np.arange(8 // views, dtype=np.int32), views)
  batch = helpers.corrupt(
      images, [make(8, views, **{kind: 1.0})], 8, label=labels)
  answers = batch["answers"]["supervised"]
  partner = [1, 0, 3, 2, 5, 4, 7, 6] if views == 1 else [2, 3, 0, 1, 6, 7, 4, 5]
  np.testing.assert_array_equal(answers["other"], labels[partner])
  share = np.asarray(answers["share"])
  assert share.min() >= 0 and share.max() <= 1 and share.std() > 0.05
  mixed, x = np.asarray(batch["image"]), np.asarray(images)
  if kind == "mixup":
    a = share[:, None, None, None]
    np.testing.assert_allclose(mixed, a * x + (1 - a) * x[partner], atol=0.51)
  for i in range(8 if kind == "cutmix" else 0):
    own, other = (mixed[i] == x[i]).all(-1), (mixed[i] == x[partner[i]]).all(-1)
    assert (own | other).all()
    assert own.mean() == pytest.approx(share[i], abs=0.01)
    rows, columns = np.nonzero(~own)            # A full rectangle.
    assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_shares_are_from_the_beta_distribution(kind):
  images = np.zeros((512, 32, 32, 3), np.uint8)
  labels = np.zeros(512, np.int32)
  batch = helpers.corrupt(
      images, [make(5, 1, **{kind: 0.3})], 8, label=labels)
  share = np.asarray(batch["answers"]["supervised"]["share"])
  # Of Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
  assert share.mean() == pytest.approx(0.5, abs=0.05)
  assert share.var() == pytest.approx(1 / (4 * 1.6), abs=0.02)

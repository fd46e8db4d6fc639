"""Supervised runs read the labels of the data."""

import numpy as np
import pytest

from mtvit import errors
from mtvit.tasks import base
from mtvit.tasks import supervised
from tests.tasks import helpers


def make(num_classes=5):
  return supervised.Supervised(
      mode="train", weight=1.0, num_classes=num_classes,
      geometry=base.Geometry(32, 8, 8))


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
    ([0, 5], "set it to 6"), ([-1, -1], "use data with labels")])
def test_other_labels_are_refused(labels, fix):
  with pytest.raises(errors.ConfigError, match=fix):
    make().measure([{"label": np.array(labels)}])
  make().measure([{"label": np.array([0, 4])}])

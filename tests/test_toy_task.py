"""A task from outside the package, as mtvit/tasks/README.md describes it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from mtvit import pretrain
from mtvit import tasks
from mtvit.models import heads
from mtvit.run import config_values
from mtvit.tasks import base
from mtvit.tasks import capacity
from mtvit.tasks import losses
from mtvit.tasks import picture


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Negative(base.Task):
  """Inverts half of the chosen patches and asks which."""

  name = "negative"

  num_patches: int

  @property
  def trivial_loss(self):
    return float(np.log(2))

  @property
  def chance(self):
    return 0.5

  def claim(self, layout, draw):
    return layout.random_patches(self.num_patches, draw)

  def corrupt(self, patches, ids, layout, draw):
    label = draw.integers("label", (self.num_patches,), 2)  # [b, k]
    chosen = label[..., None, None, None] == 1
    pixels = tf.where(chosen, 255 - patches, patches)       # [b, k, p, p, 3]
    return base.Corrupted(pixels, {"ids": ids}, {"label": label})

  def head(self):
    return heads.PatchHead((32,), 2)

  def loss(self, predicted, answers):
    return losses.classification(predicted, answers["label"])

  def panels(self, image, queries, answers, predicted):
    return [picture.Panel("inverted", image, tuple(
        (int(i), "red") for i in queries["ids"][answers["label"] == 1]))]


def test_a_task_from_outside_trains(
    tiny, tmp_path, pictures, monkeypatch):
  monkeypatch.setitem(tasks.TASKS, "negative", Negative)
  tiny.tasks.negative = dict(mode="train", weight=1.0, num_patches=3)
  for name in ("relative_position", "colorize"):
    tiny.tasks[name].mode = "off"
  tiny.batch_size, tiny.total_steps = 40, 40
  tiny.checkpoint_every, tiny.log_every = 40, 10
  result = pretrain.pretrain(config_values.to_plain(tiny), tmp_path / "run")
  assert result["negative/accuracy"] > 0.7 and result["negative/skill"] > 0.1
  assert (tmp_path / "run" / "report" / "negative.png").stat().st_size > 5000


def test_it_shares_the_checks_of_all_tasks(tiny, monkeypatch):
  monkeypatch.setitem(tasks.TASKS, "negative", Negative)
  geometry = base.Geometry(32, 8, 16)
  fields = dict(mode="train", weight=1.0, num_patches=17)
  made = tasks.create({"negative": fields}, geometry)
  with pytest.raises(Exception, match="negative need 17 patches; the 4x4 grid"):
    capacity.check(made, geometry.grid)
  with pytest.raises(Exception, match="tasks.negative.num_patch: no such key"):
    tasks.create({"negative": dict(fields, num_patch=3)}, geometry)

"""Tasks together: disjoint patches, control modes, capacity, typos."""

import dataclasses

import numpy as np
import pytest

from mtvit.configs import quickstart
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.tasks import base
from mtvit.tasks import capacity
from tests.tasks import helpers


PATCH_TASKS = ("relative_position", "jigsaw", "inpaint", "colorize")


def create(size=48, patch=8, **changes):
  """The report's tasks, and others if `changes` switch them on."""
  config = quickstart.get_config("strategy=report").tasks.to_dict()
  config["relative_position"].update(num_pairs=2, position="keep")
  config["colorize"]["num_patches"] = 9
  config["jigsaw"]["num_pieces"] = config["inpaint"]["num_patches"] = 2
  for key, value in changes.items():
    name, _, field = key.partition("__")
    config[name][field] = value
  geometry = base.Geometry(size, patch, 12)
  tasks = tasks_lib.create(config, geometry)
  capacity.check(tasks, geometry.grid)
  return tasks


def test_every_task_is_in_the_table_under_its_name():
  assert all(task.name == name for name, task in tasks_lib.TASKS.items())
  assert all(dataclasses.is_dataclass(t) for t in tasks_lib.TASKS.values())


@pytest.mark.parametrize("seed, size, patch, counts", [
    (0, 48, 8, dict(relative_position__num_pairs=1, jigsaw__num_pieces=9,
                    inpaint__num_patches=9, colorize__num_patches=9)),
    (1, 48, 8, dict(jigsaw__kind="permutation", inpaint__num_patches=2,
                    relative_position__num_pairs=9, jigsaw__num_groups=1,
                    colorize__num_patches=7)),
    (2, 40, 4, dict(relative_position__pairs="any", jigsaw__num_pieces=20,
                    relative_position__num_pairs=15, inpaint__num_patches=30,
                    inpaint__shape="blocks", colorize__num_patches=20)),
    (3, 56, 8, dict(jigsaw__num_pieces=4, inpaint__fill="mixed",
                    inpaint__region="part", relative_position__num_pairs=3,
                    colorize__num_patches=2))])
@pytest.mark.parametrize("position", ["keep", "swap", "mask_token"])
def test_claims_are_disjoint_and_all_change_is_claimed(
    seed, size, patch, counts, position):
  images = helpers.views(seed, b=32, size=size)
  if position == "swap" and counts["relative_position__num_pairs"] < 2:
    counts = counts | dict(relative_position__num_pairs=2,
                           jigsaw__num_pieces=4, inpaint__num_patches=5)
  tasks = create(
      size, patch, jigsaw__mode="train", inpaint__mode="train",
      relative_position__position=position,
      jigsaw__position="keep" if position == "swap" else position, **counts)
  batch = helpers.corrupt(images, tasks, patch, seed=seed)
  ids = {name: batch["queries"][name]["ids"].reshape(32, -1)
         for name in PATCH_TASKS}
  changed = helpers.changed(images, batch["image"], patch)
  for view in range(32):
    asked = [i for x in ids.values() for i in x[view]]
    assert len(set(asked)) == len(asked)
    assert set(np.flatnonzero(changed[view])) <= set(asked)
    hidden = set() if position != "mask_token" else {
        *ids["relative_position"][view], *ids["jigsaw"][view]}
    assert set(np.flatnonzero(batch["hide_position"][view])) == hidden


@pytest.mark.parametrize("name", PATCH_TASKS)
def test_a_task_corrupts_the_same_alone_and_controlled(name):
  images = helpers.views(1)
  on = dict(jigsaw__mode="train", inpaint__mode="train")
  both = helpers.corrupt(images, create(**on), 8)
  control = helpers.corrupt(
      images, create(**on | {f"{name}__mode": "corrupt"}), 8)
  np.testing.assert_array_equal(both["image"], control["image"])
  for field, value in both["queries"][name].items():
    np.testing.assert_array_equal(value, control["queries"][name][field])


def test_colors_and_pixels_to_predict_are_those_before_any_corruption():
  images = helpers.views(1)
  batch = helpers.corrupt(
      images, create(jigsaw__mode="train", inpaint__mode="train"), 8)
  before, rows = helpers.cut(images, 8), np.arange(6)[:, None]
  for name in ("inpaint", "colorize"):
    np.testing.assert_array_equal(
        batch["answers"][name]["pixels"],
        before[rows, batch["queries"][name]["ids"]])


def test_corrupt_mode_changes_no_pixel_and_off_does():
  images = helpers.views(0)
  on = helpers.corrupt(images, create(), 8)
  control = helpers.corrupt(images, create(colorize__mode="corrupt"), 8)
  off = helpers.corrupt(images, create(colorize__mode="off"), 8)
  np.testing.assert_array_equal(on["image"], control["image"])
  assert (on["image"] != off["image"]).any()
  assert "colorize" not in off["answers"]
  # Another task's draws are its own.
  np.testing.assert_array_equal(
      on["queries"]["relative_position"]["ids"],
      off["queries"]["relative_position"]["ids"])


def test_a_step_is_a_pure_function_of_seed_and_step():
  images = helpers.views(0)
  a, b, c, d = (
      helpers.corrupt(images, create(), 8, seed=seed, step=step)["image"]
      for seed, step in ((0, 3), (0, 3), (1, 3), (0, 4)))
  np.testing.assert_array_equal(a, b)
  assert (a != c).any() and (a != d).any()


@pytest.mark.parametrize("changes, message", [
    (dict(relative_position__num_pairs=19),
     r"relative_position \+ colorize need 47 patches; the 6x6 grid has 36"),
    (dict(colorize__num_patches=33),
     r"relative_position \+ colorize need 37 patches; the 6x6 grid has 36"),
    (dict(jigsaw__mode="train", jigsaw__kind="permutation",
          jigsaw__num_groups=5, colorize__mode="off"),
     "jigsaw need 5 blocks of 3x3 patches; the 6x6 grid has 4"),
    (dict(jigsaw__mode="train", jigsaw__kind="permutation",
          relative_position__num_pairs=10, colorize__mode="off"),
     "relative_position needs 10 pairs of neighbours; the 9 patches of other "
     "tasks may leave 9 on the 6x6 grid"),
    (dict(jigsaw__mode="train", inpaint__mode="train", jigsaw__num_pieces=8,
          inpaint__num_patches=16),
     r"position \+ jigsaw \+ inpaint \+ colorize need 37 patches; the 6x6"),
    (dict(relative_position__position="swap",
          relative_position__num_pairs=1), "takes at least 2"),
    (dict(jigsaw__mode="train", jigsaw__position="swap"),
     "tasks.jigsaw: position"),
    (dict(colorize__num_patches="9"), "tasks.colorize: a value's type"),
    (dict(colorize__mod="train"), r"tasks.colorize.mod: .*did you mean mode"),
    (dict(colorize__geometry=1), "no such key"),
    (dict(contrastive__mode="on"), "tasks.contrastive: mode"),
    (dict(contrastive__mode="off", relative_position__mode="corrupt",
          colorize__mode="off"), "no task trains"),
])
def test_impossible_tasks_are_refused(changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    create(**changes)

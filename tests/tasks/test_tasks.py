"""Tasks together: disjoint patches, control modes, capacity, typos."""

import dataclasses

import numpy as np
import pytest

from configs import quickstart
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.tasks import base
from tests.tasks import helpers


def create(size=48, patch=8, **changes):
  config = quickstart.get_config().tasks.to_dict()
  config["relative_position"]["num_pairs"] = 2
  config["colorize"]["num_patches"] = 9
  for key, value in changes.items():
    name, _, field = key.partition("__")
    config[name][field] = value
  geometry = base.Geometry(size, patch, 12)
  tasks = tasks_lib.create(config, geometry)
  tasks_lib.check_capacity(tasks, geometry.grid)
  return tasks


def test_every_task_is_in_the_table_under_its_name():
  assert all(task.name == name for name, task in tasks_lib.TASKS.items())
  assert all(dataclasses.is_dataclass(t) for t in tasks_lib.TASKS.values())


@pytest.mark.parametrize("seed", range(5))
def test_claims_are_disjoint_and_all_change_is_claimed(seed):
  images = helpers.views(seed, b=32)
  tasks = create(relative_position__num_pairs=2, colorize__num_patches=18)
  batch = helpers.corrupt(images, tasks, 8, seed=seed)
  pairs = batch["queries"]["relative_position"]["ids"].reshape(32, -1)
  gray = batch["queries"]["colorize"]["ids"]
  changed = helpers.changed(images, batch["image"], 8)
  for view in range(32):
    assert not set(pairs[view]) & set(gray[view])
    assert set(np.flatnonzero(changed[view])) <= set(pairs[view]) | set(
        gray[view])
    # Blocks are claimed whole: with 2 of 4 blocks taken and 18 patches gray,
    # every patch outside the blocks is gray.
    assert len(set(gray[view])) == 18


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
    (dict(relative_position__num_pairs=5),
     "need 5 blocks of 3x3 patches; the 6x6 grid has 4"),
    (dict(colorize__num_patches=19),
     r"relative_position \+ colorize need 37 patches; the 6x6 grid has 36"),
    (dict(colorize__mod="train"), r"tasks.colorize.mod: .*did you mean mode"),
    (dict(colorize__geometry=1), "no such key"),
    (dict(contrastive__mode="on"), "tasks.contrastive: mode"),
    (dict(contrastive__mode="off", relative_position__mode="corrupt",
          colorize__mode="off"), "no task trains"),
])
def test_impossible_tasks_are_refused(changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    create(**changes)

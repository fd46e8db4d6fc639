"""What each shipped strategy does to the places of a grid.

No place is privileged, and the neighbours that a prediction is compared with
are those that no task has changed.
"""

import dataclasses
import functools
import importlib

import numpy as np
import pytest
import tensorflow as tf

from mtvit.configs import common
from mtvit import config as config_lib
from mtvit.data import corruption
from mtvit.data import draws
from mtvit.tasks import base
from mtvit.tasks import jigsaw
from mtvit.training import run_tasks
from tests.tasks import helpers

CONFIGS = (("quickstart", ""), ("cifar10", "variant=nano/8,"),
           ("cifar10", "variant=nano/4,"), ("imagenet", "variant=Ti/16,"))
STATISTICS = {
    "colorize": {"mean": [0.0, 0.0], "deviation": [9.0, 9.0]},
    "inpaint": {"mean": [0.5] * 3, "deviation": [0.2] * 3,
                "absolute": {"normalised": 0.8, "pixels": 0.8}}}


def shipped(name, variant):
  """The strategies of a config that differ in what happens to patches.

  Yields:
    (config, the tasks of one forward pass, a name for both).
  """
  seen = set()
  for strategy in common.STRATEGIES:
    config = config_lib.parse(importlib.import_module(
        f"configs.{name}").get_config(f"{variant}strategy={strategy}"))
    for tasks in run_tasks.passes(config, run_tasks.create(config)).values():
      patch = tuple(t for t in tasks if (
          t.num_blocks + t.num_neighbours + t.num_patches))
      fields = {(t.name, f): str(getattr(t, f)) for t in patch
                for f in t.config_fields() if f not in ("mode", "weight")}
      key = (config.input, *sorted(fields.items()))
      if patch and key not in seen:
        seen.add(key)
        yield config, tasks, f"{name}:{variant}strategy={strategy}"


def claims(tasks, side, views, seed=0):
  """task name -> the patches that it claims, as the pipeline draws them."""
  source = draws.for_step(seed, 0, views, 0, views)
  layout = corruption.Layout(
      (side, side),
      corruption.block_partition((side, side), source.fold("layout")),
      tf.zeros((views, side**2), tf.bool), None, None, None, None)
  claimed = {}
  for task in tasks:
    ids = task.claim(layout, source.fold(f"{task.name}/claim"))
    if ids is not None:
      claimed[task.name] = ids.numpy()
      layout = layout.claimed(ids)
  return claimed


def unevenness(ids, side):
  """By how much the most and the least frequent place differ from the mean."""
  share = np.bincount(ids.ravel(), minlength=side**2) / ids.size
  return abs(share * side**2 - 1).max()


@pytest.mark.parametrize("name, variant", CONFIGS)
def test_no_place_is_privileged(name, variant):
  tested = 0
  for config, tasks, label in shipped(name, variant):
    side = config.model.image_size // config.model.patch_size
    # So many that six standard errors of a place are below a fifth.
    fewest = min(x.shape[1] for x in claims(tasks, side, 2).values())
    views = max(500, 1000 * side**2 // fewest)
    for task, ids in claims(tasks, side, views).items():
      assert unevenness(ids, side) < 0.2, (label, task)
      tested += 1
  assert tested > 4


@pytest.mark.parametrize("side, groups", [(6, 2), (7, 1), (8, 1), (14, 2)])
def test_blocks_leave_every_place_about_as_free(side, groups):
  """Of 3x3 blocks each holds one of four patches of an 8x8 grid, so nearly."""
  blocks = jigsaw.Jigsaw(
      mode="train", weight=1.0, kind="permutation", num_pieces=2,
      num_groups=groups, num_permutations=10, position="keep", hidden_dim=8,
      geometry=base.Geometry(4 * side, 4, 64))
  ids = claims([blocks], side, 8000)["jigsaw"]
  free = 1 - np.bincount(ids.ravel(), minlength=side**2) / 8000
  assert abs(free / free.mean() - 1).max() < 0.2


@functools.cache
def photos(side):
  """Noise with flat gray, black and coloured areas: uint8 [10, s, s, 3]."""
  images = helpers.views(0, 10, side)
  images[1, :side // 2] = 128
  images[2] = (200, 30, 90)
  images[3, :, side // 3:] = 0
  images[4] = 77
  images[5] //= 16
  return images


def neighbours_mean(colors, changed, grid, i):
  """Mean colour of the unchanged neighbours of patch i; None without any."""
  y, x = divmod(i, grid)
  near = [
      colors[r * grid + c].reshape(-1, 3).mean(0)
      for r in range(max(0, y - 1), min(grid, y + 2))
      for c in range(max(0, x - 1), min(grid, x + 2))
      if (r, c) != (y, x) and not changed[r * grid + c]]
  return np.mean(near, axis=0) if near else None


def corrupted(config, tasks):
  """Views before and after patches are corrupted, and the batch."""
  images = photos(config.model.image_size)
  tasks = [dataclasses.replace(t, statistics=STATISTICS.get(t.name, {}))
           for t in tasks]
  whole = [t for t in tasks if not (
      t.num_blocks + t.num_neighbours + t.num_patches)]
  run = functools.partial(
      helpers.corrupt, images, patch=config.model.patch_size,
      gray=np.arange(10) == 7)
  gray = config.input == "gray"
  return (run(tasks=whole)["image"], run(tasks=whole, gray_input=gray)["image"],
          run(tasks=tasks, gray_input=gray))


@pytest.mark.parametrize("name, variant", CONFIGS)
def test_the_baseline_is_the_mean_of_the_neighbours_that_nobody_changed(
    name, variant):
  claimed_but_unchanged = without = tested = 0
  for config, tasks, label in shipped(name, variant):
    asked = [t for t in tasks if t.name in ("colorize", "inpaint")]
    if not asked:
      continue
    p = config.model.patch_size
    grid = config.model.image_size // p
    originals, before, batch = corrupted(config, tasks)
    changed = helpers.changed(before, batch["image"], p)    # [10, n]
    for task in asked:
      colors = helpers.cut(
          originals if task.name == "colorize" else before, p).astype(float)
      ids = batch["queries"][task.name]["ids"]
      answers = batch["answers"][task.name]
      claimed_but_unchanged += int(
          (~np.take_along_axis(changed, ids, axis=1)).sum())
      for view, k in np.ndindex(ids.shape):
        want = neighbours_mean(
            colors[view], changed[view], grid, int(ids[view, k]))
        assert answers["around_found"][view, k] == (want is not None), label
        tested += 1
        if want is None:
          without += 1
          continue
        np.testing.assert_allclose(
            answers["around"][view, k], want, atol=1e-2, err_msg=label)
  assert tested > 100 and claimed_but_unchanged > 10
  assert without or variant.startswith("variant=Ti")

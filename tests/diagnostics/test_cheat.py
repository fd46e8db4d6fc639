"""The cheat index sees a cheat, and sees none where there can be none."""

import dataclasses

import numpy as np
import pytest

from mtvit.configs import common
from mtvit.diagnostics import cheat
from mtvit.training import inputs
from tests.tasks import helpers
from tests.training import learning


def measured(position, what, steps, refit, pairs=2):
  tasks = {f"tasks.{name}.mode": "off" for name in common.TASKS}
  tasks["tasks.relative_position.mode"] = "train"
  config, objective, state, _ = learning.train(learning.config(
      **tasks, **{"tasks.relative_position.position": position,
                  "tasks.relative_position.num_pairs": pairs}), steps)
  task, = objective.tasks
  batches = lambda seed, count: inputs.global_batches(
      config, objective.tasks, learning.ramps(64, seed), 0, count)
  return task, cheat.accuracy_of_heads(
      objective.model, state.params, task, what, batches(1, refit),
      batches(2, 12))


@pytest.mark.slow
def test_keep_is_answered_without_looking():
  task, (seen, blank, both) = measured(
      "keep", ("nothing", "contents", "both"), steps=100, refit=60)
  assert seen.count == 12 * 64 * 2 and seen.trained > 0.9
  # The positions alone tell a refitted head.
  assert blank.refitted > 0.4
  low, high = cheat.interval(1 / 8, both.count)
  assert low <= both.trained <= high and low <= both.refitted <= high
  assert task.slot_bound is None


@pytest.mark.slow
def test_swap_can_not_be_answered_without_looking():
  task, (seen, blank) = measured(
      "swap", ("nothing", "contents"), steps=20, refit=30, pairs=4)
  # The contents tell, and not only the other pairs' slots.
  assert seen.refitted > 0.5 > task.slot_bound + 0.2
  low, high = cheat.interval(1 / 8, blank.count)
  assert low <= blank.refitted <= high and low <= blank.trained <= high


@pytest.mark.parametrize("what, image, hidden", [
    ("nothing", 7, False), ("contents", 128, False), ("positions", 7, True),
    ("both", 128, True)])
def test_blank(what, image, hidden):
  views = cheat.blank(
      {"image": np.full((1, 8, 8, 3), 7, np.uint8),
       "hide_position": np.zeros((1, 4), bool)}, what, np.array([[2]]))
  assert (np.asarray(views["image"]) == image).all()
  assert (np.asarray(views["hide_position"]) == hidden).all()


def test_blank_only_what_is_queried():
  images = np.random.default_rng(0).integers(0, 127, (2, 12, 12, 3), np.uint8)
  ids = np.array([[[0, 5]], [[7, 8]]])                      # [b, m, 2]
  views = cheat.blank(
      {"image": images, "hide_position": np.zeros((2, 9), bool)}, "queried",
      ids)
  changed = helpers.changed(images, np.asarray(views["image"]), 4)
  for row, chosen in zip(changed, ids):
    assert set(np.flatnonzero(row)) == set(chosen.ravel())
  after = helpers.cut(np.asarray(views["image"]), 4)
  assert (after[0, [0, 5]] == 128).all()
  assert not np.asarray(views["hide_position"]).any()


def test_table_shows_accuracy_minus_chance():
  row = dict(
      task="relative_position", position="drop", chance=0.125, slot_bound=0.5,
      chance_low=0.1, chance_high=0.15)
  results = [cheat.Result(w, 0.25, 0.5, 100) for w in cheat.BLANKS]
  text = cheat.table([row | dataclasses.asdict(r) for r in results])
  assert "position=drop, 100 answers; chance 0.125" in text
  assert "slots alone 0.500" in text
  assert text.count("+0.125") == 5 and text.count("+0.375") == 5


def test_binomial_interval():
  # 64 coin flips, mean 32 and deviation 4: 99 % within 2.576 deviations.
  low, high = cheat.interval(0.5, 64)
  assert low * 64 == pytest.approx(32 - 2.576 * 4, abs=1)
  assert high * 64 == pytest.approx(32 + 2.576 * 4, abs=1)

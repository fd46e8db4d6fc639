"""The cheat index sees a cheat, and sees none where there can be none."""

import dataclasses

import numpy as np
import pytest

from configs import common
from mtvit import build
from mtvit.evals import cheat
from tests import learning


def measured(position, what, steps=120):
  tasks = {f"tasks.{name}.mode": "off" for name in common.TASKS}
  tasks["tasks.relative_position.mode"] = "train"
  config, objective, state, _ = learning.train(learning.config(
      **tasks, **{"tasks.relative_position.position": position}), steps)
  task, = objective.tasks
  batches = lambda seed, count: build.global_batches(
      config, objective.tasks, learning.ramps(64, seed), 0, count)
  return task, [
      cheat.measure(objective.model, state.params, task, w,
                    batches(1, 100), batches(2, 12)) for w in what]


def test_keep_is_answered_without_looking():
  task, (seen, blank, both) = measured("keep", ("nothing", "contents", "both"))
  assert seen.count == 12 * 64 * 2 and seen.trained > 0.9
  # The positions alone tell a refitted head.
  assert blank.refitted > 0.8
  low, high = cheat.interval(1 / 8, both.count)
  assert low <= both.trained <= high and low <= both.refitted <= high
  assert task.slot_bound is None


def test_swap_can_not_be_answered_without_looking():
  _, (seen, blank) = measured("swap", ("nothing", "contents"), steps=200)
  assert seen.refitted > 0.4                # The contents tell, and only they.
  low, high = cheat.interval(1 / 8, blank.count)
  assert low <= blank.refitted <= high and low <= blank.trained <= high


@pytest.mark.parametrize("what, image, hidden", [
    ("nothing", 7, False), ("contents", 128, False), ("positions", 7, True),
    ("both", 128, True)])
def test_blank(what, image, hidden):
  views = cheat.blank({"image": np.full((1, 8, 8, 3), 7, np.uint8),
                       "hide_position": np.zeros((1, 4), bool)}, what)
  assert (np.asarray(views["image"]) == image).all()
  assert (np.asarray(views["hide_position"]) == hidden).all()


def test_table_shows_accuracy_minus_chance():
  row = dict(
      task="relative_position", position="drop", chance=0.125, slot_bound=0.5,
      chance_low=0.1, chance_high=0.15)
  results = [cheat.Result(w, 0.25, 0.5, 100) for w in cheat.BLANKS]
  text = cheat.table([row | dataclasses.asdict(r) for r in results])
  assert "position=drop, 100 answers; chance 0.125" in text
  assert "slots alone 0.500" in text
  assert text.count("+0.125") == 4 and text.count("+0.375") == 4


def test_binomial_interval():
  # 64 coin flips, mean 32 and deviation 4: 99 % within 2.576 deviations.
  low, high = cheat.interval(0.5, 64)
  assert low * 64 == pytest.approx(32 - 2.576 * 4, abs=1)
  assert high * 64 == pytest.approx(32 + 2.576 * 4, abs=1)

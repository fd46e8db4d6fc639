"""What stops all verdicts: each gate shut by what it is there for."""

import numpy as np
import pytest

from mtvit.study import gates
from tests.study import synthetic


def shut(world):
  results = world.results()
  found = [*gates.general(results), *gates.report(results)]
  return [gate for gate in found if not gate.passed]


def test_all_are_open():
  world = synthetic.World()
  assert shut(world) == []
  world.shift("random", "knn", 14.99, 0)                # 5.01 points are left.
  world.shift("all", "linear_shuffled_labels", 5, 0)    # One arm of many.
  assert shut(world) == []


def test_a_seed_of_many_arms_counts_once_where_labels_are_shuffled():
  world = synthetic.World()
  for arm in world.arms.values():          # All of them have seed 0.
    arm["linear_shuffled_labels"][0] -= 3.5
  of_runs = np.concatenate([
      arm["linear_shuffled_labels"] for arm in world.arms.values()])
  assert of_runs.mean() < 9
  assert shut(world) == []


def labels(world):
  for arm in world.arms:
    world.shift(arm, "linear_shuffled_labels", 1.1, 0)


def set_at(arm, measure, seed, value):
  return lambda world: world.arms[arm][measure].__setitem__(seed, value)


@pytest.mark.parametrize("name, says, harm", [
    ("contrastive learns", "mean +4.99",
     lambda world: world.shift("random", "knn", 15.01, 0)),
    ("contrastive learns", "interval -",
     lambda world: world.shift("random", "knn", 0, 100)),
    ("with labels shuffled", "mean 11.10", labels),
    ("with labels shuffled", "furthest run 18.4",
     set_at("all", "linear_shuffled_labels", 1, 18.4)),
    ("with labels shuffled", "nan", set_at("all", "num_classes", 2, 100)),
    ("corruption that is none", "0 of 1 seeds",
     set_at("control_nothing", "digest", 0, "another")),
    ("report and control see", "4 of 5 seeds are equal; seed 3: report other",
     set_at("report", "images_digest", 3, "other")),
    ("the same arm and seed", "seed 0",
     set_at("contrastive_again", "digest", 0, "another")),
    ("the same arm and seed", "contrastive_again not measured",
     lambda world: world.lost.add(("contrastive_again", 0))),
    ("no run skipped", "all, seed 4: 1.0", set_at("all", "skipped", 4, 1)),
    ("one kind of machine", "seed 2: cpu and gpu",
     lambda world: world.machine.update({("report", 2): "gpu"})),
    ("one digest of the training", "new: 1 runs, report/1",
     lambda world: world.code.update({("report", 1): "new"})),
    ("one digest of the data", "mine: 1 runs, all/2",
     lambda world: world.data.update({("all", 2): "mine"})),
])
def test_each_shuts(name, says, harm):
  world = synthetic.World()
  harm(world)
  (gate,) = shut(world)
  assert gate.name.startswith(name)
  assert says in gate.found
  assert gate.fix


def test_a_difference_is_told_before_a_row_that_is_missing():
  world = synthetic.World()
  world.lost.add(("report", 1))
  (gate,) = shut(world)
  assert "4 of 5 seeds are equal; seed 1: report not measured" in gate.found
  assert gate.fix == "run what is missing"
  world.arms["report"]["images_digest"][3] = "other"
  (gate,) = shut(world)
  assert "seed 3: report other, control pixels 3" in gate.found
  assert "draw alike" in gate.fix


def test_other_machines_may_run_other_seeds():
  world = synthetic.World()
  world.machine = {(arm, 2): "gpu" for arm in world.arms}
  assert shut(world) == []


def test_rows_of_another_config_are_told():
  results = synthetic.World().results()
  digests = {arm: f"config of {arm}" for arm in results.expected}
  assert gates.configs(results, digests).passed
  gate = gates.configs(results, digests | {"report_drop": "changed"})
  assert not gate.passed
  assert gate.found.startswith(
      "report_drop, seed 0: config of re, the study has changed")
  assert "and 1 more" in gate.found

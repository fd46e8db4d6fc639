"""All tasks learn in one forward pass, and know nothing of blank views."""

import jax
import numpy as np
import pytest
from scipy import stats

from mtvit.configs import common
from mtvit.diagnostics import cheat
from mtvit.training import inputs
from tests.training import learning

STEPS = 150


@pytest.fixture(scope="module")
def trained():
  return learning.train(learning.config(), STEPS)


def evaluate(trained, what, batches=8):
  """Mean metrics on other images, with something blanked."""
  config, objective, state, _ = trained
  tasks = objective.model.tasks
  metrics = jax.jit(lambda batch: objective.losses(
      state.params, state, batch)[1][0])
  found = []
  for batch in inputs.global_batches(
      config, tasks, learning.ramps(64, seed=1), 0, batches):
    batch["passes"] = {
        name: cheat.blank(views, what, np.zeros((len(views["image"]), 1), int))
        for name, views in batch["passes"].items()}
    found.append(jax.device_get(metrics(batch)))
  return {key: float(np.mean([f[key] for f in found])) for key in found[0]}


def test_every_task_learns_in_one_forward_pass(trained):
  found = evaluate(trained, "nothing")
  skills = {name: found[f"{name}/skill"] for name in common.TASKS}
  assert min(skills.values()) > 0.1, skills


def test_blank_views_without_positions_take_every_task_to_chance(trained):
  config, objective, *_ = trained
  seen, found = (evaluate(trained, what) for what in ("nothing", "both"))
  views = 2 * config.batch_size
  asked = {"rotation": 8 * views, "relative_position": 8 * views * 2,
           "jigsaw": 8 * views * 6}
  for task in objective.tasks:
    if task.name in asked:
      low, high = stats.binom.interval(0.999, asked[task.name], task.chance)
      accuracy = found[f"{task.name}/accuracy"] * asked[task.name]
      assert low <= accuracy <= high, (task.name, found)
      assert seen[f"{task.name}/accuracy"] > 2 * task.chance, task.name
    # No better than the constant predictor, whatever the measure.
    assert found[f"{task.name}/skill"] < 0.02, (task.name, found)
  # Equal views are told apart by luck: 2 of all, since ties go to the first.
  assert found["contrastive/accuracy"] <= 2 / views + 1e-6

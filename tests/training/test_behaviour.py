"""The first steps of every strategy have the losses that they always had.

`losses.txt` has been written by an older version of this code. Bit for bit two
versions are compared by `python tests/behaviour.py OLD NEW`, on one machine;
here the processor and the flags of XLA may be others. Rounding changes a loss
by less than 1e-6 of it, other draws or parameters by 1e-2.
"""

import pathlib

import jax
import numpy as np
import pytest

from mtvit.configs import common
from mtvit.configs import quickstart
from mtvit import config as config_lib
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding
from tests import behaviour
from tests.training import test_train_step

LOSSES = {
    line.split()[0]: np.array(line.split()[1:], float) for line in (
        pathlib.Path(__file__).with_name("losses.txt").read_text().splitlines())
    if not line.startswith("#")}


def losses(strategy, steps):
  """The losses of the first steps of what `tests.behaviour` trains."""
  raw = quickstart.get_config(f"strategy={strategy}")
  raw.update_from_flattened_dict(behaviour.CHANGES)
  config = config_lib.parse(raw)
  mesh = test_train_step.one_device()
  source, _ = inputs.sources(config)
  parts = assembly.create(
      config, mesh, source, inputs.data_statistics(
          config, run_tasks.create(config), source),
      total_steps=config.total_steps)
  found = []
  with jax.set_mesh(mesh):
    state = parts.first_state()
    for _, batch in zip(range(steps), parts.batches):
      state, metrics = parts.step(state, sharding.global_batch(batch, mesh))
      found.append(float(metrics["train/loss"]))
  return found


def test_every_strategy_has_losses():
  assert set(LOSSES) == set(common.STRATEGIES)


@pytest.fixture
def views_made_once(kept, monkeypatch):
  """Strategies share the views that their statistics are of.

  They are kept by all that they depend on.
  """
  make = inputs.global_batches

  def batches(config, tasks, source, *steps):
    key = (repr(inputs.pipeline_spec(config, tasks)), source.fingerprint, steps)
    if key not in kept:
      kept[key] = list(make(config, tasks, source, *steps))
    return iter(kept[key])

  monkeypatch.setattr(inputs, "global_batches", batches)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [
    # Alone, a task does what it does in a pass of its own.
    name for name in LOSSES if len(common.STRATEGIES[name]) > 1
    or name in ("contrastive", "supervised")])
def test_the_first_losses_are_as_they_were(strategy, views_made_once):
  want = LOSSES[strategy]
  found = losses(strategy, len(want))
  np.testing.assert_allclose(found, want, rtol=1e-3)

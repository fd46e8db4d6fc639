"""The guard against collapse: what it warns of, and when."""

import types

import numpy as np
import pytest

from mtvit.diagnostics import collapse
from mtvit.training import evaluation


@pytest.mark.parametrize("final", [False, True])
def test_it_warns_of_features_on_a_line(final, parsed, caplog):
  rng = np.random.default_rng(0)
  spread = rng.standard_normal((200, 8))
  line = np.outer(rng.uniform(1, 2, 200), np.arange(8.0))
  broken = np.full((200, 8), np.nan)
  look = evaluation.Look(
      step=7, state=None, final=final,
      features=lambda split, limit: evaluation.Features(
          {"gap": spread, "cls": line, "ct": broken}, np.full(200, -1)))
  no_labels = types.SimpleNamespace(classes=(), num_examples=200)
  guard = collapse.Collapse(evaluation.Context(
      parts=types.SimpleNamespace(config=parsed), train=no_labels,
      test=no_labels, workdir=None, should_stop=lambda: False))
  scalars = guard.run(look).scalars
  assert scalars.keys() == {"rankme/gap", "rankme/cls"}     # No labels needed.
  assert scalars["rankme/gap"] > 7 and scalars["rankme/cls"] < 1.1
  warned = "step 7: the features of cls have collapsed to 1.0 dimensions"
  assert [r.getMessage() for r in caplog.records] == [warned] * (not final)

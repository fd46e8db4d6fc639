"""Steps of arms, in real processes that take turns."""

import json

import pytest

from mtvit import api
from mtvit import errors
from mtvit.run import config_values
from mtvit.study import cost


def tiny(strategy):
  return config_values.to_plain(api.load_config(
      f"quickstart:strategy={strategy}", {
          "batch_size": 4, "model.variant": "pico/12", "model.unroll": 1}))


@pytest.mark.slow
def test_a_step_beside_that_of_another_arm(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
  found = cost.measure(
      {name: tiny(name) for name in ("report", "contrastive")}, "contrastive",
      cost.Rounds(repeats=3, steps=1))
  json.dumps(found, allow_nan=False)
  assert (found["against"], found["repeats"], found["steps"]) == (
      "contrastive", 3, 1)
  arms = found["arms"]
  assert arms.keys() == {"contrastive", "report"}
  assert arms["contrastive"]["ratio"] == arms["contrastive"]["flops_ratio"] == 1
  report = arms["report"]
  assert report["flops_ratio"] == (
      report["flops_step"] / arms["contrastive"]["flops_step"]) > 1
  assert 0 < report["ratio_least"] <= report["ratio"] <= report["ratio_most"]
  assert 0 < report["step_bytes"] and 10**7 < report["peak_bytes"]


def test_ratios_are_of_the_same_round():
  steps = lambda *seconds: [{"count": 2, "seconds": x} for x in seconds]
  found = cost.beside(steps(2.0, 4.0, 40.0), steps(2.0, 2.0, 16.0))
  assert found == pytest.approx({
      "seconds_step": 2.0, "seconds_least": 1.0, "seconds_most": 20.0,
      "ratio": 2.0, "ratio_least": 1.0, "ratio_most": 2.5})


def test_no_such_arm():
  with pytest.raises(errors.ConfigError, match="did you mean contrastive"):
    cost.measure({"contrastive": {}}, "contrastiv")

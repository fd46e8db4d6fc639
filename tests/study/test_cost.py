"""Steps of arms, in real processes that take turns."""

import pytest

from mtvit import errors
from mtvit.study import arms
from mtvit.study import cost
from mtvit.study import rows
from tests import commands


STUDY = """
from mtvit.study import arms

def get_study():
  return arms.Study(
      config="quickstart", cost_against="alone",
      changes={"batch_size": 4, "model.variant": "pico/12", "model.unroll": 1},
      arms=(arms.Arm("random", argument="strategy=contrastive", train=False),
            arms.Arm("colour", argument="strategy=colorize"),
            arms.Arm("alone", argument="strategy=contrastive")))
"""


@pytest.fixture
def named(tmp_path):
  (tmp_path / "mine.py").write_text(STUDY)
  return arms.load(str(tmp_path / "mine.py"))


@pytest.mark.slow
def test_steps_beside_that_of_another_arm(named, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", commands.QUICK)
  found = cost.record(named, rounds=cost.Rounds(repeats=2, steps=1))
  assert rows.read(named.rows).costs == (found,)
  assert (found["against"], found["repeats"], found["steps"]) == ("alone", 2, 1)
  assert found["arms"].keys() == {"alone", "colour"}
  assert found["config_digests"]["colour"] == named.study.digest(
      named.study.arm("colour"))
  alone, colour = found["arms"]["alone"], found["arms"]["colour"]
  assert alone["ratio"] == alone["flops_ratio"] == 1
  assert colour["flops_ratio"] == (
      colour["flops_step"] / alone["flops_step"]) < 1
  assert 0 < colour["ratio_least"] <= colour["ratio"] <= colour["ratio_most"]
  assert 0 < colour["step_bytes"] and 10**7 < colour["peak_bytes"]


@pytest.mark.parametrize("wanted, message", [
    ("color", "did you mean colour"), ("random", "random trains nothing")])
def test_arms_that_have_no_step(wanted, message, named):
  with pytest.raises(errors.ConfigError, match=message):
    cost.record(named, [wanted])
  assert not named.rows.exists()


def test_ratios_are_of_the_same_round():
  steps = lambda *seconds: [{"count": 2, "seconds": x} for x in seconds]
  found = cost.beside(steps(2.0, 4.0, 40.0), steps(2.0, 2.0, 16.0))
  assert found == pytest.approx({
      "seconds_step": 2.0, "seconds_least": 1.0, "seconds_most": 20.0,
      "ratio": 2.0, "ratio_least": 1.0, "ratio_most": 2.5})

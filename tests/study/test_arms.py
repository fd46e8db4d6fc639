"""A study: its file, its arms' configs, the order of its runs."""

import dataclasses

import pytest

from mtvit import errors
from mtvit.study import arms

STUDY = arms.Study(
    config="quickstart:strategy=report", changes={"total_steps": 7}, seeds=2,
    arms=(arms.Arm("once", seeds=1), arms.Arm("report"),
          arms.Arm("gray", {"input": "gray"})))


def with_arms(*given, **fields):
  return dataclasses.replace(STUDY, arms=given, **fields)


def test_runs_come_a_whole_seed_at_a_time_most_seeds_first():
  assert [(run.arm.name, run.seed) for run in STUDY.runs()] == [
      ("report", 0), ("gray", 0), ("report", 1), ("gray", 1), ("once", 0)]


def test_an_arm_is_the_config_with_its_differences():
  config = STUDY.resolve(STUDY.arm("gray"), 5)
  assert (config["input"], config["total_steps"], config["seed"]) == (
      "gray", 7, 5)
  assert config["tasks"]["colorize"]["mode"] == "train"
  assert config["tasks"]["jigsaw"]["mode"] == "off"
  other = with_arms(arms.Arm("a", argument="variant=pico/4"))
  other = dataclasses.replace(other, config="cifar10")
  assert other.resolve(other.arms[0])["model"]["variant"] == "pico/4"


def test_the_digest_tells_what_can_change_a_result():
  digest = STUDY.digest(STUDY.arm("report"))
  alike = arms.Arm("other", {"data.cache_dir": "/elsewhere"}, seeds=9)
  assert with_arms(alike).digest(alike) == digest
  for arm, fields in (
      (arms.Arm("report", {"tasks.colorize.weight": 2.0}), {}),
      (arms.Arm("report", train=False), {}),
      (arms.Arm("report"), {"measures": {"num_train": 10}}),
      (arms.Arm("report"), {"changes": {"total_steps": 8}})):
    assert with_arms(arm, **fields).digest(arm) != digest


@pytest.mark.parametrize("change, message", [
    (dict(arms=()), "no arms"),
    (dict(arms=(arms.Arm("a/b"),)), "'a/b': no name of letters"),
    (dict(arms=(arms.Arm("a"), arms.Arm("a"))), "two arms are named a"),
    (dict(arms=(arms.Arm("a", {"seed": 3}),)), "a: the study gives"),
    (dict(seeds=0), "report: seeds=0"),
    (dict(comparisons=(arms.Comparison("report", "grey"),)),
     "no arm grey.*did you mean gray"),
])
def test_a_study_that_contradicts_itself_is_refused(change, message):
  with pytest.raises(errors.ConfigError, match=message):
    dataclasses.replace(STUDY, **change)


def test_a_wrong_key_names_the_arm():
  arm = arms.Arm("a", {"tasks.colorize.wieght": 2.0})
  with pytest.raises(errors.ConfigError, match="arm a: .*wieght.*weight"):
    with_arms(arm).resolve(arm)


def write(folder, head, body="arms.Study(config='quickstart', "
                             "arms=(arms.Arm('a'),), seeds=len(tier))"):
  file = folder / "mine.py"
  file.write_text(
      f"from mtvit.study import arms\n{head}\n  return {body}\n")
  return file


def test_a_file_is_read_with_its_tier(tmp_path):
  file = write(tmp_path, "def get_study(tier='cpu'):")
  default, other = arms.load(str(file)), arms.load(f"{file}:gpus")
  assert (default.tier, default.study.seeds) == ("cpu", 3)
  assert (other.tier, other.study.seeds) == ("gpus", 4)
  assert other.rows == tmp_path / "mine.gpus.jsonl"
  assert other.name == f"{file}:gpus"
  plain = arms.load(str(write(tmp_path, "tier = 'x'\ndef get_study():")))
  assert (plain.tier, plain.rows) == ("", tmp_path / "mine.jsonl")


@pytest.mark.parametrize("head, body, tier, message", [
    ("def study():", "1", "", "no function get_study"),
    ("def get_study():", "1", "", "returned int"),
    ("def get_study():", "1", ":cpu", "has no tiers"),
    ("def get_study(tier):", "1", "", "which tier"),
    ("def get_study(tier='a'):", "{}[tier]", ":b", "mine.py, line 3"),
])
def test_a_file_that_is_no_study_is_named(tmp_path, head, body, tier, message):
  file = write(tmp_path, head, body)
  with pytest.raises(errors.ConfigError, match=message):
    arms.load(f"{file}{tier}")
  with pytest.raises(errors.ConfigError, match="not the Python file"):
    arms.load(str(tmp_path / "gone.py"))

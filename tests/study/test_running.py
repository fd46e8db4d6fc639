"""Running a study: what is refused, and what an interruption costs."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mtvit import errors
from mtvit.study import arms
from mtvit.study import provenance
from mtvit.study import rows
from mtvit.study import running
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]
STUDY = '''\
from mtvit.study import arms


def get_study():
  return arms.Study(
      config="quickstart", seeds=3,
      changes={"total_steps": 2, "batch_size": 8, "model.image_size": 32,
               "model.variant": "pico/8", "knn.k": 0, "knn.every_steps": 0,
               "diagnose_every": 0},
      measures=dict(
          num_train=100, num_test=50, layers=16, mosaics=(32, 16), heldout=16,
          cheat_steps=2, permutations=1),
      arms=(arms.Arm("random", train=False, argument="strategy=contrastive"),
            arms.Arm("trained", argument="strategy=contrastive")),
      comparisons=(arms.Comparison("trained", "random"),))
'''


@pytest.fixture
def named(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(STUDY)
  return arms.load(str(file))


def done(named, **fields):
  return rows.Row(**{
      "arm": "trained", "seed": 0, "status": "done",
      "config_digest": named.study.digest(named.study.arm("trained")),
      "code_digest": provenance.code_digest(), **fields})


def test_arms_and_seeds_are_chosen(named):
  options = running.Options(workdir=named.file.parent, arms=("trained",),
                            seeds=(2, 0))
  assert [(run.arm.name, run.seed) for run in running.chosen(
      named.study, options)] == [("trained", 0), ("trained", 2)]
  for change, message in ((dict(arms=("traned",)), "traned.*trained"),
                          (dict(seeds=(3,)), "no run has these")):
    with pytest.raises(errors.ConfigError, match=message):
      running.chosen(named.study, dataclasses.replace(options, **change))


def test_rows_of_other_settings_or_code_are_not_added_to(named):
  running.check_rows(named, rows.Table((done(named),)))
  for change, message in ((dict(config_digest="x"), "other settings"),
                          (dict(code_digest="x"), "another version")):
    with pytest.raises(errors.ConfigError, match=message):
      running.check_rows(named, rows.Table((done(named, **change),)))


@pytest.fixture
def command():
  """Starts `mtvit study run`; what a test that fails leaves is ended."""
  started = []

  def start(named, *flags):
    started.append(_start(named, *flags))
    return started[-1]

  yield start
  for process in started:
    process.kill()
    process.wait()


def _start(named, *flags):
  return subprocess.Popen(
      [sys.executable, "-m", "mtvit", "study", "run", str(named.file),
       f"--workdir={named.file.parent / 'runs'}", *flags], text=True,
      stderr=subprocess.PIPE, env=commands.environment(PYTHONPATH=str(ROOT)))


def wait_for(what, seconds=300):
  ends = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < ends
    time.sleep(0.2)


def of_runs(named):
  """Processes that make runs of this study."""
  listed = subprocess.run(
      ["ps", "-ww", "-eo", "args"], capture_output=True, text=True)
  return [x for x in listed.stdout.splitlines()
          if "study one" in x and str(named.file) in x]


@pytest.mark.slow
def test_a_study_of_two_arms_and_three_seeds_is_one_command(named, command):
  assert len(STUDY.splitlines()) <= 25
  killed = command(named, "--workers=2")
  wait_for(lambda: rows.read(named.rows).rows and len(of_runs(named)) == 2)
  killed.kill()                               # Between and within runs.
  killed.communicate()
  wait_for(lambda: not of_runs(named))        # They go with who started them.
  # A power cut, in the middle of the last row.
  named.rows.write_bytes(named.rows.read_bytes()[:-10])
  before = rows.read(named.rows)
  again = command(named, "--workers=2")
  _, said = again.communicate(timeout=900)
  assert again.returncode == 0, said
  assert "cut short" in said and "6 of 6 runs" in said and " h left" in said
  table = rows.read(named.rows)
  assert table.rows[:len(before.rows)] == before.rows and not table.notes
  assert table.done().keys() == {
      (arm, seed) for arm in ("random", "trained") for seed in range(3)}
  assert len(table.rows) == 6                 # Never twice, and no failure.
  for (arm, _), row in table.done().items():
    assert row.config_digest == named.study.digest(named.study.arm(arm))
    assert {"knn", "linear", "rankme", "digest"} <= row.measures.keys()
    assert row.code_digest == provenance.code_digest() and row.data
  # Nothing is left to do, and nothing is done.
  content = named.rows.read_bytes()
  last = command(named)
  assert last.communicate(timeout=60) and last.returncode == 0
  assert named.rows.read_bytes() == content


@pytest.mark.slow
def test_a_run_that_fails_is_tried_again_and_told(tmp_path, command):
  file = tmp_path / "bad.py"
  # No step is made in so short a time, so that the watchdog ends the process.
  file.write_text(STUDY.replace(
      '"total_steps": 2', '"watchdog_seconds": 1, "total_steps": 2'))
  named = arms.load(str(file))
  process = command(named, "--arms=trained", "--seeds=0")
  _, said = process.communicate(timeout=300)
  assert process.returncode == 1 and "trained, seed 0: failed" in said
  found = rows.read(named.rows)
  assert [(x.status, x.attempt) for x in found.rows] == [
      ("failed", 1), ("failed", 2)]
  # Of a thread that is at work the stack can't be read safely.
  assert {x.reason for x in found.rows} <= {
      f"{how}: no step in 0:00:01, the watchdog's limit"
      for how in ("exit code 1", "killed by SIGSEGV")}


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_go_on(named, command):
  process = command(named, "--arms=trained", "--seeds=0")
  log = named.file.parent / "runs" / "trained" / "0.log"
  wait_for(lambda: log.exists() and "parameters" in log.read_text())
  process.send_signal(signal.SIGTERM)
  _, said = process.communicate(timeout=200)
  assert process.returncode == 75 and "to continue" in said
  assert not of_runs(named) and not rows.read(named.rows).rows
  assert json.loads((log.parent / "0" / "config.json").read_text())

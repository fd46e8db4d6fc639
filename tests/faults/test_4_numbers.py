"""Losses that are not finite never reach the parameters or a checkpoint."""


import numpy as np

from mtvit.run import metrics
from mtvit.run import reading
from tests import states
from tests.faults import harness


def test_bad_steps_are_skipped(small, tmp_path, fault):
  small.total_steps = 8
  small.max_skipped_steps = 3
  run = harness.Run(small, tmp_path / "run", FAULTS_NAN="3-5",
                    FAULTS_IDS=tmp_path / "ids")
  run.expect(0)
  ids = harness.ids(tmp_path / "ids")
  bad = reading.read_lines(tmp_path / "run" / "nonfinite.jsonl").good
  assert bad == [{"step": s, "tasks": ["colorize"],
                  "examples": sorted(set(ids[s]))} for s in (3, 4, 5)]
  lines = metrics.read(tmp_path / "run/metrics.jsonl")
  assert [x["train/skipped"] for x in lines if "train/skipped" in x] == [
      0, 0, 1, 2, 3, 3, 3, 3]
  assert "step 4: colorize not finite on examples " in run.output
  assert "skipped (2 in a row, 2 in all)" in run.output
  step, found = states.leaves(tmp_path / "run")
  assert step == 8 and all(np.isfinite(x).all() for x in found.values()
                           if x.dtype.kind == "f")
  fault("three steps with targets that are not numbers",
        "skipped, counted, named with task and examples; exit 0, finite")


def test_a_run_of_bad_steps_ends_it(small, tmp_path, fault):
  small.max_skipped_steps = 3
  run = harness.Run(small, tmp_path / "run", FAULTS_NAN="6-99",
                    FAULTS_IDS=tmp_path / "ids")
  run.expect(3)
  said = run.wait_for("^error: ")
  examples = sorted(set(harness.ids(tmp_path / "ids")[9]))
  assert said == (
      "error: step 9: colorize not finite on examples "
      + ", ".join(map(str, examples)) + "; 4 steps in a row")
  # What was saved is what a run without the fault has at that step.
  step, digest = states.digest(tmp_path / "run", 4)
  assert states.steps(tmp_path / "run")[-1] <= 8
  sound = harness.Run(small, tmp_path / "sound")
  sound.wait_until(lambda: (tmp_path / "sound/checkpoints/4").exists())
  assert states.digest(tmp_path / "sound", 4) == (step, digest)
  sound.kill()
  for step in states.steps(tmp_path / "run"):
    for key, x in states.leaves(tmp_path / "run", step)[1].items():
      assert x.dtype.kind != "f" or np.isfinite(x).all(), key
  fault("targets that are never numbers again",
        "exit 3 after three skipped steps, naming step, task and examples; "
        "the checkpoints are finite")

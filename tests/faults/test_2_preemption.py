"""SIGTERM and Ctrl-C: saved, exit 75, and the next start continues."""

import os
import shlex
import signal
import subprocess
import time

from tests import states
from tests.faults import harness


def reach(run, when):
  """Waits until a run is there."""
  if when == "compile":
    run.wait_for("parameters; ")
    time.sleep(0.5)
    assert not any(line.startswith("step 1/") for line in run.lines)
  elif when == "save":
    run.wait_until(run.is_saving)
  else:
    run.wait_for({"training": "^step 6/", "evaluation": "mark: eval"}[when])


def stop(run, when):
  """Sends SIGTERM when a run is there; returns the seconds until its end."""
  reach(run, when)
  sent = time.monotonic()
  run.send(signal.SIGTERM)
  run.expect(75)
  return time.monotonic() - sent


def test_sigterm(small, tmp_path, fault):
  small.knn.every_steps = 10
  small.knn.num_train = small.knn.num_test = 16
  small.total_steps = 20
  start = lambda name, **env: harness.Run(
      small, tmp_path / name, FAULTS_MARK=1, **env)
  start("whole").expect(0)
  _, digest = states.digest(tmp_path / "whole")
  for when in ("compile", "training", "evaluation", "save"):
    # An empty cache makes compiling long enough to hit.
    cold = dict(JAX_COMPILATION_CACHE_DIR=tmp_path / "cold") if (
        when == "compile") else {}
    run = start(when, **cold)
    took = stop(run, when)
    saved = states.steps(tmp_path / when)[-1]
    run.wait_for(f"stopped: SIGTERM: saved step {saved} of 20")
    again = start(when)
    again.expect(0)
    assert f"resuming from step {saved} of 20" in again.output
    evaluated = [any(x.startswith("step 10 · knn") for x in r.lines)
                 for r in (run, again)]
    assert sum(evaluated) == 1, "the evaluation of step 10 was lost, or twice"
    if when == "evaluation":
      assert saved == 10 and evaluated == [False, True]
    states.assert_same(tmp_path / "whole", tmp_path / when)
    fault(f"SIGTERM during {when}",
          f"exit 75 after {took:.1f} s, saved step {saved}; the next start "
          f"ends with {digest} = uninterrupted run")


def test_ctrl_c(small, tmp_path, fault):
  small.total_steps = 2000
  run = harness.Run(small, tmp_path / "run")
  run.wait_for("^step 3/")
  run.send(signal.SIGINT)
  run.expect(75)
  printed = run.wait_for("to continue: ").partition("to continue: ")[2]
  saved = states.steps(tmp_path / "run")[-1]
  # What it prints, typed into a shell.
  words = shlex.split(printed) + ["--config.total_steps=2001"]
  environment = {**os.environ, "PYTHONPATH": str(harness.ROOT)}
  done = subprocess.run(
      words, cwd=harness.ROOT, env=environment, capture_output=True, text=True,
      timeout=harness.LIMIT)
  assert done.returncode == 2 and "total_steps (2000 -> 2001)" in done.stderr
  run = harness.Run(
      None, tmp_path / "run", JAX_COMPILATION_CACHE_DIR=tmp_path / "cold")
  run.wait_for(f"resuming from step {saved} of 2000")
  time.sleep(0.5)                      # It compiles; that takes seconds.
  run.send(signal.SIGINT)
  time.sleep(0.3)
  sent = time.monotonic()
  run.send(signal.SIGINT)
  run.expect(130)
  took = time.monotonic() - sent
  assert took < 1 and not any(x.startswith("step ") for x in run.lines)
  assert states.steps(tmp_path / "run")[-1] == saved
  fault("Ctrl-C; then twice, while compiling",
        f"exit 75, saved, and the command to continue; exit 130 after "
        f"{took:.1f} s")


def test_sigterm_to_one_of_two_processes(small, tmp_path, fault):
  small.knn.every_steps = 10
  small.knn.num_train = small.knn.num_test = 16
  small.total_steps = 12
  start = lambda name, **env: harness.several(
      small, tmp_path / name, FAULTS_MARK=1, **env)
  for process in start("whole"):
    process.expect(0)
  _, digest = states.digest(tmp_path / "whole")
  for victim, when in enumerate(("compile", "training", "evaluation", "save")):
    cold = dict(JAX_COMPILATION_CACHE_DIR=tmp_path / "cold") if (
        when == "compile") else {}
    processes = start(when, **cold)
    reach(processes[0], when)
    processes[victim % 2].send(signal.SIGTERM)
    saved = set()
    for process in processes:
      process.expect(75)
      saved.add(process.wait_for("stopped: SIGTERM: saved step"))
    assert len(saved) == 1, "they saved different steps"
    for process in start(when):
      process.expect(0)
    states.assert_same(tmp_path / "whole", tmp_path / when)
  fault("SIGTERM to one of two processes during compile, training, evaluation "
        "and save",
        f"both save the same step and exit 75; the next start ends with "
        f"{digest} = uninterrupted run")


def test_ctrl_c_after_sigterm(small, tmp_path):
  run = harness.Run(
      small, tmp_path / "run", JAX_COMPILATION_CACHE_DIR=tmp_path / "cold")
  reach(run, "compile")
  run.send(signal.SIGTERM)
  run.wait_for("SIGTERM: will save and stop; Ctrl-C to stop at once")
  run.send(signal.SIGINT)
  assert run.expect(130) and "stopped at once" in run.output

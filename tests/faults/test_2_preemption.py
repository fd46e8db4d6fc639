"""SIGTERM and Ctrl-C: saved, exit 75, and the next start continues."""

import os
import shlex
import signal
import subprocess
import re
import time

from tests import states
from tests.faults import harness


PHASES = ("compile", "training", "evaluation", "save")


def reach(run, when):
  """Waits until a run is there."""
  if when == "compile":
    run.wait_for("^step 0 |resuming from")
    time.sleep(0.5)
    assert not any(re.match("step [1-9]", line) for line in run.lines)
  elif when == "save":
    run.wait_until(run.is_saving)
  else:
    run.wait_for({"training": "^step 6/", "evaluation": "mark: eval"}[when])


def stop_in_phases(start, cold, phases=PHASES):
  """Stops one run in each phase in turn, and starts it again.

  Args:
    start: environment -> the processes of the run.
    cold: an empty cache, which makes compiling long enough to hit.
    phases: which.

  Yields:
    The phase, the seconds from the signal to the end, the step that was saved,
    and the first process.
  """
  for turn, when in enumerate(phases):
    processes = start(**(
        {"JAX_COMPILATION_CACHE_DIR": cold} if when == "compile" else {}))
    reach(processes[0], when)
    sent = time.monotonic()
    processes[turn % len(processes)].send(signal.SIGTERM)
    said = set()
    for process in processes:
      process.expect(75)
      said.add(process.wait_for("stopped: SIGTERM: saved step"))
    assert len(said) == 1, f"they saved different steps: {said}"
    saved = states.steps(processes[0].workdir)[-1]
    assert said.pop() == f"stopped: SIGTERM: saved step {saved} of 20"
    yield when, time.monotonic() - sent, saved, processes[0]


def evaluating(config):
  """20 steps, evaluated at the tenth."""
  config.knn.every_steps, config.knn.k = 10, 5
  config.knn.num_train = config.knn.num_test = 16
  config.knn.final_num_train = config.knn.final_num_test = 16
  config.total_steps = 20
  return config


def test_sigterm(small, tmp_path, fault):
  start = lambda name, **env: harness.Run(
      evaluating(small), tmp_path / name, FAULTS_MARK=1, **env)
  start("whole").expect(0)
  _, digest = states.digest(tmp_path / "whole")
  runs, last = [], 0
  for when, took, saved, run in stop_in_phases(
      lambda **env: [start("run", **env)], tmp_path / "cold"):
    assert saved == 10 if when == "evaluation" else saved > last
    assert not last or f"resuming from step {last} of 20" in run.output
    runs.append(run)
    last = saved
    fault(f"SIGTERM during {when}",
          f"exit 75 after {took:.1f} s, saved step {saved}")
  runs.append(start("run"))
  runs[-1].expect(0)
  states.assert_same(tmp_path / "whole", tmp_path / "run")
  evaluated = [any(x.startswith("step 10 · kNN") for x in r.lines)
               for r in runs]
  assert evaluated == [False, False, False, True, False], (
      "the evaluation of step 10 was lost, or made twice")
  fault("the run that was stopped in each of these phases",
        f"ends with {digest} = uninterrupted run; no evaluation is lost or "
        "made twice")


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
  run.wait_for("SIGINT: will save and stop")
  sent = time.monotonic()
  run.send(signal.SIGINT)
  run.expect(130)
  took = time.monotonic() - sent
  assert took < 5 and not any(x.startswith("step ") for x in run.lines)
  assert states.steps(tmp_path / "run")[-1] == saved
  fault("Ctrl-C; then twice, while compiling",
        f"exit 75, saved, and the command to continue; exit 130 after "
        f"{took:.1f} s")


def test_sigterm_to_one_of_two_processes(small, tmp_path, fault):
  start = lambda name, **env: harness.several(
      evaluating(small), tmp_path / name, FAULTS_MARK=1, **env)
  for process in start("whole"):
    process.expect(0)
  # A signal while they compile is heeded after a step, as one in training.
  phases = "compile", "evaluation", "save"
  steps = [saved for _, _, saved, _ in stop_in_phases(
      lambda **env: start("run", **env), tmp_path / "cold", phases)]
  for process in start("run"):
    process.expect(0)
  states.assert_same(tmp_path / "whole", tmp_path / "run")
  fault(f"SIGTERM to one of two processes during {', '.join(phases)}",
        f"each time both save the same step ({', '.join(map(str, steps))}) and "
        f"exit 75; ends with {states.digest(tmp_path / 'run')[1]} = "
        "uninterrupted run")


def test_ctrl_c_after_sigterm(small, tmp_path):
  run = harness.Run(
      small, tmp_path / "run", JAX_COMPILATION_CACHE_DIR=tmp_path / "cold")
  run.wait_for("parameters; ")       # Compiling comes next, without a look.
  time.sleep(0.5)
  run.send(signal.SIGTERM)
  run.wait_for("SIGTERM: will save and stop; Ctrl-C to stop at once")
  run.send(signal.SIGINT)
  assert run.expect(130) and "stopped at once" in run.output

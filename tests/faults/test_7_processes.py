"""Several processes: equal to one, and none outlives the others for long."""

import os
import shutil
import signal
import time

from tests import states
from tests.faults import harness

HEARTBEAT = 10


def test_two_processes_equal_one(everything, tmp_path, fault):
  everything.total_steps = 4
  everything.diagnose_every = 0
  everything.knn.every_steps = 2
  everything.knn.num_train = everything.knn.num_test = 16
  everything.knn.final_num_train = everything.knn.final_num_test = 16
  start = lambda name, count: harness.several(
      everything, tmp_path / name, count=count, devices=2 // count,
      FAULTS_IDS=[tmp_path / f"{name}.{i}" for i in range(count)],
      FAULTS_PICTURES=1)
  for count in (1, 2):
    for process in start(str(count), count):
      process.expect(0)
  states.assert_same(tmp_path / "1", tmp_path / "2")
  one = harness.ids(tmp_path / "1.0")
  halves = [harness.ids(tmp_path / f"2.{i}") for i in range(2)]
  assert one == {s: halves[0][s] + halves[1][s] for s in one}
  assert (tmp_path / "1/report/jigsaw.png").read_bytes() == (
      tmp_path / "2/report/jigsaw.png").read_bytes()
  fault("two processes with one device each, all seven tasks",
        f"{states.digest(tmp_path / '2')[1]} = one process with two devices")


def test_other_process_counts(small, tmp_path, fault):
  small.total_steps = 40
  log = lambda name, i: tmp_path / f"{name}.{i}"
  for process in harness.several(
      small, tmp_path / "whole", count=1, devices=2,
      FAULTS_IDS=[log("whole", 0)]):
    process.expect(0)
  merged = {}
  for turn, count in enumerate((1, 2, 1)):
    processes = harness.several(
        small, tmp_path / "run", count=count, devices=2 // count,
        FAULTS_IDS=[log(turn, i) for i in range(count)])
    if turn < 2:
      processes[0].wait_for("^step ")
      processes[0].send(signal.SIGTERM)
    for process in processes:
      process.expect(75 if turn < 2 else 0)
    parts = [harness.ids(log(turn, i)) for i in range(count)]
    merged |= {s: sum((p[s] for p in parts), []) for s in parts[0]}
  assert merged == harness.ids(log("whole", 0))
  states.assert_same(tmp_path / "whole", tmp_path / "run")
  fault("one process, then two, then one, with two devices in all",
        f"the same images in the same order, "
        f"{states.digest(tmp_path / 'run')[1]} = uninterrupted run")


def test_one_of_two_is_killed(small, tmp_path, fault):
  small.total_steps = 400
  took = []
  for victim, target in ((1, 4), (0, 8)):
    processes = harness.several(
        small, tmp_path / "run", f"--heartbeat_seconds={HEARTBEAT}")
    processes[0].wait_until(
        lambda: (tmp_path / "run/checkpoints" / str(target)).exists())
    processes[victim].kill()
    killed = time.monotonic()
    code = processes[1 - victim].finish()
    took.append(time.monotonic() - killed)
    other = processes[1 - victim]
    assert code in (1, -6), other.output
    assert code == -6 or "all processes share has failed" in other.output
    assert took[-1] < HEARTBEAT + 60
  # The second pair was the restart of the first.
  processes[0].wait_for("resuming from step")
  fault("`kill -9` of one of two processes, each in turn",
        f"the other exits within {max(took):.0f} s (code {code}); a restart "
        "resumes")


def test_one_of_two_is_frozen(small, tmp_path, fault):
  small.total_steps = 4000
  processes = harness.several(
      small, tmp_path / "run", f"--heartbeat_seconds={HEARTBEAT}")
  processes[0].wait_for("^step 2/")
  processes[1].send(signal.SIGSTOP)
  frozen = time.monotonic()
  code = processes[0].finish()
  took = time.monotonic() - frozen
  processes[1].kill()
  assert code in (1, -6) and took < HEARTBEAT + 60
  fault("one of two processes freezes (SIGSTOP)",
        f"the other exits after {took:.0f} s (code {code}) with "
        f"`--heartbeat_seconds={HEARTBEAT}`")


def test_one_of_two_can_not_read_its_data(small, tmp_path, fault):
  processes = harness.several(small, tmp_path / "run", FAULTS_DATA=[0, 3])
  processes[1].expect(4)
  ended = time.monotonic()
  code = processes[0].finish()
  assert code in (1, -6) and time.monotonic() - ended < 90
  fault("one of two processes can't read its data",
        f"it exits with 4, the other within "
        f"{time.monotonic() - ended:.0f} s (code {code})")


def test_different_configs(small, tmp_path, fault):
  other = small.copy_and_resolve_references()
  other.optimizer.base_lr = 0.004
  began = time.monotonic()
  for process in harness.several([small, other], tmp_path / "run"):
    process.expect(2)
    assert "process 1 has another config than process 0: " in process.output
    assert "optimizer.base_lr (0.006 -> 0.004)" in process.output
  fault("two processes with different configs",
        f"both exit 2 after {time.monotonic() - began:.0f} s, naming the key")


def test_one_has_a_wrong_config(small, tmp_path, fault):
  wrong = small.copy_and_resolve_references()
  wrong.optimizer.base_lr = -1.0
  for process in harness.several([small, wrong], tmp_path / "run"):
    took = process.expect(2)
    assert "base_lr=-1.0 must lie in" in process.output
  fault("one of two processes has an impossible config",
        f"both exit 2 after {took:.0f} s")


def test_a_second_pair_in_one_work_directory(small, tmp_path, fault):
  small.total_steps = 4000
  first = harness.several(small, tmp_path / "run")
  first[0].wait_for("^step 1/")
  for process in harness.several(small, tmp_path / "run"):
    took = process.expect(2)
    assert f"process {first[0].process.pid} on" in process.output
  for process in first:
    process.kill()
  fault("a second pair of processes in the same work directory",
        f"both exit 2 after {took:.0f} s")


def test_a_share_that_one_of_two_can_not_read(small, tmp_path, fault):
  small.mesh.data, small.mesh.fsdp = 1, 2
  small.checkpoint_every = 2
  start = lambda: harness.several(small, tmp_path / "run")
  processes = start()
  processes[0].wait_for("^step 8/")
  processes[0].send(signal.SIGTERM)
  for process in processes:
    process.expect(75)
  old, newest = states.steps(tmp_path / "run")
  folder = tmp_path / "run/checkpoints" / str(newest) / "state"
  share = max((folder / "ocdbt.process_1").rglob("d/*"),
              key=lambda f: f.stat().st_size)
  data = bytearray(share.read_bytes())
  for place in range(len(data) // 8, len(data), len(data) // 4):
    data[place:place + 3000] = bytes(len(data[place:place + 3000]))
  share.write_bytes(data)
  processes = start()
  processes[0].wait_for(f"resuming from step {old} of")
  processes[0].wait_for("^step ")
  processes[1].send(signal.SIGTERM)
  for process in processes:
    process.expect(75)
  assert (tmp_path / "run/damaged_checkpoints" / str(newest)).is_dir()
  fault("the share of one of two processes in the newest checkpoint is damaged",
        f"both set step {newest} aside and go on from step {old}")


def test_a_stuck_process(small, tmp_path, image_folder, fault):
  """An image that never answers: a named pipe in the place of a file."""
  small.data.memory_mb = 0
  small.total_steps = 4000
  small.watchdog_seconds = 25
  folder = tmp_path / "images"
  shutil.copytree(image_folder, folder)
  small.data.name = f"folder:{folder}"
  run = harness.Run(small, tmp_path / "run")
  run.wait_for("^step 2/")
  for file in (folder / "train").rglob("*.png"):
    file.unlink()
    os.mkfifo(file)
  stuck = time.monotonic()
  run.expect(1)
  took = time.monotonic() - stuck
  assert "Timeout (0:00:25)!" in run.output
  assert "most recent call first" in run.output and "loop.py" in run.output
  assert 20 < took < 120
  fault("a process that is stuck in reading a file",
        f"the watchdog (25 s) prints the stacks of all threads and ends it "
        f"after {took:.0f} s, exit 1")

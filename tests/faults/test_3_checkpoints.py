"""Damaged checkpoints, full disks, leftovers, two runs, other models."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import time

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import numpy as np
import pytest

from mtvit import errors
from mtvit.checkpoints import saving
from mtvit.run import metrics
from tests import states
from tests.faults import harness


def make_state(mesh, seed):
  """A state of the kinds of arrays that a run has, some of them sharded."""
  rng = np.random.default_rng(seed)
  put = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))
  return {
      "params": {
          "encoder": put(rng.standard_normal((64, 300)).astype("f"), P("data")),
          "head": put(rng.standard_normal((8, 16)).astype("bfloat16"), P())},
      "opt_state": [{"mu": put(rng.standard_normal((64, 300)).astype("f"),
                               P(None, None))}],
      "rng": put(jax.random.key(seed), P()),
      "step": put(np.int32(seed), P())}


def mesh_of(count):
  return jax.sharding.Mesh(
      np.array(jax.devices()[:count]), ("data",),
      axis_types=(AxisType.Auto,))


def shapes_of(state):
  return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
      state)


def bits(tree):
  raw = lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(
      x.dtype, jax.dtypes.prng_key) else x
  return [np.asarray(raw(x)).tobytes() for x in jax.tree.leaves(tree)]


def harm(file, how):
  """Damages a file; False if it can't be damaged in this way."""
  data = bytearray(file.read_bytes())
  if how == "deleted":
    file.unlink()
  elif not data:
    return False
  elif how == "zeroed":
    file.write_bytes(bytes(len(data)))
  elif how == "emptied":
    file.write_bytes(b"")
  elif how == "truncated":
    file.write_bytes(data[:len(data) // 2])
  else:
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)
  return True


@pytest.mark.parametrize(
    "how", ["deleted", "zeroed", "emptied", "truncated", "bit flipped"])
def test_any_damaged_file(how, tmp_path, fault):
  mesh = mesh_of(4)
  old, new = make_state(mesh, 1), make_state(mesh, 2)
  saver = saving.Checkpointer(tmp_path / "sound", keep=2)
  for step, state in ((1, old), (2, new)):
    saver.save(step, state, {"config": {"seed": step}, "statistics": {}})
  saver.close(2)
  folder = tmp_path / "sound" / "checkpoints" / "2"
  files = sorted(f.relative_to(folder) for f in folder.rglob("*")
                 if f.is_file())
  assert len(files) > 8
  counts = {"set aside": 0, "harmless": 0}
  for i, file in enumerate(files):
    workdir = tmp_path / str(i)
    shutil.copytree(tmp_path / "sound", workdir)
    if not harm(workdir / "checkpoints" / "2" / file, how):
      continue
    opened = saving.Checkpointer(workdir, keep=2)
    first = opened.newest()
    restored = opened.restore(shapes_of(new))
    assert restored.step in (1, 2) and first.step >= restored.step
    # Never anything but what was saved.
    assert bits(restored.state) == bits((old, new)[restored.step - 1]), file
    assert restored.meta["config"]["seed"] == restored.step, file
    aside = workdir / "damaged_checkpoints" / "2"
    assert aside.exists() == (restored.step == 1) or how == "deleted"
    counts["set aside" if restored.step == 1 else "harmless"] += 1
    opened.close(restored.step)
  assert counts["set aside"] >= 3, counts
  fault(f"each file of a checkpoint {how}, one at a time",
        f"{counts['set aside']} times the older checkpoint is used, "
        f"{counts['harmless']} times the damage is harmless; never a wrong "
        "bit")


def test_damage_during_a_run(small, tmp_path, fault):
  start = lambda name: harness.Run(small, tmp_path / name)
  start("whole").expect(0)
  run = start("run")
  run.wait_for("^step 13/")
  run.kill()
  old, newest = states.steps(tmp_path / "run")[-2:]
  biggest = max(
      (tmp_path / "run" / "checkpoints" / str(newest)).rglob("*"),
      key=lambda f: f.stat().st_size * f.is_file())
  assert harm(biggest, "bit flipped")
  again = start("run")
  again.expect(0)
  assert f"checkpoint {newest} is damaged (the content of " in again.output
  assert f"resuming from step {old} of 40" in again.output
  assert (tmp_path / "run" / "damaged_checkpoints" / str(newest)).is_dir()
  states.assert_same(tmp_path / "whole", tmp_path / "run")
  # With none left the run says so, now and later.
  for step in states.steps(tmp_path / "run"):
    shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step) / "state")
  for _ in range(2):
    last = start("run")
    last.expect(5)
    assert "no sound checkpoint" in last.output
  fault("one bit of the newest checkpoint flipped; then all damaged",
        f"warning, set aside, step {old} instead of {newest}, ends with "
        f"{states.digest(tmp_path / 'whole')[1]} = uninterrupted run; exit 5")


@contextlib.contextmanager
def small_disk(folder, megabytes):
  """A file system of its own, or skips where that is not allowed."""
  folder.mkdir()
  made = subprocess.run(
      ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none",
       str(folder)], capture_output=True, text=True)
  if made.returncode:
    pytest.skip(f"needs the right to mount: {made.stderr.strip()}")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(small, tmp_path, fault):
  small.total_steps = 4000
  small.checkpoint_every = 100
  small.log_every = 25
  with small_disk(tmp_path / "disk", 60) as disk:
    run = harness.Run(small, disk / "run")
    run.wait_for("^step 100/")
    run.wait_until(lambda: (disk / "run/checkpoints/100").exists())
    digest = states.digest(disk / "run", 100)
    filler = disk / "filler"
    # Closing it writes what is left in the buffer, and fails too.
    with contextlib.suppress(OSError), open(filler, "wb") as f:
      while True:
        f.write(bytes(2**16))
        f.flush()
    assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize < 2**17
    run.wait_for("could not be written: .*(RESOURCE_EXHAUSTED|No space left)")
    failed = int(run.wait_for("could not be written").split(
        "of step ")[1].split()[0])
    assert states.digest(disk / "run", 100) == digest
    filler.unlink()
    later = failed + 300
    run.wait_until(lambda: any(
        s > failed for s in states.steps(disk / "run")))
    run.send(15)
    run.expect(75)
    saved = states.steps(disk / "run")
    assert len(saved) == 2 and saved[-1] < later + 100
    again = harness.Run(small, disk / "run")
    again.wait_for(f"resuming from step {saved[-1]} of 4000")
    again.kill()
    # A torn line is left out; those after it are not lost.
    assert metrics.read(disk / "run/metrics.jsonl")[-1]["step"] > failed
  fault("the disk fills up during a save",
        f"warning, training goes on; step {failed} is missing, the older "
        f"checkpoint is intact, step {saved[-1]} is saved once there is room")


def test_nothing_can_be_saved(small, tmp_path, fault):
  with small_disk(tmp_path / "disk", 2) as disk:
    run = harness.Run(small, disk / "run")
    run.expect(5)
    run.wait_for("error: step 40 could not be saved")
    assert len(run.lines) < 100, "of a full disk one line a save is enough"
  fault("no room for a single checkpoint", "exit 5 at the end; says so")


def test_two_runs_in_one_work_directory(small, tmp_path, fault):
  small.total_steps = 4000
  first = harness.Run(small, tmp_path / "run")
  first.wait_for("^step 2/")
  second = harness.Run(small, tmp_path / "run")
  took = second.expect(2)
  assert f"process {first.process.pid} on" in second.output
  first.kill()                      # The lock of a dead process is no lock.
  third = harness.Run(small, tmp_path / "run")
  third.wait_for("^step ")
  third.kill()
  fault("a second run in the same work directory",
        f"refused after {took:.0f} s, exit 2, naming the first; free again "
        "once that is killed")


def test_another_model_is_refused_by_name(tmp_path, fault):
  mesh = mesh_of(2)
  state = make_state(mesh, 1)
  saver = saving.Checkpointer(tmp_path, keep=1)
  saver.save(1, state, {"config": {}, "statistics": {}})
  saver.close(1)
  saver = saving.Checkpointer(tmp_path, keep=1)
  other = dict(state, params={
      "encoder": state["params"]["encoder"].astype("bfloat16"),
      "head": state["params"]["head"][:4], "new": state["step"]})
  with pytest.raises(errors.CheckpointError) as e:
    saver.restore(shapes_of(other))
  for part in (
      "params/encoder is float32[64, 300] there and bfloat16[64, 300] here",
      "params/head is bfloat16[8, 16] there and bfloat16[4, 16] here",
      "params/new is missing there and int32[] here"):
    assert part in str(e.value)
  assert states.steps(tmp_path) == [1]             # Nothing was set aside.
  saver.close(1)
  fault("another shape, dtype or parameter than in the checkpoint",
        "exit 5, each named")


def test_leftovers_of_a_killed_save(tmp_path, fault):
  saver = saving.Checkpointer(tmp_path, keep=1)
  saver.save(1, make_state(mesh_of(1), 1), {"config": {}, "statistics": {}})
  saver.close(1)
  left = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  shutil.copytree(tmp_path / "checkpoints" / "1", left)
  opened = saving.Checkpointer(tmp_path, keep=1)
  assert opened.newest().step == 1
  deadline = time.monotonic() + 90      # A thread removes it.
  while left.exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
  opened.close(1)
  assert pathlib.Path(tmp_path, "checkpoints").exists()
  fault("temporary folders of a killed save", "removed at the next start")

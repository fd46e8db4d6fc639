"""Files of strangers: nothing is executed, nothing huge is allocated."""

import json
import tracemalloc

import jax
import numpy as np
import pytest

from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from tests.faults import harness
from tests.faults import test_3_checkpoints as checkpoints


def test_restoring_runs_no_code(small, tmp_path, fault):
  small.total_steps = 8
  first = harness.Run(small, tmp_path / "run")
  first.wait_for("^step 5/")
  first.send(15)
  first.expect(75)
  # The config file is not even looked at.
  again = harness.Run(
      None, tmp_path / "run", FAULTS_AUDIT=tmp_path / "audit")
  again.expect(0)
  assert "resuming from step" in again.output
  heard = lambda name: [
      line for line in (tmp_path / name).read_text().splitlines()
      if "['uname', '-p']" not in line]   # Python's own platform.processor().
  assert heard("audit") == ["listening"]
  probe = harness.Run(None, tmp_path / "run", FAULTS_PROBE=1,
                      FAULTS_AUDIT=tmp_path / "probe")
  probe.wait_for("resuming from step")
  probe.kill()
  assert len(heard("probe")) == 2 and "['true']" in heard("probe")[1]
  fault("a run continued from its work directory alone",
        "reads the JSON config in the checkpoint; no pickle, no code from "
        "files, no subprocess (Python audit hooks)")


def sealed(workdir, change):
  """A checkpoint whose metadata were changed by somebody who can seal."""
  mesh = checkpoints.mesh_of(1)
  state = checkpoints.make_state(mesh, 1)
  saver = saving.Checkpointer(workdir, keep=1)
  saver.save(1, state, {"config": {}, "statistics": {}})
  saver.close(1)
  file = workdir / "checkpoints" / "1" / "meta" / "metadata"
  meta = json.loads(file.read_text())
  del meta["sha256"]
  change(meta)
  meta["sha256"] = fingerprint.of_json(meta)
  file.write_text(json.dumps(meta))
  return state


def test_sizes_are_checked_before_memory_is_taken(tmp_path, fault):
  def grow(meta):
    meta["leaves"]["params/encoder"][0] = [2**40, 300]

  sealed(tmp_path / "grown", grow)
  with pytest.raises(errors.CheckpointError, match="params/encoder is .64"):
    loading.load_checkpoint(str(tmp_path / "grown"))
  # Somebody's metadata of metadata: 64 MB and more are not read.
  sealed(tmp_path / "long", lambda meta: meta.update(config="x" * 2**26))
  with pytest.raises(errors.CheckpointError, match="more than 67108864 bytes"):
    loading.load_checkpoint(str(tmp_path / "long"))
  fault("a checkpoint that claims an array of 1.2 PB, or has 64 MB of JSON",
        "exit 5 before memory is taken for it")


def test_compressed_zeros_are_refused(tmp_path, fault):
  mesh = checkpoints.mesh_of(1)
  state = checkpoints.make_state(mesh, 1)
  state["params"]["encoder"] = np.zeros((2**19, 150), np.float32)
  saver = saving.Checkpointer(tmp_path, keep=1)
  saver.save(1, state, {"config": {}, "statistics": {}})
  saver.close(1)
  tracemalloc.start()
  try:
    with pytest.raises(errors.CheckpointError, match="32 times as many"):
      loading.load_checkpoint(str(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < 2**25
  finally:
    tracemalloc.stop()
  fault("a checkpoint of a few MB that holds hundreds of MB of zeros",
        "exit 5 before memory is taken for it")


def test_other_formats_are_refused(tmp_path, fault):
  state = sealed(tmp_path, lambda meta: meta.update(format_version=99))
  opened = saving.Checkpointer(tmp_path, keep=1)
  for read in (opened.newest, lambda: loading.load_checkpoint(str(tmp_path)),
               lambda: opened.restore(checkpoints.shapes_of(state))):
    with pytest.raises(errors.CheckpointError, match="has format 99; this is"):
      read()
  assert (tmp_path / "checkpoints" / "1").exists()
  fault("a checkpoint of another format version", "exit 5, says which")


def test_loading_finds_damage(tmp_path):
  state = sealed(tmp_path, lambda meta: None)
  loaded = loading.load_checkpoint(str(tmp_path))
  assert checkpoints.bits(loaded.state) == checkpoints.bits(
      jax.device_get(state["params"]))
  sealed(tmp_path / "b", lambda meta: meta["leaves"]["params/head"].__setitem__(
      2, 12345))
  with pytest.raises(errors.CheckpointError, match="content of params/head"):
    loading.load_checkpoint(str(tmp_path / "b"))

"""Checkpoints that are read while a run goes on, and what they may decide."""

import dataclasses
import json
import pathlib
import shutil
import signal
import threading
import time

import numpy as np
import pytest

from mtvit import errors
from mtvit.checkpoints import checks
from mtvit.checkpoints import loading
from mtvit.run import config_values
from mtvit.training import saved_runs
from tests import commands


@pytest.fixture
def meanwhile(monkeypatch):
  """Does something once, when the metadata of a checkpoint have been read."""
  def prepare(action):
    check, left = checks.check_layout, [action]

    def first(*args):
      if left:
        left.pop()()
      return check(*args)

    monkeypatch.setattr(checks, "check_layout", first)

  return prepare


def test_the_next_newest_takes_the_place_of_what_vanishes(
    run, meanwhile, caplog):
  meanwhile(lambda: shutil.rmtree(run / "checkpoints" / "2"))
  assert loading.load_checkpoint(run).step == 1
  assert "checkpoints/2 was replaced" in caplog.text


def test_a_newer_one_takes_it(run, meanwhile, caplog):
  """As if only one was kept: it comes, and then the other goes."""
  def replace():
    shutil.copytree(run / "checkpoints" / "2", run / "checkpoints" / "30")
    shutil.rmtree(run / "checkpoints" / "2" / "state")

  meanwhile(replace)
  assert loading.load_checkpoint(run).step == 30
  assert "checkpoints/2 was replaced" in caplog.text


def test_what_was_asked_for_is_not_replaced(run, meanwhile):
  meanwhile(lambda: shutil.rmtree(run / "checkpoints" / "2"))
  with pytest.raises(errors.CheckpointError, match="was removed while"):
    loading.load_checkpoint(run, 2)
  meanwhile(lambda: shutil.rmtree(run / "checkpoints" / "1"))
  with pytest.raises(errors.CheckpointError, match="was removed while"):
    loading.load_checkpoint(run / "checkpoints" / "1")
  with pytest.raises(errors.CheckpointError, match="no checkpoint in"):
    loading.load_checkpoint(run)


def test_what_is_damaged_is_an_error_still(run, meanwhile):
  meanwhile(lambda: shutil.rmtree(run / "checkpoints" / "2" / "state"))
  with pytest.raises(errors.CheckpointError, match="is damaged"):
    loading.load_checkpoint(run)


def test_the_run_of_another_does_not_say_where_to_write(
    run, tmp_path, monkeypatch, caplog):
  raw, config = saved_runs.parse(None, run)
  stored = raw["data"]["cache_dir"]
  assert stored != config.data.cache_dir
  assert loading.saved_config(run) == raw        # It stays what it was.
  monkeypatch.delenv("MTVIT_CACHE_DIR")
  data = saved_runs.parse(None, run)[1].data
  assert data.cache_dir == "~/.cache/mtvit" and stored in caplog.text
  # Their own config is a user's own word.
  assert saved_runs.parse(raw, run)[1].data.cache_dir == stored
  # Data are read where they say; built-in ones would be made there.
  there = dataclasses.replace(data, name="cifar10", data_dir="/there")
  assert loading.with_own_folders(there).data_dir == "/there"
  for built_in in ("photo_tiles", "photo_crops"):
    there = dataclasses.replace(there, name=built_in)
    assert loading.with_own_folders(there).data_dir == ""
    assert loading.with_own_folders(
        there, data_dir="/mine").data_dir == "/mine"


@pytest.mark.parametrize("override", [
    ["--config.data.cache_dir=/mine"], ["-config.data.cache_dir", "/mine"]])
def test_whoever_continues_says_where_to_write(run, override):
  raw, config = saved_runs.parse(None, run, override)
  assert config.data.cache_dir == "/mine"
  saved = loading.saved_config(run)
  config_values.check_same(saved, raw, free=config_values.PLACES)
  with pytest.raises(errors.ConfigError, match="data.cache_dir"):
    config_values.check_same(saved, raw)


def test_a_link_to_nowhere_is_an_error(run):
  (run / "checkpoints" / "5").symlink_to(run / "nowhere")
  before = signal.signal(
      signal.SIGALRM, lambda *unused: pytest.fail("it is looked for for ever"))
  signal.alarm(100)
  try:
    with pytest.raises(errors.CheckpointError, match="5 is damaged"):
      loading.load_checkpoint(run)
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_step_is_exported_with_its_own_config(run, tmp_path):
  config = loading.load_checkpoint(run, 1).meta["config"]
  shutil.rmtree(run / "checkpoints" / "2" / "meta")
  done = commands.run(
      "mtvit.tools.export", f"--workdir={run}", "--step=1", "--formats=numpy",
      f"--output={tmp_path}/out")
  assert done.returncode == 0, done.stderr
  with np.load(tmp_path / "out" / "mtvit.npz", allow_pickle=False) as file:
    described = json.loads(str(file["mtvit"]))
  # Of folders their last part is told.
  config["data"].update(name="folder:images", cache_dir="cache")
  assert described["step"] == 1 and described["config"] == config


@pytest.mark.slow
def test_reading_while_checkpoints_come_and_go(run):
  """The real thing: one checkpoint is kept, and replaced all the time."""
  folder, stop = run / "checkpoints", threading.Event()
  shutil.rmtree(folder / "1")

  def rotate():
    for step in range(2, 10_000):
      if stop.wait(0.5):
        return
      part = folder / f"{step + 1}.orbax-checkpoint-tmp"
      shutil.copytree(folder / str(step), part)
      part.rename(folder / str(step + 1))
      shutil.rmtree(folder / str(step))

  thread = threading.Thread(target=rotate)
  thread.start()
  try:
    steps, end = [], time.monotonic() + 120
    while time.monotonic() < end and len(set(steps)) < 3:
      steps.append(loading.load_checkpoint(pathlib.Path(run)).step)
  finally:
    stop.set()
    thread.join()
  print(f"{len(steps)} read, {len(set(steps))} of them different")
  assert len(set(steps)) >= 3 and steps == sorted(steps)

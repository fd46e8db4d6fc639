"""Whole runs: results, exact resume, signals, initial parameters, configs."""

import os
import pathlib
import re
import shutil
import signal
import time

import numpy as np
from PIL import Image
import pytest

from mtvit.configs import cifar10
from mtvit.configs import imagenet
from mtvit import errors
from mtvit import pretrain
from mtvit.run import config_values
from mtvit.run import metrics
from mtvit.run import reading
from mtvit.training import inputs
from mtvit.training import loop
from mtvit.training import train_step
from tests import states

ROOT = pathlib.Path(__file__).parents[1]


def train(config, workdir, **kwargs):
  return pretrain.pretrain(config_values.to_plain(config), workdir, **kwargs)


@pytest.fixture
def stop_after(monkeypatch):
  """Makes SIGTERM arrive once a step has been reported."""
  def install(step):
    report = loop.Loop._report

    def wrapped(self, at, *args):
      if at == step:
        os.kill(os.getpid(), signal.SIGTERM)
        while not self.stop._received:      # A thread notes it.
          time.sleep(0.001)
      return report(self, at, *args)

    monkeypatch.setattr(loop.Loop, "_report", wrapped)
  return install


def test_a_run_leaves_its_results(
    tiny, tmp_path, pictures, capsys, caplog):
  tiny.knn.every_steps = 2
  tiny.profile_steps = (2, 3)
  result = train(tiny, tmp_path / "run")
  saved = reading.read_json(tmp_path / "run" / "result.json")
  assert saved == result
  for key in ("contrastive/loss", "colorize/loss",
              "relative_position/accuracy", "contrastive/skill",
              "colorize/skill", "relative_position/skill", "knn/accuracy",
              "knn/accuracy_random_init"):
    assert np.isfinite(saved[key]), key
  assert saved["knn/accuracy"] == saved["knn/ct"]
  lines = metrics.read(tmp_path / "run/metrics.jsonl")
  assert [x["step"] for x in lines if "train/loss" in x] == [1, 2, 3, 4]
  # Random init comes first; the images are the same at the end, so that what
  # it gave is not computed again.
  looks = [x for x in lines if "knn/accuracy" in x]
  assert [x["step"] for x in looks] == [0, 2, 4]
  for key in ("knn/accuracy", "knn/gap", "rankme/gap"):
    assert looks[-1][f"{key}_random_init"] == looks[0][key] == saved[
        f"{key}_random_init"], key
  assert reading.read_json(tmp_path / "run" / "config.json"
                           ) == config_values.to_plain(tiny)
  for name in ("curves", "colorize", "relative_position"):
    assert (tmp_path / "run" / "report" / f"{name}.png").stat().st_size > 5000
  assert list((tmp_path / "run").glob("events.out.tfevents*"))
  assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))
  assert "encoder/blocks/fc1/kernel" in (
      tmp_path / "run" / "parameters.txt").read_text()
  out = capsys.readouterr().out
  assert re.search(r"^step 4/4 +\d+ +0:00:00 ", out, re.MULTILINE)
  assert re.search(r"^step 0 · random init · kNN 0\.\d{3} · RankMe ", out,
                   re.MULTILINE)
  assert re.search(r"^step 2 · kNN 0\.\d{3} \(random init 0\.\d{3}\) · ", out,
                   re.MULTILINE)
  assert "Is it good? kNN accuracy 0." in out and "report/curves.png" in out
  assert "collapsed" not in caplog.text
  # A finished run is evaluated again, and says the same.
  again = train(tiny, tmp_path / "run")
  assert {k: v for k, v in again.items() if k != "seconds"} == {
      k: v for k, v in result.items() if k != "seconds"}


def test_starting_again_from_an_older_step_changes_nothing(run, tmp_path):
  shutil.copytree(run, tmp_path / "again")
  shutil.rmtree(tmp_path / "again" / "checkpoints" / "2")
  pretrain.pretrain(
      reading.read_json(run / "config.json"), tmp_path / "again")
  states.assert_same(run, tmp_path / "again")
  assert numbers(run) == numbers(tmp_path / "again")


@pytest.mark.slow
def test_stopping_and_starting_again_changes_nothing(
    everything, tmp_path, pictures, stop_after, monkeypatch, capsys):
  result = train(everything, tmp_path / "whole")
  assert_complete(everything, result, tmp_path / "whole")
  stop_after(3)
  with pytest.raises(errors.Preempted, match="saved step 3 of 4"):
    train(everything, tmp_path / "halves")
  monkeypatch.undo()
  capsys.readouterr()
  train(everything, tmp_path / "halves")
  assert "resuming from step 3 of 4" in capsys.readouterr().out
  states.assert_same(tmp_path / "whole", tmp_path / "halves")
  assert numbers(tmp_path / "whole") == numbers(tmp_path / "halves")


def numbers(workdir):
  """What a run has reported, but for its speed."""
  return [
      {key: value for key, value in line.items() if key not in (
          "train/images_per_second", "train/data_wait")}
      for line in metrics.read(workdir / "metrics.jsonl")]


def assert_complete(everything, result, run):
  """A run of all tasks leaves pictures and diagnostics."""
  tasks = [name for name, task in everything.tasks.items()
           if task.mode == "train"]
  assert len(tasks) >= 7
  for name in tasks:
    assert np.isfinite(result[f"{name}/skill"]), name
    # What dwa weighs a task with.
    assert result[f"{name}/weight"] > 0, name
    assert (run / "report" / f"{name}.png").exists(), name
  assert (run / "report" / "gradients.png").exists()
  lines = metrics.read(run / "metrics.jsonl")
  looked = [x for x in lines if "gradients/all/cosine/jigsaw/colorize" in x]
  assert [x["step"] for x in looked] == [2, 4]
  _, state = states.leaves(run)
  groups = {key.split("'")[1] for key in state}
  assert {"teacher", "task_state", "weighting"} <= groups
  assert any("queue" in key for key in state)


def test_a_changed_config_is_refused_by_name(run):
  config = reading.read_json(run / "config.json")
  config["optimizer"]["base_lr"] = 0.5
  with pytest.raises(
      errors.ConfigError, match=r"optimizer.base_lr \(0.006 -> 0.5\)"):
    pretrain.pretrain(config, run)
  pretrain.pretrain(config, run, allow_config_change=True)


@pytest.mark.slow
def test_init_from_takes_what_fits(tiny, tmp_path, caplog):
  tiny.total_steps = 1
  tiny.tasks.colorize.mode = "off"
  train(tiny, tmp_path / "first")
  tiny.tasks.colorize.mode = "train"
  tiny.optimizer.base_lr = 0.0                   # Parameters stay as started.
  fresh = tmp_path / "fresh"
  train(tiny, fresh)
  tiny.init_from = str(tmp_path / "first")
  train(tiny, tmp_path / "second")
  assert "fresh parameters: head_colorize/" in caplog.text
  (_, first), (_, second), (_, new) = (
      states.leaves(tmp_path / name) for name in ("first", "second", "fresh"))
  params = [key for key in second if key.startswith("['params']")]
  for key in params:
    source = new if "head_colorize" in key else first
    np.testing.assert_array_equal(second[key], source[key], err_msg=key)
  assert any("head_colorize" in key for key in params)
  tiny.model.variant = "nano/8"
  with pytest.raises(errors.CheckpointError, match="init_from: encoder.* is"):
    train(tiny, tmp_path / "third")
  tiny.init_from = str(tmp_path / "nowhere")
  with pytest.raises(errors.CheckpointError, match="does not exist"):
    train(tiny, tmp_path / "fourth")


@pytest.mark.slow
def test_collapse_is_warned_of(tiny, tmp_path, monkeypatch, caplog):
  # Features of one dimension, and [CT] outputs that hardly depend on the image.
  for split in ("train", "test"):
    for name in "ab":
      folder = tmp_path / "images" / split / name
      folder.mkdir(parents=True)
      for i in range(4):
        Image.new("RGB", (24, 24), "teal").save(folder / f"{i}.png")
  tiny.data.name = f"folder:{tmp_path / 'images'}"
  monkeypatch.setattr(
      train_step, "spread", lambda x: 0.01 + 0.0 * x.astype(float).sum())
  tiny.total_steps, tiny.knn.every_steps = 2, 1
  result = train(tiny, tmp_path / "run")
  assert "[CT] features have collapsed (spread 0.0100)" in caplog.text
  assert result["rankme/ct"] == pytest.approx(1, abs=0.01)
  assert ("step 1: the features of ct have collapsed to 1.0 dimensions"
          in caplog.text)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run(tiny, tmp_path):
  tiny.optimizer.base_lr = 100.0
  tiny.optimizer.warmup = 0.0
  tiny.optimizer.clip_norm = 1e9
  tiny.optimizer.weight_decay = 100.0
  tiny.batch_size = 40
  tiny.total_steps = 60
  tiny.max_skipped_steps = 2
  with pytest.raises(
      errors.NonFiniteError, match="not finite on examples .* 3 steps in a"):
    train(tiny, tmp_path / "run")
  if states.steps(tmp_path / "run"):
    for key, leaf in states.leaves(tmp_path / "run")[1].items():
      assert np.isfinite(leaf).all(), key


@pytest.mark.slow
@pytest.mark.parametrize("name, module, argument", [
    # The others are run in tests/test_doors.py.
    ("cifar10", cifar10, "variant=pico/8"),
    ("imagenet", imagenet, "variant=pico/16")])
def test_configs_run_two_steps(
    name, module, argument, image_folder, tmp_path, monkeypatch):
  # Colours are counted of so many views: most of the time at 224 px.
  monkeypatch.setattr(inputs, "STATISTICS_BATCH", 16)
  config = module.get_config(argument)
  config.data.name = f"folder:{image_folder}"
  config.data.train_split, config.data.test_split = "train", "test"
  config.data.cache_dir = str(tmp_path / "cache")
  config.total_steps, config.total_epochs = 2, 0.0
  config.batch_size = 8
  result = train(config, tmp_path / name)
  assert result["steps"] == 2 and np.isfinite(result["train/loss"])


def test_the_readout_must_exist(tiny, tmp_path):
  tiny.tasks.contrastive.mode = "off"
  with pytest.raises(errors.ConfigError, match=r"(?s)knn.readout=ct.*cls, gap"):
    train(tiny, tmp_path / "run")


@pytest.mark.slow
def test_the_readout_may_be_the_mean_patch(tiny, tmp_path):
  tiny.tasks.contrastive.mode = "off"
  tiny.knn.readout = "gap"
  result = train(tiny, tmp_path / "run")
  assert "knn/ct" not in result and result["knn/accuracy"] == result["knn/gap"]


@pytest.mark.parametrize("changes, message", [
    ({"relative_position.position": "drop", "jigsaw.position": "mask_token"},
     "either dropped or masked"),
    ({"relative_position.position": "drop_all"}, "no embeddings at all"),
    ({"jigsaw.kind": "permutation", "jigsaw.num_groups": 2},
     "need 2 blocks of 3x3 patches; the 4x4 grid has 1"),
    ({"inpaint.num_patches": 10}, "need 17 patches; the 4x4 grid has 16")])
def test_impossible_combinations_are_refused_before_data(
    changes, message, everything, tmp_path):
  everything.tasks.update_from_flattened_dict(changes)
  everything.data.name = "folder:/nowhere"
  with pytest.raises(errors.ConfigError, match=message):
    train(everything, tmp_path / "run")


def test_a_corruption_without_loss_has_no_pass_of_its_own(tiny, tmp_path):
  tiny.forward = "separate"
  tiny.tasks.colorize.mode = "corrupt"
  with pytest.raises(errors.ConfigError, match="mode=corrupt of colorize"):
    train(tiny, tmp_path / "run")


def test_too_few_images_are_a_data_error(tiny, tmp_path):
  tiny.batch_size = 64
  with pytest.raises(errors.DataError, match="40 training images"):
    train(tiny, tmp_path / "run")

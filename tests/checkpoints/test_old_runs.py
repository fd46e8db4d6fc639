"""Runs of older versions: they are read, and not continued in another order.

`old_runs/format_5` is a checkpoint of pico/8 that the last version of format 5
wrote, of a folder of two classes; its arrays were filled with seven values, so
that its files are small. `format_6` is a run likewise, of the four classes of
`image_folder`, with what it kept beside its checkpoint; its config has the keys
that there were before keys had defaults.
"""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

import mtvit
from mtvit import config as config_lib
from mtvit import errors
from mtvit import evaluate
from mtvit import interchange
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.checkpoints import older_configs
from mtvit.run import config_values
from mtvit.training import run_tasks
from mtvit.training import saved_runs
from tests import commands

OLD = pathlib.Path(__file__).parent / "old_runs"


def copied(version, tmp_path):
  shutil.copytree(OLD / f"format_{version}", tmp_path / "old")
  return tmp_path / "old"


@pytest.fixture
def old(tmp_path):
  return copied(5, tmp_path)


@pytest.mark.parametrize("version", [5, 6])
def test_one_is_loaded(version, tmp_path):
  old = copied(version, tmp_path)
  encoder = mtvit.load(old)
  assert (encoder.step, encoder.image_size, encoder.patch_size) == (1, 24, 8)
  kernel = encoder.params["embed"]["kernel"]
  np.testing.assert_array_equal(     # As it was filled.
      kernel.ravel()[:9], (np.arange(9) % 7 - 3) / 64)
  assert encoder.readouts == ("cls", "ct", "gap", "ct+gap")
  trained = saved_runs.load(old)
  assert trained.config.tasks["relative_position"]["pairs"] == "neighbours"


@pytest.mark.slow
@pytest.mark.parametrize("version", [5, 6])
def test_one_is_evaluated_and_exported(
    version, image_folder, tmp_path, monkeypatch):
  old = copied(version, tmp_path)
  monkeypatch.setenv("HOME", str(tmp_path))    # Its caches belong there.
  encoder = mtvit.load(old)
  found = evaluate.evaluate(old, evaluate.Options(
      data=f"folder:{image_folder}", layer_images=0, draws=2,
      diagnostics=False))
  assert found["step"] == 1 and found["data"]["num_test"] == 20
  done = commands.run("mtvit", "export", f"--workdir={old}",
                      f"--output={tmp_path / 'exported'}", "--formats=numpy")
  assert done.returncode == 0, done.stderr
  exported = interchange.read(tmp_path / "exported" / "mtvit.npz")
  np.testing.assert_array_equal(
      exported.params["embed"]["kernel"], encoder.params["embed"]["kernel"])


def test_one_is_not_continued_but_starts_another(old):
  before = sorted(old.rglob("*"))
  with pytest.raises(errors.CheckpointError) as e:
    pretrain.pretrain(None, old)
  assert e.value.exit_code == 5
  what, fix = str(e.value).splitlines()
  assert "whose images came in another order" in what
  assert "can be loaded, evaluated and exported, but not continued" in what
  assert f"--config.init_from={old} --workdir=ANOTHER" in fix
  assert set(sorted(old.rglob("*"))) - set(before) <= {old / "lock"}
  assert "encoder" in loading.weights(old)


@pytest.mark.slow
def test_one_goes_on(image_folder, tmp_path, monkeypatch):
  old = copied(6, tmp_path)
  before = loading.load_checkpoint(old)
  shutil.copytree(image_folder, tmp_path / "images")     # Its folder:images.
  monkeypatch.chdir(tmp_path)
  result = pretrain.pretrain(None, old, overrides=["--config.total_steps=3"])
  after = loading.load_checkpoint(old)
  assert result["steps"] == after.step == 3
  lines = (old / "metrics.jsonl").read_text().splitlines()
  losses = {line["step"]: line["train/loss"] for line in map(json.loads, lines)
            if "train/loss" in line}
  assert sorted(losses) == [1, 2, 3]
  assert np.isfinite(list(losses.values())).all()
  # It trains the head alone, as it did.
  jax.tree.map(np.testing.assert_array_equal, before.state["encoder"],
               after.state["encoder"])
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0,
                       *(x.state["head_relative_position"]
                         for x in (before, after)))
  assert all(jax.tree.leaves(moved))
  # What is written now has every key.
  config = json.loads((old / "config.json").read_text())
  full = loading.saved_config(old)
  assert full == config_lib.resolved(full) == after.meta["config"]
  assert config_values.flatten(full).items() <= config_values.flatten(
      config).items()


def test_a_saved_config_without_newer_keys_is_that_with_their_defaults():
  written = json.loads((OLD / "format_6/config.json").read_text())
  saved = loading.saved_config(OLD / "format_6")
  assert "kind" not in written["model"] and saved["model"]["kind"] == "vit"
  given = config_lib.resolved(saved)
  config_values.check_same(saved, given)
  given["model"]["kind"] = "another"
  with pytest.raises(errors.ConfigError, match="model.kind .vit -> another"):
    config_values.check_same(saved, given)


def test_keys_and_tasks_that_are_gone_are_named_unless_they_did_nothing():
  saved = loading.saved_config(OLD / "format_6")
  saved["tasks"]["unused"] = {"mode": "off", "weight": 1.0}
  assert older_configs.of_today(saved, 6) == loading.saved_config(
      OLD / "format_6")
  saved["tasks"]["used"] = {"mode": "train", "weight": 1.0}
  with pytest.raises(errors.ConfigError, match="tasks.used: no such task"):
    run_tasks.create(config_lib.parse(older_configs.of_today(saved, 6)))
  saved["optimizer"]["momentum"] = 0.9
  with pytest.raises(errors.ConfigError, match="optimizer.momentum: no such"):
    config_lib.parse(older_configs.of_today(saved, 6))


def test_only_old_configs_are_translated():
  config = {"tasks": {"relative_position": {"pairs": "block", "weight": 1.0},
                      "jigsaw": {"kind": "block"}}, "seed": 0}
  new = older_configs.translate(config, 5)
  assert new["tasks"]["relative_position"] == {
      "pairs": "neighbours", "weight": 1.0}
  assert new["tasks"]["jigsaw"] == {"kind": "block"} and new["seed"] == 0
  assert config["tasks"]["relative_position"]["pairs"] == "block"
  assert older_configs.translate(config, 6) == config
  for odd in (None, [], {"tasks": None}, {"tasks": {"relative_position": 1}},
              {"tasks": {"relative_position": {"pairs": ["block"]}}}):
    assert older_configs.translate(odd, 5) == odd

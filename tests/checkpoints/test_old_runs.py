"""Runs of older versions: they are read, and not continued in another order.

`old_runs/format_5` is a checkpoint of pico/8 that the last version of format 5
wrote, of a folder of two classes; its arrays were filled with seven values, so
that its files are small.
"""

import pathlib
import shutil

import numpy as np
import pytest

import mtvit
from mtvit import errors
from mtvit import evaluate
from mtvit import interchange
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.checkpoints import older_configs
from mtvit.interchange import exporting
from mtvit.training import saved_runs

OLD = pathlib.Path(__file__).parent / "old_runs"


@pytest.fixture
def old(tmp_path):
  shutil.copytree(OLD / "format_5", tmp_path / "old")
  return tmp_path / "old"


def test_one_is_loaded(old):
  encoder = mtvit.load(old)
  assert (encoder.step, encoder.image_size, encoder.patch_size) == (1, 24, 8)
  kernel = encoder.params["embed"]["kernel"]
  np.testing.assert_array_equal(     # As it was filled.
      kernel.ravel()[:9], (np.arange(9) % 7 - 3) / 64)
  assert encoder.readouts == ("cls", "ct", "gap", "ct+gap")
  trained = saved_runs.load(old)
  assert trained.config.tasks["relative_position"]["pairs"] == "neighbours"


@pytest.mark.slow
def test_one_is_evaluated_and_exported(
    old, image_folder, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))    # Its caches belong there.
  encoder = mtvit.load(old)
  found = evaluate.evaluate(old, evaluate.Options(
      data=f"folder:{image_folder}", layer_images=0, draws=2,
      diagnostics=False))
  assert found["step"] == 1 and found["data"]["num_test"] == 20
  exporting.export(encoder, tmp_path / "exported", ("numpy",),
                   config=loading.saved_config(old))
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

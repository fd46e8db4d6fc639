"""Fine-tuning: what it starts from, what it trains, and that it goes on."""

import jax
import numpy as np
import pytest

from etils import epath

from mtvit.configs import finetune as finetune_config
from mtvit import config as config_lib
from mtvit import encoder
from mtvit import errors
from mtvit import finetune
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.interchange import exporting
from mtvit.models import positions
from mtvit.run import config_values
from mtvit.run import metrics
from mtvit.run import reading
from tests import states
from tests.interchange import helpers


@pytest.fixture
def pretrained(tiny, made_once):
  """Two steps of contrastive and rotation: an encoder with [CT] and [ROT]."""
  for name, task in tiny.tasks.items():
    task.mode = "train" if name in ("contrastive", "rotation") else "off"
  tiny.total_steps, tiny.knn.readout = 2, "ct"
  return made_once(tiny, "pretrained")


@pytest.fixture
def config(tiny):
  """Four steps of fine-tuning on the same images."""
  config = finetune_config.get_config()
  config.total_epochs, config.total_steps, config.batch_size = 0.0, 4, 8
  config.data = tiny.data
  config.model.unroll = 1
  config.tasks.supervised.num_classes = 4
  config.log_every, config.checkpoint_every = 1, 2
  config.knn.every_steps = 2
  return config


def run(config, workdir, **kwargs):
  return pretrain.pretrain(
      finetune.complete(config_values.to_plain(config), epath.Path(workdir)),
      workdir, **kwargs)


def encoder_of(workdir, step=None):
  return jax.tree.leaves_with_path(
      loading.load_checkpoint(workdir, step).state["encoder"])


@pytest.mark.slow
def test_it_goes_on_at_a_higher_resolution(pretrained, config, tmp_path):
  config.init_from = str(pretrained)
  config.model.image_size = 64
  result = run(config, tmp_path / "run")
  raw = reading.read_json(tmp_path / "run/config.json")
  assert raw["model"]["variant"] == "pico/8"
  assert raw["model"]["extra_tokens"] == "ct,rot"
  assert raw["input"] == "rgb"
  assert 0 <= result["supervised/final_accuracy_low"] <= result[
      "supervised/final_accuracy"] <= result["supervised/final_accuracy_high"]
  lines = metrics.read(tmp_path / "run/metrics.jsonl")
  assert [x["step"] for x in lines if "supervised/test_accuracy" in x] == [2]
  assert encoder.load(tmp_path / "run").params["position"].shape == (64, 96)
  # Started again, a finished run only evaluates, and writes that line anew. It
  # needs what it started from no more, as another run does.
  pretrained.rename(tmp_path / "gone")
  run(config, tmp_path / "run")
  assert raw == reading.read_json(tmp_path / "run/config.json")
  with pytest.raises(errors.CheckpointError, match="does not exist"):
    run(config, tmp_path / "another")
  lines = metrics.read(tmp_path / "run/metrics.jsonl")
  assert sum("supervised/final_accuracy" in x for x in lines) == 1


@pytest.mark.slow
def test_a_linear_head_leaves_the_encoder_as_it_was(
    pretrained, config, tmp_path):
  config.init_from = str(pretrained)
  config.optimizer.trainable = "^head_"
  config.optimizer.weight_decay = 0.5
  run(config, tmp_path / "run")
  for (path, a), (_, b) in zip(
      encoder_of(pretrained), encoder_of(tmp_path / "run")):
    assert a.tobytes() == b.tobytes(), path
  head = loading.load_checkpoint(tmp_path / "run").state["head_supervised"]
  assert np.abs(head["out"]["kernel"]).max() > 0


@pytest.mark.slow
def test_two_and_two_steps_are_four(pretrained, config, tmp_path, monkeypatch):
  config.init_from = str(pretrained)
  assert config.model.drop_path > 0 and config.tasks.supervised.mixup > 0
  run(config, tmp_path / "whole")
  with monkeypatch.context() as patch:
    def crash(*unused):
      raise RuntimeError("power cut")
    patch.setattr(metrics.Writer, "write", crash)
    patch.setattr(metrics, "mean", lambda steps: crash() if steps[-1][
        "train/learning_rate"] == 0 else {})
    with pytest.raises(RuntimeError):
      run(config, tmp_path / "cut")
  run(config, tmp_path / "cut")
  states.assert_same(tmp_path / "whole", tmp_path / "cut")
  # All of the encoder is trained.
  assert all(
      (a != b).any() for (_, a), (_, b) in zip(
          encoder_of(pretrained), encoder_of(tmp_path / "whole")))


def test_what_the_config_leaves_open(run, config, tmp_path):
  raw = config_values.to_plain(config)
  with pytest.raises(errors.ConfigError, match="variant=nano/8"):
    finetune.complete(raw)
  raw["model"]["variant"] = "pico/8"
  complete = finetune.complete(raw)
  assert complete["model"]["image_size"] == 32
  assert complete["input"] == "rgb" and raw["input"] == ""
  raw["init_from"] = str(tmp_path / "nowhere")
  with pytest.raises(errors.CheckpointError, match="nowhere"):
    finetune.complete(raw)
  raw |= {"init_from": str(run)}
  raw["model"]["variant"] = "nano/8"
  with pytest.raises(errors.CheckpointError, match="there and"):
    pretrain.pretrain(finetune.complete(raw), tmp_path / "other")


@pytest.fixture
def dinov3(tmp_path):
  """A file as timm's of DINOv3, with random weights, of 32 px images."""
  exporting.export(helpers.encoder(
      tokens=("cls", "ct"), activation="gelu", layer_scale=0.1, registers=2,
      rotary_base=100.0, position_init="none", norm_epsilon=1e-5),
                   tmp_path / "dinov3", ["safetensors"])
  return tmp_path / "dinov3" / "model.safetensors"


def test_what_an_encoder_has_is_taken_over(dinov3, config):
  config.init_from, config.model.image_size = str(dinov3), 64
  config.model.layer_scale = 0.5                    # Set, so it stays.
  raw = finetune.complete(config_values.to_plain(config))
  assert {"variant": "pico/8", "image_size": 64, "activation": "gelu",
          "rotary_base": 100.0, "position_init": "none", "registers": 2,
          "norm_epsilon": 1e-5, "layer_scale": 0.5,
          "extra_tokens": "ct,reg0,reg1"}.items() <= raw["model"].items()
  model = config_lib.parse(raw).model
  loading.check_encoder(
      model.encoder(("cls",)), 64, loading.weights(dinov3)["encoder"])


@pytest.mark.slow
def test_a_run_starts_from_dinov3(dinov3, config, tmp_path):
  config.init_from, config.model.image_size = str(dinov3), 64
  config.optimizer.trainable = "^head_"
  run(config, tmp_path / "run")
  tuned, file = encoder.load(tmp_path / "run"), encoder.load(dinov3)
  assert tuned.model.rotary_base == 100
  for name in ("token_cls", "token_reg1"):
    np.testing.assert_array_equal(tuned.params[name], file.params[name])
  np.testing.assert_array_equal(
      tuned.params["blocks"]["layer_scale1"],
      file.params["blocks"]["layer_scale1"])
  run(config, tmp_path / "run")                     # It goes on, and is done.


def test_more_classes_than_the_head_has_are_named(config, tmp_path):
  config.model.variant, config.tasks.supervised.num_classes = "pico/8", 3
  with pytest.raises(errors.ConfigError, match="4 classes\n.*set it to 4"):
    run(config, tmp_path / "run")


@pytest.mark.parametrize("change, message", [
    ({"readout": "rot"}, "tasks.supervised.readout=rot"),
    ({"smoothing": 1.5}, "smoothing=1.5"), ({"mixup": -1.0}, "mixup")])
def test_an_impossible_head_is_named(config, tmp_path, change, message):
  config.model.variant = "pico/8"
  config.tasks.supervised.update(change)
  with pytest.raises(errors.ConfigError, match=message):
    run(config, tmp_path / "run")


def test_tasks_of_two_views_refuse_one(tiny, tmp_path):
  tiny.views = 1
  with pytest.raises(errors.ConfigError, match="views=1: relative_position and "
                     "contrastive and colorize"):
    pretrain.pretrain(config_values.to_plain(tiny), tmp_path / "run")


def test_other_tasks_refuse_mixed_images(tiny, tmp_path):
  tiny.tasks.supervised.update(mode="train", num_classes=4, cutmix=1.0)
  with pytest.raises(errors.ConfigError, match="cutmix of supervised"):
    pretrain.pretrain(config_values.to_plain(tiny), tmp_path / "run")


@pytest.mark.slow
def test_a_gray_run_without_positions_stays_so(gray_run, config, tmp_path):
  config.init_from, config.total_steps = str(gray_run), 1
  run(config, tmp_path / "run")
  loaded = encoder.load(tmp_path / "run")
  assert loaded.gray and "position" not in loaded.params


def test_resized_positions():
  ramp = np.stack(np.divmod(np.arange(16.0), 4), 1)       # Row, column.
  larger = positions.resized(ramp, 64).reshape(8, 8, 2)
  # Pixel centres: place i of 8 is place (i + 0.5) / 2 - 0.5 of 4.
  want = (np.arange(8) + 0.5) / 2 - 0.5
  np.testing.assert_allclose(larger[3:5, 3:5, 0], want[3:5, None] * [1, 1])
  np.testing.assert_allclose(larger[3:5, 3:5, 1], want[None, 3:5] * [[1], [1]])
  assert positions.resized(ramp, 16) is ramp
  flat = positions.resized(np.ones((16, 3)), 9)
  np.testing.assert_allclose(flat, 1, atol=1e-6)


@pytest.mark.slow
def test_it_learns(config, tmp_path):
  """Photographs can be told apart after some steps from scratch."""
  config.model.variant, config.total_steps = "pico/8", 60
  config.tasks.supervised.update(mixup=0.0, cutmix=0.0)
  config.optimizer.base_lr, config.checkpoint_every = 3e-2, 60
  config.knn.every_steps = 0
  result = run(config, tmp_path / "run")
  assert result["supervised/final_accuracy_low"] > 0.25
  assert result["supervised/final_accuracy"] > 0.6

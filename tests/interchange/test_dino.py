"""LayerScale, registers and rotary positions, in and out."""

import json

import numpy as np
import pytest
import safetensors.numpy

from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit import interchange
from mtvit.interchange import exporting
from mtvit.models import vit
from tests.interchange import helpers

D, L = 96, 4                     # pico.


@pytest.fixture
def dinov2(tmp_path):
  """An encoder as DINOv2's with registers, and timm's arrays of it."""
  encoder = helpers.encoder(
      tokens=("cls",), activation="gelu", layer_scale=1e-5, registers=2)
  exporting.export(encoder, tmp_path / "v2", ["safetensors"])
  return encoder, safetensors.numpy.load_file(
      tmp_path / "v2" / "model.safetensors")


@pytest.fixture
def dinov3(tmp_path):
  """An encoder as DINOv3's, without biases of q, k and v, and timm's arrays."""
  encoder = helpers.encoder(
      tokens=("cls",), activation="gelu", layer_scale=1e-5, registers=4,
      rotary_base=100.0, position_init="none", norm_epsilon=1e-5)
  encoder.params["blocks"]["attn"]["qkv"]["bias"][...] = 0
  exporting.export(encoder, tmp_path / "v3", ["safetensors"])
  arrays = safetensors.numpy.load_file(tmp_path / "v3" / "model.safetensors")
  return encoder, {
      name: x for name, x in arrays.items() if not name.endswith("qkv.bias")}


def test_layer_scale_and_registers(tmp_path, dinov2):
  encoder, arrays = dinov2
  scale = encoder.params["blocks"]["layer_scale2"]          # [l, d]
  assert (arrays["blocks.3.ls2.gamma"] == scale[3]).all()
  assert arrays["reg_token"].shape == (1, 2, D)
  again = encoder_lib.load(tmp_path / "v2" / "model.safetensors")
  assert again.model.layer_scale and again.model.registers == 2
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  helpers.assert_same_encoder(again, encoder, "cls", images)


def test_the_file_of_its_authors(tmp_path, dinov2):
  encoder, arrays = dinov2
  own = np.arange(D, dtype=np.float32)
  arrays["register_tokens"] = arrays.pop("reg_token")
  # [CLS] alone has a position; so have 1 + 16 of 17, and never 3 + 14.
  arrays["pos_embed"] = np.concatenate(
      [own[None, None], arrays["pos_embed"]], 1)
  arrays["mask_token"] = np.ones((1, D), np.float32)
  read = interchange.read(helpers.saved(tmp_path, arrays))
  cls = encoder.params["token_cls"] + own
  helpers.assert_same(read.params, encoder.params | {"token_cls": cls})
  arrays["pos_embed"] = arrays["pos_embed"][:, 1:]
  helpers.refused(helpers.saved(tmp_path, arrays), "16 position embeddings")


def test_other_formats_are_refused_by_what_the_encoder_has(tmp_path, dinov2):
  with pytest.raises(errors.ConfigError, match=(
      "(?s)npz,hf: .*layer_scale=1e-05, registers=2.*safetensors,numpy")):
    exporting.export(dinov2[0], tmp_path / "no", ["npz", "hf"])
  assert not (tmp_path / "no").exists()
  notes = exporting.export(dinov2[0], tmp_path / "all")
  assert set(notes) == {"model.safetensors", "mtvit.npz"}
  again = encoder_lib.load(tmp_path / "all" / "mtvit.npz")
  assert again.model.registers == 2
  helpers.assert_same(again.params, dinov2[0].params)


@pytest.mark.parametrize("name", ["rotary", "class_position"])
def test_our_own_file_holds_all(tmp_path, name):
  encoder = helpers.encoder(**{
      "rotary": dict(rotary_base=100.0, position_init="none", registers=1),
      "class_position": dict(class_position=True, norm_epsilon=1e-3)}[name])
  exporting.export(encoder, tmp_path, ["numpy"])
  again = encoder_lib.load(tmp_path / "mtvit.npz")
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  helpers.assert_same_encoder(again, encoder, "cls", images)


@pytest.mark.parametrize("name", [
    "blocks.0.ls2.gamma", "blocks.2.ls1.gamma"])
def test_layer_scale_in_part_is_refused(tmp_path, dinov2, name):
  _, arrays = dinov2
  del arrays[name]
  helpers.refused(helpers.saved(tmp_path, arrays), name)


def test_a_position_of_cls_has_its_slot(tmp_path):
  encoder = helpers.encoder(
      tokens=("cls",), activation="gelu", class_position=True)
  exporting.export(encoder, tmp_path)
  for file, name in (
      ("model.safetensors", "pos_embed"),
      ("hf/model.safetensors", "embeddings.position_embeddings")):
    arrays = safetensors.numpy.load_file(tmp_path / file)
    assert (arrays[name][0, 0] == encoder.params["position_cls"]).all()
    read = interchange.read(tmp_path / file)
    np.testing.assert_array_equal(
        read.params["token_cls"],
        encoder.params["token_cls"] + encoder.params["position_cls"])


@pytest.mark.parametrize("biases", [(), ("q", "v")])
def test_dinov3_by_its_names(tmp_path, dinov3, biases):
  encoder, arrays = dinov3
  want = encoder.params
  for i, x in enumerate(biases):
    for layer in range(L):
      bias = np.random.default_rng(i).standard_normal(D).astype(np.float32)
      arrays[f"blocks.{layer}.attn.{x}_bias"] = bias
      want["blocks"]["attn"]["qkv"]["bias"][layer, 2 * i] = bias.reshape(3, 32)
  read = interchange.read(helpers.saved(tmp_path, arrays))
  helpers.assert_same(read.params, want)
  assert {"rotary_base": 100.0, "position_init": "none", "norm_epsilon": 1e-5,
          "registers": 4, "image_size": 128}.items() <= read.model.items()
  notes = " ".join(read.notes)
  assert "names are those of timm's DINOv3" in notes
  assert "128 pixels are assumed" in notes


def test_rotary_positions_of_an_export(tmp_path, dinov3):
  encoder, _ = dinov3
  file = tmp_path / "v3" / "model.safetensors"
  again = encoder_lib.load(file)
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
  helpers.assert_same_encoder(again, encoder, "cls", images)
  # What tells of them is beside the weights.
  told = json.loads((tmp_path / "v3" / "timm.json").read_text())
  told[file.name]["create_model"]["rope_temperature"] = "100"
  (tmp_path / "v3" / "timm.json").write_text(json.dumps(told))
  helpers.refused(file, "rope_temperature", "'100'")
  (tmp_path / "v3" / "timm.json").unlink()
  helpers.assert_same(encoder_lib.load(file).params, encoder.params)
  (tmp_path / "v3" / "config.json").unlink()
  helpers.refused(file, "no pos_embed", "DINOv3")


@pytest.mark.parametrize("change", [
    lambda arrays: arrays.pop("reg_token"),
    lambda arrays: arrays.pop("blocks.0.gamma_1"),
    lambda arrays: arrays.update(pos_embed=np.ones((1, 16, D), np.float32)),
    lambda arrays: arrays.update({"rope.freqs": np.ones((2, 2), np.float32)}),
    "vit_small_patch16_rope_224"])
def test_other_rotary_positions_are_refused(tmp_path, dinov3, change):
  _, arrays = dinov3
  if isinstance(change, str):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": change}))
  else:
    change(arrays)
  helpers.refused(helpers.saved(tmp_path, arrays), "other.safetensors")


@pytest.mark.parametrize("changes, formats", [
    (dict(), {"safetensors", "npz", "hf", "numpy"}),
    (dict(class_position=True), {"safetensors", "npz", "hf", "numpy"}),
    (dict(layer_scale=0.1), {"safetensors", "numpy"}),
    (dict(registers=1), {"safetensors", "numpy"}),
    (dict(norm_epsilon=1e-5), {"hf", "numpy"}),
    (dict(rotary_base=100.0), {"numpy"}),
    (dict(rotary_base=100.0, position_init="none"), {"numpy"}),
    (dict(rotary_base=100.0, position_init="none", activation="gelu",
          norm_epsilon=1e-5), {"safetensors", "numpy"}),
    (dict(rotary_base=100.0, position_init="none", activation="gelu",
          norm_epsilon=1e-4), {"numpy"})])
def test_formats_that_can_hold_an_encoder(changes, formats):
  assert set(vit.ModelConfig(**changes).exports()) == formats

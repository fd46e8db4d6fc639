"""What is written: names, shapes and places by hand; round trips; notes."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

import mtvit
from mtvit import errors
from mtvit import interchange
from mtvit.interchange import exporting
from mtvit.models import variants
from tests import environments
from tests.interchange import helpers

ROOT = pathlib.Path(__file__).parents[2]
D, L, H, E, MLP, P, N = 96, 4, 3, 32, 384, 8, 16    # pico/8 of 32 pixels.


def blocks(template, of):
  return {template.format(i) + name: shape
          for i in range(L) for name, shape in of.items()}


TIMM_BLOCKS = blocks("blocks.{}.", {
    "norm1.weight": (D,), "norm1.bias": (D,),
    "attn.qkv.weight": (3 * D, D), "attn.qkv.bias": (3 * D,),
    "attn.proj.weight": (D, D), "attn.proj.bias": (D,),
    "norm2.weight": (D,), "norm2.bias": (D,),
    "mlp.fc1.weight": (MLP, D), "mlp.fc1.bias": (MLP,),
    "mlp.fc2.weight": (D, MLP), "mlp.fc2.bias": (D,)})
TIMM = {
    "patch_embed.proj.weight": (D, 3, P, P), "patch_embed.proj.bias": (D,),
    "cls_token": (1, 1, D), "norm.weight": (D,), "norm.bias": (D,),
    **TIMM_BLOCKS}
REGISTERS = {**TIMM, "reg_token": (1, 2, D), "pos_embed": (1, N, D)}
PLAIN = {**TIMM, "pos_embed": (1, N + 1, D)}
MHA = "MultiHeadDotProductAttention_1"
AUGREG = {
    "embedding/kernel": (P, P, 3, D), "embedding/bias": (D,),
    "cls": (1, 1, D),
    "Transformer/posembed_input/pos_embedding": (1, N + 1, D),
    "Transformer/encoder_norm/scale": (D,),
    "Transformer/encoder_norm/bias": (D,),
    **blocks("Transformer/encoderblock_{}/", {
        "LayerNorm_0/scale": (D,), "LayerNorm_0/bias": (D,),
        f"{MHA}/query/kernel": (D, H, E), f"{MHA}/query/bias": (H, E),
        f"{MHA}/key/kernel": (D, H, E), f"{MHA}/key/bias": (H, E),
        f"{MHA}/value/kernel": (D, H, E), f"{MHA}/value/bias": (H, E),
        f"{MHA}/out/kernel": (H, E, D), f"{MHA}/out/bias": (D,),
        "LayerNorm_2/scale": (D,), "LayerNorm_2/bias": (D,),
        "MlpBlock_3/Dense_0/kernel": (D, MLP),
        "MlpBlock_3/Dense_0/bias": (MLP,),
        "MlpBlock_3/Dense_1/kernel": (MLP, D),
        "MlpBlock_3/Dense_1/bias": (D,)})}
ATTENTION = {f"attention.attention.{x}.{y}": (D, D) if y == "weight" else (D,)
             for x in ("query", "key", "value") for y in ("weight", "bias")}
HUGGING_FACE = {
    "embeddings.cls_token": (1, 1, D),
    "embeddings.position_embeddings": (1, N + 1, D),
    "embeddings.patch_embeddings.projection.weight": (D, 3, P, P),
    "embeddings.patch_embeddings.projection.bias": (D,),
    "layernorm.weight": (D,), "layernorm.bias": (D,),
    **blocks("encoder.layer.{}.", {
        **ATTENTION,
        "attention.output.dense.weight": (D, D),
        "attention.output.dense.bias": (D,),
        "layernorm_before.weight": (D,), "layernorm_before.bias": (D,),
        "layernorm_after.weight": (D,), "layernorm_after.bias": (D,),
        "intermediate.dense.weight": (MLP, D),
        "intermediate.dense.bias": (MLP,),
        "output.dense.weight": (D, MLP), "output.dense.bias": (D,)})}
OURS = {
    "embed/kernel": (P * P * 3, D), "embed/bias": (D,), "position": (N, D),
    "token_cls": (D,), "token_ct": (D,), "token_rot": (D,),
    "norm/scale": (D,), "norm/bias": (D,), "mtvit": (),
    "blocks/norm1/scale": (L, D), "blocks/norm1/bias": (L, D),
    "blocks/norm2/scale": (L, D), "blocks/norm2/bias": (L, D),
    "blocks/attn/qkv/kernel": (L, D, 3, H, E),
    "blocks/attn/qkv/bias": (L, 3, H, E),
    "blocks/attn/out/kernel": (L, H, E, D), "blocks/attn/out/bias": (L, D),
    "blocks/fc1/kernel": (L, D, MLP), "blocks/fc1/bias": (L, MLP),
    "blocks/fc2/kernel": (L, MLP, D), "blocks/fc2/bias": (L, D)}


def arrays(path):
  if path.suffix == ".npz":
    with np.load(path, allow_pickle=False) as file:
      return dict(file)
  return safetensors.numpy.load_file(path)


@pytest.mark.parametrize("file, names, drop", [
    ("model.safetensors", REGISTERS, False),
    ("model.safetensors", PLAIN, True),
    ("augreg.npz", AUGREG, False),
    ("hf/model.safetensors", HUGGING_FACE, False),
    ("mtvit.npz", OURS, False)])
def test_names_and_shapes(tmp_path, file, names, drop):
  exporting.export(helpers.encoder(), tmp_path, drop_tokens=drop)
  found = {name: x.shape for name, x in arrays(tmp_path / file).items()}
  assert found == names


def test_single_values_are_where_they_belong(tmp_path):
  encoder = helpers.encoder()
  exporting.export(encoder, tmp_path)
  params = encoder.params
  timm = arrays(tmp_path / "model.safetensors")
  augreg = arrays(tmp_path / "augreg.npz")
  hf = arrays(tmp_path / "hf" / "model.safetensors")
  # Row 2, column 5 and blue of a patch, to unit 7.
  pixel = params["embed"]["kernel"][(2 * P + 5) * 3 + 2, 7]
  assert pixel == timm["patch_embed.proj.weight"][7, 2, 2, 5]
  assert pixel == augreg["embedding/kernel"][2, 5, 2, 7]
  # The key of head 1, channel 3, from unit 50, in block 2.
  key = params["blocks"]["attn"]["qkv"]["kernel"][2, 50, 1, 1, 3]
  assert key == timm["blocks.2.attn.qkv.weight"][D + E + 3, 50]
  assert key == hf["encoder.layer.2.attention.attention.key.weight"][E + 3, 50]
  assert key == augreg[
      f"Transformer/encoderblock_2/{MHA}/key/kernel"][50, 1, 3]
  # Head 2's channel 4 into unit 9, in block 3.
  out = params["blocks"]["attn"]["out"]["kernel"][3, 2, 4, 9]
  assert out == timm["blocks.3.attn.proj.weight"][9, 2 * E + 4]
  assert out == hf["encoder.layer.3.attention.output.dense.weight"][
      9, 2 * E + 4]
  # Tokens in order; no position of their own.
  assert (timm["reg_token"][0, 1] == params["token_rot"]).all()
  assert (timm["pos_embed"][0, 3] == params["position"][3]).all()
  assert not hf["embeddings.position_embeddings"][0, 0].any()
  assert (hf["embeddings.position_embeddings"][0, 4]
          == params["position"][3]).all()


@pytest.mark.parametrize("file", [
    "model.safetensors", "augreg.npz", "hf/model.safetensors", "mtvit.npz"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
@pytest.mark.parametrize("tokens", [("cls",), ("cls", "ct", "rot")])
def test_round_trips_to_the_last_bit(tmp_path, file, activation, tokens):
  encoder = helpers.encoder(tokens=tokens, activation=activation)
  exporting.export(encoder, tmp_path)
  read = interchange.read(tmp_path / file)
  keeps = file in ("model.safetensors", "mtvit.npz")
  assert read.token_names == (tokens if keeps else ("cls",))
  assert read.model.items() >= dict(
      variant="pico/8", image_size=32, activation=activation).items()
  helpers.assert_same(read.params, {
      name: x for name, x in encoder.params.items()
      if not name.startswith("token_") or name[6:] in read.token_names})
  assert not read.notes and not read.gray


def test_without_positions(tmp_path):
  encoder = helpers.encoder(policy="drop_all", tokens=("cls",))
  notes = exporting.export(encoder, tmp_path)
  for file in ("model.safetensors", "augreg.npz", "hf/model.safetensors"):
    assert "no position embeddings; they are 0" in " ".join(notes[file])
    position = interchange.read(tmp_path / file).params["position"]
    assert position.shape == (N, D) and not position.any()
  assert notes["mtvit.npz"] == []
  helpers.assert_same(
      interchange.read(tmp_path / "mtvit.npz").params, encoder.params)


def test_notes_are_told_and_written(tmp_path):
  notes = exporting.export(
      helpers.encoder(gray=True, policy="mask_token"), tmp_path)
  assert json.loads((tmp_path / "export.json").read_text())["notes"] == notes
  for file, lines in notes.items():
    text = " ".join(lines)
    assert "make the input gray" in text
    assert "hides positions in training is left out" in text
    dropped = file in ("augreg.npz", "hf/model.safetensors")
    assert ("tokens ct, rot are left out" in text) == dropped, file
  assert "registers are ct, rot" in " ".join(notes["model.safetensors"])
  assert interchange.read(tmp_path / "mtvit.npz").gray
  notes = exporting.export(
      helpers.encoder(), tmp_path, ["safetensors"], drop_tokens=True)
  assert "tokens ct, rot are left out" in notes["model.safetensors"][0]


def test_what_timm_and_transformers_are_told(tmp_path):
  exporting.export(helpers.encoder("Ti/16", 64, activation="gelu"), tmp_path)
  timm = json.loads((tmp_path / "timm.json").read_text())
  made = timm["model.safetensors"]["create_model"]
  assert made.pop("pretrained_cfg_overlay") == dict(
      input_size=[3, 64, 64], mean=[0.5] * 3, std=[0.5] * 3, crop_pct=1.0,
      interpolation="bilinear")
  assert made == dict(
      model_name="vit_tiny_patch16_224", img_size=64, patch_size=16,
      embed_dim=192, depth=12, num_heads=3, mlp_ratio=4.0, act_layer="gelu",
      reg_tokens=2, no_embed_class=True, num_classes=0, global_pool="token")
  assert timm["model.safetensors"]["tokens"] == ["cls", "ct", "rot"]
  plain = timm["augreg.npz"]["create_model"]
  assert plain["reg_tokens"] == 0 and plain["no_embed_class"] is False
  hf = json.loads((tmp_path / "hf" / "config.json").read_text())
  assert hf["hidden_act"] == "gelu" and hf["layer_norm_eps"] == 1e-6
  assert (hf["image_size"], hf["patch_size"], hf["intermediate_size"]) == (
      64, 16, 768)
  processor = json.loads(
      (tmp_path / "hf" / "preprocessor_config.json").read_text())
  assert processor["image_mean"] == processor["image_std"] == [0.5] * 3
  assert abs(processor["rescale_factor"] * 255 - 1) < 1e-12


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_timm_makes_the_hidden_units_of_every_variant(name):
  sizes = variants.VARIANTS[name]
  # As timm computes them.
  assert int(sizes["width"] * (
      sizes["mlp_dim"] / sizes["width"])) == sizes["mlp_dim"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  (tmp_path / "model.safetensors").write_text("mine")
  with pytest.raises(errors.ConfigError, match="not empty"):
    exporting.export(helpers.encoder(), tmp_path)
  assert [f.name for f in tmp_path.iterdir()] == ["model.safetensors"]
  assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path):
  exporting.export(helpers.encoder(), tmp_path)
  (tmp_path / "mine.txt").write_text("kept")
  other = helpers.encoder(seed=1)
  exporting.export(other, tmp_path, ["numpy"])
  files = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*")
           if f.is_file()}
  assert files == {"README.md", "export.json", "mtvit.npz", "mine.txt"}
  helpers.assert_same(
      interchange.read(tmp_path / "mtvit.npz").params, other.params)


def test_a_full_disk_leaves_no_export_and_a_rerun_makes_it(tmp_path):
  folder, encoder = tmp_path / "new" / "a", helpers.encoder()
  full = pytest.raises(errors.ConfigError, match="File too large")
  with environments.small_files(2**20), full:
    exporting.export(encoder, folder)          # The weights are longer.
  assert not list(tmp_path.iterdir())
  exporting.export(encoder, folder, ["safetensors"])
  with environments.small_files(2**20), full:
    exporting.export(encoder, folder)
  assert not [f for f in folder.rglob("*") if f.is_file()]
  exporting.export(encoder, folder)
  helpers.assert_same(
      interchange.read(folder / "mtvit.npz").params, encoder.params)


def test_an_unfinished_export_is_not_read_and_is_finished(tmp_path):
  exporting.export(helpers.encoder(), tmp_path)
  # As a kill leaves it; `tests/faults` makes real ones.
  (tmp_path / "export.json").rename(tmp_path / "export.json.unfinished")
  (tmp_path / "timm.json").unlink()
  for name in ("model.safetensors", "mtvit.npz", "hf/model.safetensors"):
    with pytest.raises(errors.CheckpointError, match="unfinished.*\n.*again"):
      mtvit.load(tmp_path / name)
  exporting.export(helpers.encoder(), tmp_path, ["numpy"])
  assert {f.name for f in tmp_path.rglob("*") if f.is_file()} == {
      "README.md", "export.json", "mtvit.npz"}
  assert mtvit.load(tmp_path / "mtvit.npz").token_names


def test_an_export_that_was_killed_at_its_first_file_is_made(tmp_path):
  done = subprocess.run([
      sys.executable, "-c", "import os, sys; from mtvit.run import files; "
      "files.write(sys.argv[1], lambda f: os.kill(os.getpid(), 9))",
      str(tmp_path / "export.json.unfinished")], cwd=ROOT, timeout=300)
  left, = tmp_path.iterdir()
  assert done.returncode == -9 and left.suffix == ".tmp"
  exporting.export(helpers.encoder(), tmp_path, ["numpy"])
  assert {f.name for f in tmp_path.iterdir()} == {
      "README.md", "export.json", "mtvit.npz"}


def test_an_unknown_format_writes_nothing(tmp_path):
  with pytest.raises(errors.ConfigError, match="did you mean safetensors"):
    exporting.export(helpers.encoder(), tmp_path / "new", ["safetensor"])
  assert not (tmp_path / "new").exists()

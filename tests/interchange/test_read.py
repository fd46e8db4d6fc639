"""What is read: other ways to write the same, and what is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy

from mtvit import encoder as encoder_lib
from mtvit import interchange
from mtvit.interchange import exporting
from tests.interchange import helpers

D, L = 96, 4                     # pico.


def test_without_a_description_the_activation_is_timms(plain):
  encoder, folder, arrays = plain
  read = interchange.read(helpers.saved(folder, arrays))
  helpers.assert_same(read.params, encoder.params)
  assert read.model["activation"] == "gelu"
  assert [note.partition(";")[0] for note in read.notes] == [
      "the activation is not in the file",
      "the number of heads is not in the file",
      "the mean and deviation of its pixels are not beside the file"]


def test_the_position_of_cls_goes_into_the_token(plain):
  encoder, folder, arrays = plain
  arrays["pos_embed"][0, 0] = np.arange(D)
  read = interchange.read(helpers.saved(folder, arrays))
  cls = encoder.params["token_cls"] + np.arange(D, dtype=np.float32)
  helpers.assert_same(read.params, encoder.params | {"token_cls": cls})


def test_positions_without_a_slot_for_cls(plain):
  encoder, folder, arrays = plain
  arrays["pos_embed"] = arrays["pos_embed"][:, 1:]
  read = interchange.read(helpers.saved(folder, arrays))
  helpers.assert_same(read.params, encoder.params)


@pytest.mark.parametrize("slots", [0, 3])
def test_registers_without_names(plain, slots):
  encoder, folder, arrays = plain
  registers = np.random.default_rng(0).standard_normal(
      (1, 2, D)).astype(np.float32)
  arrays["reg_token"] = registers
  position = arrays["pos_embed"][:, 1:]
  own = np.arange(3 * D, dtype=np.float32).reshape(1, 3, D)[:, :slots]
  arrays["pos_embed"] = np.concatenate([own, position], 1)
  read = interchange.read(helpers.saved(folder, arrays))
  assert read.token_names == ("cls", "reg0", "reg1")
  assert any("reg0, reg1" in note for note in read.notes)
  assert (read.params["position"] == position[0]).all()
  want = registers[0] + own[0, 1:] if slots else registers[0]
  assert (read.params["token_reg0"] == want[0]).all()
  assert (read.params["token_reg1"] == want[1]).all()


def test_heads_are_left_out_with_a_note(plain):
  encoder, folder, arrays = plain
  arrays |= {"head.weight": np.ones((10, D), np.float32),
             "head.bias": np.ones(10, np.float32)}
  read = interchange.read(helpers.saved(folder, arrays))
  helpers.assert_same(read.params, encoder.params)
  assert any("head.bias, head.weight" in note for note in read.notes)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_point_becomes_float32(plain, dtype):
  encoder, folder, arrays = plain
  arrays = {name: x.astype(dtype) for name, x in arrays.items()}
  read = interchange.read(helpers.saved(folder, arrays))
  for name, x in helpers.flat(read.params).items():
    assert x.dtype == np.float32
    want = helpers.flat(encoder.params)[name].astype(dtype)
    np.testing.assert_array_equal(x, want.astype(np.float32))


def test_bfloat16(plain):
  ml_dtypes = pytest.importorskip("ml_dtypes")
  encoder, folder, arrays = plain
  rounded = {name: x.astype(ml_dtypes.bfloat16) for name, x in arrays.items()}
  read = interchange.read(helpers.saved(folder, rounded))
  np.testing.assert_array_equal(
      read.params["position"],
      encoder.params["position"].astype(ml_dtypes.bfloat16).astype("f"))


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
def test_augreg_prefixes(plain, prefix):
  encoder, folder, _ = plain
  with np.load(folder / "augreg.npz", allow_pickle=False) as file:
    arrays = {prefix + name: x for name, x in file.items()}
  arrays[f"{prefix}head/kernel"] = np.ones((D, 10), np.float32)
  arrays["opt/state/step"] = np.float32(3)
  if not prefix:
    del arrays["opt/state/step"]
  read = interchange.read(helpers.saved(folder, arrays, "other.npz"))
  helpers.assert_same(read.params, encoder.params)
  assert read.model["activation"] == "gelu_tanh"      # As Flax's is.


def test_big_vision_stacks_the_layers(plain):
  encoder, folder, _ = plain
  blocks = encoder.params["blocks"]
  mha = "MultiHeadDotProductAttention_0"
  qkv = blocks["attn"]["qkv"]
  tree = {
      "embedding/kernel": encoder.params["embed"]["kernel"].reshape(8, 8, 3, D),
      "embedding/bias": encoder.params["embed"]["bias"],
      "cls": encoder.params["token_cls"][None, None],
      "pos_embedding": encoder.params["position"][None],
      "Transformer/encoder_norm/scale": encoder.params["norm"]["scale"],
      "Transformer/encoder_norm/bias": encoder.params["norm"]["bias"]}
  stacked = {
      "LayerNorm_0": blocks["norm1"], "LayerNorm_1": blocks["norm2"],
      "MlpBlock_0/Dense_0": blocks["fc1"], "MlpBlock_0/Dense_1": blocks["fc2"],
      f"{mha}/out": blocks["attn"]["out"],
      **{f"{mha}/{x}": {"kernel": qkv["kernel"][:, :, i],
                        "bias": qkv["bias"][:, i]}
         for i, x in enumerate(("query", "key", "value"))}}
  for name, leaves in stacked.items():
    for leaf, x in leaves.items():
      tree[f"Transformer/encoderblock/{name}/{leaf}"] = x
  arrays = {f"params/{name}": x for name, x in tree.items()}
  read = interchange.read(helpers.saved(folder, arrays, "big_vision.npz"))
  helpers.assert_same(read.params, encoder.params)


def test_hugging_face_heads_are_noted_and_norms_are_theirs(plain):
  encoder, folder, _ = plain
  arrays = safetensors.numpy.load_file(folder / "hf" / "model.safetensors")
  arrays = {f"vit.{name}": x for name, x in arrays.items()}
  arrays["classifier.weight"] = np.ones((10, D), np.float32)
  config = json.loads((folder / "hf" / "config.json").read_text())
  (folder / "config.json").write_text(
      json.dumps(config | {"layer_norm_eps": 1e-12}))
  read = interchange.read(helpers.saved(folder, arrays))
  helpers.assert_same(read.params, encoder.params)
  assert read.notes[0] == (
      "left out, as it plays no part in the encoder's output: "
      "classifier.weight")
  assert read.model["norm_epsilon"] == 1e-12
  (folder / "config.json").write_text(
      json.dumps(config | {"layer_norm_eps": -1e-6}))
  helpers.refused(folder / "other.safetensors", "epsilon -1e-06")


@pytest.mark.parametrize("name, what", [
    ("blocks.0.attn.q_norm.weight", "qk-norm"),
    ("blocks.0.attn.norm.weight", "norms inside attention"),
    ("blocks.0.mlp.fc1_g.weight", "SwiGLU"),
    ("blocks.0.mlp.w12.weight", "SwiGLU"),
    ("fc_norm.weight", "fc_norm"),
    ("norm_pre.weight", "pre-norm"),
    ("dist_token", "distillation token"),
    ("attn_pool.latent", "attention pooling"),
    ("blocks.0.gamma_1", "LayerScale"),
    ("head_dist.weight", "distillation token"),
    ("storage_tokens", "DINOv3"),
    ("blocks.0.0.norm1.weight", "chunks"),
    ("patch_embed.backbone.conv.weight", "projection"),
    ("blocks.0.attn.q_bias", "bias apart"),
    ("blocks.0.attn.relative_position_bias_table", "relative"),
    ("rope.freqs", "rotary"),
    ("something.new", "something.new"),
])
def test_what_the_encoder_lacks_is_refused_by_name(plain, name, what):
  _, folder, arrays = plain
  arrays[name] = np.ones(D, np.float32)
  helpers.refused(helpers.saved(folder, arrays), what, name)


@pytest.mark.parametrize("name", [
    "cls_token", "pos_embed", "patch_embed.proj.bias", "norm.bias",
    "blocks.2.attn.qkv.bias", "blocks.0.mlp.fc1.bias", "blocks.3.norm1.weight"])
def test_what_is_missing_is_named(plain, name):
  _, folder, arrays = plain
  del arrays[name]
  # Without one bias the depth is another one.
  helpers.refused(
      helpers.saved(folder, arrays),
      name if "fc1" not in name else "bias")


@pytest.mark.parametrize("name, shape", [
    ("cls_token", (1, 1, D + 1)), ("cls_token", (D,)),
    ("pos_embed", (1, 17, D + 1)), ("pos_embed", (17, D)),
    ("pos_embed", ()), ("patch_embed.proj.weight", (D, 3, 8, 7)),
    ("patch_embed.proj.weight", (D, 4, 8, 8)), ("norm.bias", (D, 1)),
    ("blocks.1.attn.qkv.weight", (D, 3 * D)),
    ("blocks.1.mlp.fc2.bias", (1, D)), ("reg_token", (2, D)),
    ("reg_token", (1, 2, 1)), ("reg_token", ())])
def test_wrong_shapes_are_refused(plain, name, shape):
  _, folder, arrays = plain
  arrays[name] = np.ones(shape, np.float32)
  helpers.refused(helpers.saved(folder, arrays), "other.safetensors")


def test_positions_of_no_square_are_refused(plain):
  _, folder, arrays = plain
  arrays["pos_embed"] = np.ones((1, 1 + 12, D), np.float32)
  helpers.refused(
      helpers.saved(folder, arrays),
      "(1, 13, 96)", "13 position embeddings are no square",
      "resample_abs_pos_embed")


@pytest.mark.parametrize("channels, words", [
    (1, ("1 channel;", "repeat(1, 3, 1, 1) / 3")),
    (13, ("13 channels;", "RGB"))])
def test_other_channels_are_named(plain, channels, words):
  _, folder, arrays = plain
  arrays["patch_embed.proj.weight"] = np.ones((D, channels, 8, 8), np.float32)
  helpers.refused(
      helpers.saved(folder, arrays), "patch_embed.proj.weight", *words)


def test_unknown_sizes_are_refused(plain):
  _, folder, arrays = plain
  arrays = {name: x for name, x in arrays.items()
            if not name.startswith("blocks.3.")}
  helpers.refused(
      helpers.saved(folder, arrays),
      "width 96, depth 3 and 384 hidden units",
      "VARIANTS")


@pytest.mark.parametrize("change, words", [
    ({"create_model": {"num_heads": 2}}, "2 heads"),
    ({"create_model": {"act_layer": "relu"}}, "'relu'"),
    ({"create_model": {"act_layer": ["gelu"]}}, "GELU")])
def test_a_description_that_contradicts_is_refused(plain, change, words):
  _, folder, _ = plain
  (folder / "timm.json").write_text(json.dumps({"model.safetensors": change}))
  helpers.refused(folder / "model.safetensors", words)


@pytest.mark.parametrize("tokens", [
    "cls", ["ct", "cls"], ["cls", "a/b"], ["cls", "cls"], ["cls", 3],
    ["cls", "../x"], ["cls"], ["cls", "ct", "rot"]])
def test_wrong_names_of_tokens_are_refused(tmp_path, tokens):
  exporting.export(helpers.encoder(tokens=("cls", "ct")), tmp_path)
  file = tmp_path / "timm.json"
  told = json.loads(file.read_text())
  told["model.safetensors"]["tokens"] = tokens
  file.write_text(json.dumps(told))
  helpers.refused(tmp_path / "model.safetensors", "model.safetensors")


def test_a_broken_description_is_refused(plain):
  _, folder, _ = plain
  (folder / "timm.json").write_text("{")
  helpers.refused(folder / "model.safetensors", "timm.json")


@pytest.mark.parametrize("change", [
    {"format_version": 9}, {"tokens": ["ct"]}, {"tokens": ["cls", "ct"]},
    {"model": {}}, {"model": 3}, {"gray": 1},
    {"model": {"variant": "S/8", "image_size": 32, "activation": "gelu"}},
    {"model": {"variant": "pico/8", "image_size": 64, "activation": "gelu"}},
    {"model": {"variant": "pico/8", "image_size": 32, "activation": "x"}},
    {"model": {"variant": "pico/8", "image_size": 33, "activation": "gelu"}},
    {"model": {"variant": 3, "image_size": 32, "activation": "gelu"}}])
def test_our_own_file_is_checked_too(plain, change):
  _, folder, _ = plain
  with np.load(folder / "mtvit.npz", allow_pickle=False) as file:
    arrays = dict(file)
  told = json.loads(str(arrays["mtvit"])) | change
  arrays["mtvit"] = np.array(json.dumps(told))
  helpers.refused(helpers.saved(folder, arrays, "changed.npz"), "changed.npz")


def test_files_of_something_else_are_refused(tmp_path):
  helpers.refused(
      helpers.saved(tmp_path, {"a": np.ones(3, np.float32)}),
      "names no parameter")
  helpers.refused(
      helpers.saved(tmp_path, {"backbone.patch_embed.projection.weight":
                               np.ones(3, np.float32)}),
      "MMPretrain")
  helpers.refused(
      helpers.saved(tmp_path, {"a": np.ones(3)}, "a.npz"),
      "names no parameter")
  helpers.refused(tmp_path / "none.npz", "there is no file")
  helpers.refused(tmp_path, "no file of weights")


@pytest.mark.parametrize("file", ["model.safetensors", "mtvit.npz"])
def test_an_export_loads_and_gives_the_same_features(tmp_path, file):
  encoder = helpers.encoder()
  exporting.export(encoder, tmp_path)
  images = np.random.default_rng(0).integers(
      0, 256, (3, 32, 32, 3), dtype=np.uint8)
  again = encoder_lib.load(tmp_path / file)
  assert again.token_names == ("cls", "ct", "rot")
  helpers.assert_same_encoder(again, encoder, "ct", images)

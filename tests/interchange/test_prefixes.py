"""Encoders inside of what other frameworks save: names as theirs are."""

import json

import numpy as np
import pytest
import safetensors.numpy

from mtvit import interchange
from mtvit.interchange import naming
from tests.interchange import helpers

D = 96                           # pico.


def behind(prefix, arrays):
  return {prefix + name: x for name, x in arrays.items()}


def ones(*names):
  return {name: np.ones(3, np.float32) for name in names}


def counter(name):
  return {name: np.array(7, np.int64)}


def other(arrays):
  """Another encoder of the same shape."""
  return {name: x + np.float32(1) for name, x in arrays.items()}


@pytest.mark.parametrize("prefix", [
    "module.", "backbone.", "teacher.backbone.", "_orig_mod.", "base_encoder.",
    "module.base_encoder.", "student.backbone.", "encoder.", "model.", "vit.",
    "backbone.vit.", "state_dict.module.base_encoder.", "model._orig_mod.",
    "module.online_encoder.net.", "0."])
def test_any_prefix_is_taken_off(plain, prefix):
  encoder, folder, arrays = plain
  read = interchange.read(helpers.saved(folder, behind(prefix, arrays)))
  helpers.assert_same(read.params, encoder.params)
  assert not any("left out" in note for note in read.notes)


def test_what_torch_puts_around_modules_is_taken_off(plain):
  encoder, folder, arrays = plain
  wrapped = {
      "module._fsdp_wrapped_module." + name.replace(
          "blocks.1.", "blocks.1._checkpoint_wrapped_module._orig_mod."): x
      for name, x in arrays.items()}
  read = interchange.read(helpers.saved(folder, wrapped))
  helpers.assert_same(read.params, encoder.params)
  helpers.refused(
      helpers.saved(folder, arrays | behind("_orig_mod.", arrays)), "twice")


def mae(folder, arrays):
  """facebookresearch/mae, encoder and decoder."""
  decoder = ones(
      "decoder_embed.weight", "decoder_pos_embed", "decoder_norm.weight",
      "decoder_pred.bias", "mask_token",
      *(f"decoder_blocks.{i}.{name}" for i in range(8)
        for name in ("norm1.weight", "attn.qkv.weight", "mlp.fc1.bias")))
  return arrays | decoder, "decoder_blocks (24 arrays)"


def moco(folder, arrays):
  """facebookresearch/moco-v3: the base encoder is the one to evaluate."""
  base = arrays | ones("head.0.weight", "head.1.running_mean") | counter(
      "head.1.num_batches_tracked")
  return (behind("module.base_encoder.", base)
          | behind("module.momentum_encoder.", other(base))
          | ones("module.predictor.0.weight")
          ), "of 2 encoders module.base_encoder. is taken"


def dino(folder, arrays):
  """facebookresearch/dino, its whole checkpoint."""
  head = ones("head.mlp.0.weight", "head.last_layer.weight_g")
  return (behind("teacher.", behind("backbone.", arrays) | head)
          | behind("student.module.", behind("backbone.", other(arrays)) | head)
          | ones("dino_loss.center")
          ), "of 2 encoders teacher.backbone. is taken"


def ibot(folder, arrays):
  return (behind("teacher.", behind("backbone.", arrays | ones("masked_embed"))
                 | ones("head.last_layer2.weight_v"))
          ), "teacher.backbone.masked_embed"


def lightly(folder, arrays):
  """lightly's MaskedVisionTransformerTIMM, in a LightningModule."""
  return (behind("teacher_backbone.vit.", arrays)
          | behind("student_backbone.vit.", other(arrays))
          | ones("teacher_backbone.mask_token", "student_backbone.mask_token",
                 "teacher_head.layers.0.weight", "criterion.center.center")
          ), "of 2 encoders teacher_backbone.vit. is taken"


def solo_learn(folder, arrays):
  return (behind("backbone.", arrays)
          | behind("momentum_backbone.", other(arrays))
          | ones("projector.0.weight", "momentum_projector.0.weight",
                 "classifier.weight", "predictor.3.bias", "queue")
          | counter("projector.1.num_batches_tracked")
          ), "of 2 encoders backbone. is taken"


def averaged(folder, arrays):
  """torch.optim.swa_utils.AveragedModel beside what it averages."""
  return (behind("model.", other(arrays)) | behind("model_ema.module.", arrays)
          | counter("model_ema.n_averaged")
          ), "of 2 encoders model_ema.module. is taken"


def hugging_face_mae(folder, arrays):
  """transformers' ViTMAEForPreTraining."""
  theirs = safetensors.numpy.load_file(folder / "hf" / "model.safetensors")
  (folder / "config.json").write_text(
      (folder / "hf" / "config.json").read_text())
  return (behind("vit.", theirs) | ones(
      "decoder.mask_token", "decoder.decoder_pos_embed",
      "decoder.decoder_layers.0.layernorm_before.weight")
          | counter("vit.embeddings.position_ids")
          ), "decoder.mask_token"


@pytest.mark.parametrize("made", [
    mae, moco, dino, ibot, lightly, solo_learn, averaged, hugging_face_mae])
def test_whole_checkpoints(plain, made):
  encoder, folder, arrays = plain
  saved, words = made(folder, arrays)
  read = interchange.read(helpers.saved(folder, saved))
  helpers.assert_same(read.params, encoder.params)
  assert any(words in note for note in read.notes), read.notes


def test_encoders_alike_are_named(plain):
  _, folder, arrays = plain
  helpers.refused(
      helpers.saved(folder, behind("left.", arrays) | behind("right.", arrays)),
      "2 encoders alike", "'left.'", "'right.'", "startswith('right.')")


@pytest.mark.parametrize("name", [
    "normalize.mean", "adapter.conv.weight", "channel_projection.weight",
    "norm.weight"])
def test_what_may_play_a_part_beside_it_is_refused(plain, name):
  _, folder, arrays = plain
  helpers.refused(
      helpers.saved(folder, behind("1.", arrays) | ones(name)),
      name, "behind '1.'", "startswith('1.')")


def test_what_the_encoder_lacks_is_seen_behind_a_prefix(plain):
  _, folder, arrays = plain
  helpers.refused(
      helpers.saved(folder, behind("teacher.backbone.", arrays | ones(
          "blocks.0.attn.q_norm.weight", "mask_token"))), "qk-norm")
  del arrays["cls_token"]
  helpers.refused(
      helpers.saved(folder, behind("module.", arrays)), "no cls_token",
      "class token")


def test_integers_of_another_meaning_are_refused(plain):
  _, folder, arrays = plain
  helpers.refused(
      helpers.saved(folder, arrays | counter("blocks.0.attn.scale")),
      "blocks.0.attn.scale")


def test_the_heads_of_moco_are_not_guessed(tmp_path):
  zeros = {name: np.zeros(shape, np.float16) for name, shape in
           naming.shapes("S/8", 4, ("cls",)).items()}
  arrays = naming.to_theirs(naming.TIMM, zeros, ("cls",))
  path = helpers.saved(tmp_path, behind("module.base_encoder.", arrays))
  helpers.refused(path, "12 heads", "timm.json")
  (tmp_path / "timm.json").write_text(json.dumps(
      {path.name: {"create_model": {"num_heads": 6}}}))
  assert interchange.read(path).model["variant"] == "S/8"

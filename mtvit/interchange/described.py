"""What timm and transformers want to know of an encoder, as JSON."""

import json
import pathlib
from typing import TYPE_CHECKING, Any, Mapping

from mtvit import errors
from mtvit.interchange import beside

if TYPE_CHECKING:
  from mtvit import encoder as encoder_lib

# Models of timm's Eva, by the epsilon of their norms, which is no argument.
_EVA_OF_EPSILON = {1e-5: "vit_small_patch16_dinov3",
                   1e-6: "vit_small_patch16_rope_224"}
# timm has these at 224 px; of other sizes the arguments are all that counts.
_TIMM_SIZES = {"Ti": "tiny", "S": "small", "B": "base", "L": "large",
               "H": "huge", "g": "giant"}
_TIMM_PATCHES = {"Ti": (16,), "S": (8, 16, 32), "B": (8, 16, 32),
                 "L": (14, 16, 32), "H": (14,), "g": (14,)}


def timm_arguments(
    encoder: "encoder_lib.Encoder", tokens: tuple[str, ...]
) -> dict[str, Any]:
  """What timm.json says of a file.

  Returns:
    `create_model`, the arguments of timm.create_model; `tokens`, the order of
    [CLS] and the registers in the output; `norm_epsilon`.
  """
  module: Any = encoder.module       # A `vit.Encoder`: no other comes here.
  size, patch = encoder.image_size, encoder.patch_size
  count = len(tokens) - 1
  made: dict[str, Any] = dict(
      img_size=size, patch_size=patch, embed_dim=module.width,
      depth=module.depth, num_heads=module.heads,
      mlp_ratio=module.mlp_dim / module.width, num_classes=0,
      global_pool="token", pretrained_cfg_overlay=dict(
          input_size=[3, size, size], mean=[0.5] * 3, std=[0.5] * 3,
          crop_pct=1.0, interpolation="bilinear"))
  if is_rotary(encoder):
    made |= dict(
        # Only the epsilon of the norms is this model's; the rest is said.
        model_name=_EVA_OF_EPSILON[module.norm_epsilon], num_reg_tokens=count,
        attn_type="rope", qkv_bias=True, use_abs_pos_emb=False,
        use_rot_pos_emb=True, rope_type="dinov3", rope_rotate_half=True,
        rope_grid_indexing="ij", rope_temperature=module.rotary_base,
        use_fc_norm=False, init_values=module.layer_scale or None)
  else:
    made |= dict(
        model_name=_timm_name(encoder) or "vit_base_patch16_224",
        act_layer=module.activation,
        reg_tokens=count, no_embed_class=count > 0)
    if module.layer_scale:
      made["init_values"] = module.layer_scale
  return dict(
      create_model=made, tokens=tokens, norm_epsilon=module.norm_epsilon)


def timm_config(told: Mapping[str, Any]) -> dict[str, Any]:
  """The config.json of a model on timm's hub; transformers takes it too.

  Args:
    told: of `timm_arguments`.
  """
  made = dict(told["create_model"])
  name, pixels = made.pop("model_name"), made.pop("pretrained_cfg_overlay")
  classes = made.pop("num_classes")
  return dict(
      architecture=name, num_classes=classes, num_features=made["embed_dim"],
      global_pool=made["global_pool"], model_args=made,
      # With the last two a user may ask for classes or other channels.
      pretrained_cfg=pixels | dict(
          crop_mode="center", fixed_input_size=True, num_classes=classes,
          first_conv="patch_embed.proj", classifier="head"),
      **{beside.OURS: dict(tokens=told["tokens"])})


def is_foreign(folder: pathlib.Path) -> bool:
  """Whether a folder has a config.json that `timm_config` has not made."""
  file = folder / beside.CONFIG
  try:
    return file.exists() and beside.OURS not in beside.json_object(file)
  except errors.CheckpointError:     # Damaged, or none at all.
    return True


def timm_call(
    encoder: "encoder_lib.Encoder", tokens: tuple[str, ...], file: str
) -> str:
  """The call of timm.create_model that reads a file, as Python source.

  Only what the named model has not by itself is said.

  Args:
    encoder: of the file.
    tokens: in the file.
    file: its path.
  """
  made = timm_arguments(encoder, tokens)["create_model"]
  name = made.pop("model_name")
  usual: dict[str, Any] = dict(global_pool="token")
  if not is_rotary(encoder):
    usual |= dict(act_layer="gelu", reg_tokens=0, no_embed_class=False)
    if _timm_name(encoder):
      usual |= dict(img_size=224, **{key: made[key] for key in (
          "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")})
  del made["pretrained_cfg_overlay"]
  said = ",\n    ".join([
      f"{literal(name)}, pretrained=True",
      f"pretrained_cfg_overlay=dict(file={literal(file)})", *(
          f"{key}={literal(value)}" for key, value in made.items()
          if usual.get(key, ...) != value)])
  return f"timm.create_model(\n    {said})"


def literal(value: Any) -> str:
  """A text or number as Python source."""
  return json.dumps(value) if isinstance(value, str) else repr(value)


def _timm_name(encoder: "encoder_lib.Encoder") -> str | None:
  """What timm calls a model of these sizes, if it has one."""
  size, patch = encoder.model.variant.partition("/")[0], encoder.patch_size
  if patch not in _TIMM_PATCHES.get(size, ()):
    return None
  return f"vit_{_TIMM_SIZES[size]}_patch{patch}_224"


def is_rotary(encoder: "encoder_lib.Encoder") -> bool:
  """Whether it is timm's Eva, and not its VisionTransformer."""
  module: Any = encoder.module       # A `vit.Encoder`: no other comes here.
  return bool(module.rotary_base and module.position_policy != "drop_all")


def hf_config(encoder: "encoder_lib.Encoder") -> dict[str, Any]:
  """The config.json of transformers' ViTModel."""
  module: Any = encoder.module       # A `vit.Encoder`: no other comes here.
  return dict(
      architectures=["ViTModel"], model_type="vit", dtype="float32",
      hidden_size=module.width, num_hidden_layers=module.depth,
      num_attention_heads=module.heads, intermediate_size=module.mlp_dim,
      hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}[
          module.activation],
      layer_norm_eps=module.norm_epsilon, image_size=encoder.image_size,
      patch_size=encoder.patch_size, num_channels=3, qkv_bias=True)


def hf_processor(encoder: "encoder_lib.Encoder") -> dict[str, Any]:
  """The preprocessor_config.json: pixels / 127.5 - 1."""
  return dict(
      image_processor_type="ViTImageProcessor", do_resize=True,
      size=dict(height=encoder.image_size, width=encoder.image_size),
      resample=2, do_rescale=True, rescale_factor=1 / 255, do_normalize=True,
      image_mean=[0.5] * 3, image_std=[0.5] * 3)

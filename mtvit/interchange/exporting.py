"""An encoder's weights, written for other libraries.

What a library needs to know beside the weights lies beside them as JSON.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import naming
from mtvit.interchange import native
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.models import parameter_names
from mtvit.run import files as writing

if TYPE_CHECKING:
  from mtvit import encoder as encoder_lib

# Format -> its file of weights.
FORMATS = {"safetensors": "model.safetensors", "npz": "augreg.npz",
           "hf": "hf/model.safetensors", "numpy": "mtvit.npz"}
_LIBRARIES = {
    "safetensors": (naming.TIMM, files.write_safetensors),
    "npz": (naming.AUGREG, files.write_npz),
    "hf": (naming.HUGGING_FACE, files.write_safetensors)}
_OTHERS = ("timm.json", "hf/config.json", "hf/preprocessor_config.json")
# Models of timm's Eva, by the epsilon of their norms, which is no argument.
_EVA_OF_EPSILON = {1e-5: "vit_small_patch16_dinov3",
                   1e-6: "vit_small_patch16_rope_224"}
# timm has these at 224 px; of other sizes the arguments are all that counts.
_TIMM_SIZES = {"Ti": "tiny", "S": "small", "B": "base", "L": "large",
               "H": "huge", "g": "giant"}
_TIMM_PATCHES = {"Ti": (16,), "S": (8, 16, 32), "B": (8, 16, 32),
                 "L": (14, 16, 32), "H": (14,), "g": (14,)}


def export(
    encoder: "encoder_lib.Encoder", output: pathlib.Path,
    formats: Sequence[str] | None = None, drop_tokens: bool = False,
    config: Any = None) -> dict[str, list[str]]:
  """Writes an encoder's weights for other libraries.

  Args:
    encoder: to export.
    output: a folder, new, empty or an earlier export's; that is replaced.
    formats: of `FORMATS`; None for all that can hold the encoder.
    drop_tokens: leave task tokens out for timm, too.
    config: of the run, JSON, for mtvit.npz.

  Returns:
    File -> notes on what was left out or must be minded.

  Raises:
    ConfigError: no such format, none that can hold the encoder, or the folder
      is not ours.
    OSError: the disk is full; nothing is left behind.
  """
  formats = _checked(encoder, formats)
  tokens = {name: _kept(encoder, name, drop_tokens) for name in formats}
  notes = {FORMATS[x]: _notes(encoder, tokens[x], x) for x in formats}
  described = dict(
      model=dataclasses.asdict(encoder.model), tokens=encoder.token_names,
      gray=encoder.gray, run=encoder.name, step=encoder.step)
  with _begun(output) as made:
    _describe(encoder, made, tokens)
    _weights(encoder, made, tokens, described | dict(config=config))
    made.write(files.MARK, _json({**described, "notes": notes}))
  return notes


def _weights(
    encoder: "encoder_lib.Encoder", made: writing.FileSet,
    tokens: Mapping[str, tuple[str, ...]], described: Mapping[str, Any]
) -> None:
  """Writes the files of weights; `tokens` by format."""
  policy = encoder.module.position_policy
  # What hides positions is of use in training alone.
  policy = "drop" if policy == "mask_token" else policy
  kept = parameter_names.encoder_shapes(
      encoder.model.encoder(encoder.token_names, policy), encoder.image_size)
  params = {name: np.asarray(x, np.float32) for name, x in
            traverse_util.flatten_dict(encoder.params, sep="/").items()
            if name in kept}
  if "numpy" in tokens:
    native.write(made.place(FORMATS["numpy"]), params,
                 {**described, "position_policy": policy})
  shape = (math.prod(encoder.grid), encoder.module.width)
  params = {"position": np.zeros(shape, np.float32)} | params
  for name, (library, write) in _LIBRARIES.items():
    if name in tokens:
      if name == "safetensors" and _is_rotary(encoder):
        library = naming.EVA
      arrays = naming.to_theirs(library, params, tokens[name])
      write(made.place(FORMATS[name]), arrays)


def _checked(
    encoder: "encoder_lib.Encoder", formats: Sequence[str] | None
) -> Sequence[str]:
  """The formats; raises ConfigError if one can't hold the encoder."""
  for name in formats or ():
    if name not in FORMATS:
      raise errors.ConfigError(
          f"--formats: no {name!r}" + errors.suggest(name, FORMATS))
  can = holding(encoder)
  formats = can if formats is None else formats
  wrong = [name for name in formats if name not in can]
  if wrong or not can:
    own = {field.name for field in dataclasses.fields(interface.EncoderConfig)}
    differs = [
        f"{field.name}={getattr(encoder.model, field.name)}"
        for field in dataclasses.fields(encoder.model) if field.name not in own
        and getattr(encoder.model, field.name) != field.default]
    raise errors.ConfigError(
        f"--formats={','.join(wrong)}: no such file can hold this encoder, "
        f"{type(encoder.module).__name__} of model.kind={encoder.model.kind}"
        + f" with {', '.join(differs)}" * bool(differs),
        f"--formats={','.join(can)}" if can else "an encoder that is listed in "
        "mtvit/models/encoders.py and says what it `exports`")
  return formats


def holding(encoder: "encoder_lib.Encoder") -> tuple[str, ...]:
  """Formats that can hold an encoder, as its config says.

  A config speaks for the module that it builds; and it can be read again only
  as what is listed under its kind.
  """
  model, module = encoder.model, encoder.module
  built = model.build(encoder.token_names, module.position_policy)
  if type(module) is not type(built):
    return ()
  listed = encoders.ENCODERS.get(model.kind) is type(model)
  return tuple(x for x in FORMATS if x in model.exports() and (
      listed or x != interface.OWN_FORMAT))


def _kept(
    encoder: "encoder_lib.Encoder", name: str, drop: bool
) -> tuple[str, ...]:
  """The tokens that a format can hold."""
  if name in ("npz", "hf") or (name == "safetensors" and drop):
    return ("cls",)
  return encoder.token_names


def _describe(
    encoder: "encoder_lib.Encoder", made: writing.FileSet,
    tokens: Mapping[str, tuple[str, ...]]
) -> None:
  """Writes what timm and transformers need to know; `tokens` by format."""
  timm = {FORMATS[name]: timm_arguments(encoder, tokens[name])
          for name in ("safetensors", "npz") if name in tokens}
  if timm:
    made.write("timm.json", _json(timm))
  if "hf" in tokens:
    made.write("hf/config.json", _json(hf_config(encoder)))
    made.write("hf/preprocessor_config.json", _json(hf_processor(encoder)))


def _notes(
    encoder: "encoder_lib.Encoder", tokens: tuple[str, ...], name: str
) -> list[str]:
  """What a format leaves out, and what its user must mind."""
  notes = []
  dropped = encoder.token_names[len(tokens):]
  if dropped:
    notes.append(
        f"the tokens {', '.join(dropped)} are left out; all outputs change, "
        "since nothing attends to them")
  elif name == "safetensors" and tokens[1:]:
    notes.append(f"the registers are {', '.join(tokens[1:])}")
  if ("position" not in encoder.params and name != "numpy"
      and not _is_rotary(encoder)):
    notes.append("the model has no position embeddings; they are 0")
  if "position_mask" in encoder.params:
    notes.append("the embedding that hides positions in training is left out")
  if encoder.gray:
    notes.append("trained on gray images: make the input gray")
  return notes


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
  if _is_rotary(encoder):
    made |= dict(
        # Only the epsilon of the norms is this model's; the rest is said.
        model_name=_EVA_OF_EPSILON[module.norm_epsilon], num_reg_tokens=count,
        attn_type="rope", qkv_bias=True, use_abs_pos_emb=False,
        use_rot_pos_emb=True, rope_type="dinov3", rope_rotate_half=True,
        rope_grid_indexing="ij", rope_temperature=module.rotary_base,
        use_fc_norm=False, init_values=module.layer_scale or None)
  else:
    name = encoder.model.variant.partition("/")[0]
    known = patch in _TIMM_PATCHES.get(name, ())
    made |= dict(
        model_name=f"vit_{_TIMM_SIZES[name]}_patch{patch}_224" if known
        else "vit_base_patch16_224", act_layer=module.activation,
        reg_tokens=count, no_embed_class=count > 0)
    if module.layer_scale:
      made["init_values"] = module.layer_scale
  return dict(
      create_model=made, tokens=tokens, norm_epsilon=module.norm_epsilon)


def _is_rotary(encoder: "encoder_lib.Encoder") -> bool:
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


@contextlib.contextmanager
def _begun(output: pathlib.Path) -> Iterator[writing.FileSet]:
  """The files of an export in place of an earlier one's."""
  made = writing.FileSet(output, (*FORMATS.values(), *_OTHERS), files.MARK)
  try:
    writing.remove_left(made.unfinished)     # Killed before it was there.
    if output.exists() and any(output.iterdir()) and not made.is_ours():
      raise errors.ConfigError(
          f"--output={output} is not empty, and no export of mtvit",
          "another --output")
    with made:
      yield made
  except OSError as e:
    if e.errno in errors.DISK_FULL:
      raise
    raise errors.ConfigError(
        f"--output={output} can't be written to: {e.strerror}",
        "another --output") from e


def _json(value: Any) -> str:
  return json.dumps(value, indent=2) + "\n"

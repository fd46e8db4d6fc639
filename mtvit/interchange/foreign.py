"""Encoders in another library's naming."""

import math
import pathlib
import re
from typing import Any, Mapping

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import beside
from mtvit.interchange import dialects
from mtvit.interchange import imported
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import normalisation
from mtvit.interchange import rotary
from mtvit.interchange import tensors
from mtvit.models import variants

# Where LayerScale starts in DINOv2 and DINOv3; trained, it is anywhere.
LAYER_SCALE = 1e-5
# Parts that our encoder lacks, by their names in the file.
_UNSUPPORTED = (
    (r"\bls[12]\.|layer_?scale|lambda_?[12]|gamma_[12]",
     "LayerScale in names that other models share"),
    (r"[qk]_norm|query_norm|key_norm", "normalised queries and keys (qk-norm)"),
    (r"attn\.norm|mlp\.norm|inner_attn_ln|sub_ln",
     "norms inside attention or MLP"),
    (r"fc_norm", "pooling of the patches under a norm of its own (fc_norm)"),
    (r"norm_pre|pre_layrnorm|ln_pre", "a norm before the blocks (pre-norm)"),
    (r"w12|w3\.|fc1_[gx]|gate", "a gated MLP (SwiGLU)"),
    (r"attn_pool|MAPHead", "attention pooling"),
    (r"dist_token|distillation|head_dist", "a distillation token"),
    (r"register_tokens|storage_tokens", "registers in DINOv3's own names"),
    (r"detection_tokens|mid_position", "detection tokens"),
    (r"rope|rel_pos|relative_position", "relative or rotary positions"),
    (r"blocks\.\d+\.\d+\.", "blocks in chunks"),
    (r"patch_embed\.(?!proj\.(weight|bias))|running_mean",
     "more than a projection before the blocks, or batch norm"),
    (r"[qv]_bias|bias_mask", "queries, keys and values with a bias apart"),
)


def read(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor], notes: list[str], prefix: str = ""
) -> imported.Imported:
  """An encoder in another library's naming.

  Args:
    path: of the file.
    naming: of the library.
    found: the arrays of the encoder, in that naming.
    notes: on what was left out; what is assumed is added.
    prefix: what stood before these names.

  Raises:
    CheckpointError: our encoder can't be that model.
  """
  naming = dialects.dialect(naming, found)
  _check_supported(path, naming, found)
  variant = _variant(path, naming, found)
  patch = variants.parse_variant(variant)[1]
  told = beside.told(path, naming, notes)
  _check_heads(path, variant, told.heads, prefix)
  token_names = _token_names(path, naming, found, told.tokens, notes)
  more = dict(norm_epsilon=told.epsilon, registers=_registers(token_names))
  if naming.positions:
    slots, side = _grid(path, naming, found, len(token_names))
    num_patches = side * side
  else:
    more |= rotary.section(path, found, told, notes)
    slots, num_patches = 0, 0
    side = rotary.side(told, patch, notes)
  scaled = _is_scaled(naming, found)
  if scaled:
    more["layer_scale"] = LAYER_SCALE
  try:
    variants.check_size(side * patch, patch)
  except ValueError as e:
    raise errors.CheckpointError(
        f"{path}: {e}", "a model of smaller images") from e
  shapes = naming_lib.shapes(variant, num_patches, token_names, scaled)
  _check_shapes(path, naming, found, shapes)
  ours = _filled(naming, found, shapes, token_names, slots)
  normalisation.fold(ours, *beside.pixels(path, naming, notes))
  return imported.Imported(
      params=traverse_util.unflatten_dict(ours, sep="/"),
      token_names=token_names, notes=tuple(notes), model=more | dict(
          variant=variant, activation=told.activation,
          image_size=side * patch))


def _is_scaled(
    naming: naming_lib.Naming, found: Mapping[str, tensors.Tensor]
) -> bool:
  """Whether there is LayerScale in the first block, and so in all."""
  return any(e.ours == "blocks/layer_scale1" and e.theirs.format(0) in found
             for e in naming.entries)


def _registers(token_names: tuple[str, ...]) -> int:
  """How many of these are called reg0, reg1, and so on."""
  return next(i for i in range(len(token_names))
              if f"reg{i}" not in token_names)


def _check_heads(
    path: pathlib.Path, variant: str, told: Any, prefix: str
) -> None:
  """Raises CheckpointError if the model has another number of heads.

  Args:
    path: of the file.
    variant: NAME/PATCH.
    told: what is said of it; None if nothing is.
    prefix: of the names in the file.
  """
  heads = variants.parse_variant(variant)[0]["heads"]
  if told is None and "_encoder." in prefix and variant.startswith("S/"):
    # As its own vits.py has it; nothing in the file tells.
    raise errors.CheckpointError(
        f"{path}: the names are those of MoCo v3, whose ViT-S has 12 heads; "
        f"{variant} has {heads}",
        f'if it has {heads}, lay timm.json beside it: {{"{path.name}": '
        f'{{"create_model": {{"num_heads": {heads}}}}}}}')
  if told not in (None, heads):
    raise errors.CheckpointError(
        f"{path} has {repr(told)[:40]} heads; {variant} has {heads}",
        "another file")


def _filled(
    naming: naming_lib.Naming, found: Mapping[str, tensors.Tensor],
    shapes: Mapping[str, tuple[int, ...]], token_names: tuple[str, ...],
    slots: int
) -> dict[str, np.ndarray]:
  """Our arrays by path, from theirs, whose shapes have been checked."""
  ours = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
  for name, entry, layer in naming.each(ours):
    entry.put(ours, layer, found[name].read())
  if naming.positions:
    positions = found[naming.positions].read()[0]           # [slots+n, d]
    ours["position"][...] = positions[slots:]
  tokens = [found[naming.cls].read()[0]]                    # [1, d], [k, d]
  if token_names[1:]:
    tokens += [found[naming.registers].read()[0]]
  for i, token in enumerate(np.concatenate(tokens)):
    # Their tokens get a position embedding too; ours have it in them.
    ours[f"token_{token_names[i]}"][...] = (
        token + positions[i] if i < slots else token)
  return ours


def _check_supported(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor]
) -> None:
  unknown = sorted(name for name in found if not naming.knows(name))
  for pattern, what in _UNSUPPORTED:
    name = next((x for x in unknown if re.search(pattern, x)), None)
    if name:
      raise errors.CheckpointError(
          f"{path} has {what}, which this ViT has not ({name})",
          "a file of a plain ViT with a class token")


def _variant(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor]
) -> str:
  """NAME/PATCH of the sizes in a file."""
  def shape(ours):
    name = naming.entry(ours).theirs.format(0)
    if name not in found:
      raise errors.CheckpointError(
          f"{path} has no {name}", "a file of a plain ViT")
    return found[name].shape

  for name in (naming.cls, naming.positions):
    if name and name not in found:
      raise errors.CheckpointError(
          f"{path} has no {name}",
          "a file of a ViT with a class token and position embeddings")
  pattern = re.escape(naming.entry("blocks/fc1/bias").theirs)
  block = re.compile(pattern.replace(r"\{\}", r"\d+"))
  sizes = dict(
      width=math.prod(shape("norm/bias")),
      depth=sum(bool(block.fullmatch(name)) for name in found),
      mlp_dim=math.prod(shape("blocks/fc1/bias")))
  variant = next((name for name, known in variants.VARIANTS.items()
                  if sizes.items() <= known.items()), None)
  if variant is None:
    raise errors.CheckpointError(
        f"{path}: no ViT here has width {sizes['width']}, depth "
        f"{sizes['depth']} and {sizes['mlp_dim']} hidden units",
        f"one of {', '.join(variants.VARIANTS)}, or a new one in VARIANTS of "
        "mtvit/models/variants.py")
  return f"{variant}/{_patch(path, naming, shape('embed/kernel'))}"


def _patch(
    path: pathlib.Path, naming: naming_lib.Naming, shape: tuple[int, ...]
) -> int:
  """The side of the patches, pixels, from the shape of their projection."""
  entry = naming.entry("embed/kernel")
  if entry.layout == "oihw" and len(shape) == 4:
    shape = (*shape[2:], shape[1], shape[0])
  if len(shape) != 4 or shape[0] != shape[1] or not shape[0]:
    raise errors.CheckpointError(
        f"{path}: {entry.theirs} is of patches {shape[:2]}, which are no "
        "squares", "a model of images, with square patches")
  if shape[2] != 3:
    raise errors.CheckpointError(
        f"{path}: {entry.theirs} takes images of {shape[2]} channel"
        f"{'s' * (shape[2] != 1)}; this ViT takes 3",
        "w.repeat(1, 3, 1, 1) / 3 is the same model for gray images, of one "
        "channel repeated" if shape[2] == 1 else "a model of RGB images")
  return shape[0]


def _token_names(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor], told: Any, notes: list[str]
) -> tuple[str, ...]:
  """"cls" and the names of the registers in a file."""
  if not naming.registers or naming.registers not in found:
    return ("cls",)
  count = (*found[naming.registers].shape, 0, 0)[1]
  if told is None:
    if count >= variants.MAX_TOKENS:
      raise errors.CheckpointError(
          f"{path} has {count} registers; at most "
          f"{variants.MAX_TOKENS - 1} are possible", "another model")
    names = ("cls", *(f"reg{i}" for i in range(count)))
    notes.append(
        f"the registers have no names; they are {', '.join(names[1:])}")
    return names
  imported.check_names(path, told)
  if len(told) != 1 + count:
    raise errors.CheckpointError(
        f"{path} has {count} registers, and the JSON beside it names "
        f"{len(told) - 1}", "repair or remove that")
  return tuple(told)


def _grid(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor], num_tokens: int
) -> tuple[int, int]:
  """How many positions are of tokens, and the side of the square of others."""
  count = (*found[naming.positions].shape, 0, 0)[1]
  fits = [slots for slots in (
      (0, num_tokens) if naming.slots is None else (naming.slots,))
          if count > slots
          and math.isqrt(count - slots)**2 == count - slots]
  if not fits:
    raise errors.CheckpointError(
        f"{path}: {naming.positions} is {found[naming.positions].shape}, and "
        f"{count} position embeddings are no square grid, with or without "
        f"{num_tokens} for tokens",
        "a model of square images, or resize them to a square grid (timm."
        "layers.resample_abs_pos_embed)")
  # Where both fit: timm's own models with registers have no slots.
  return fits[0], math.isqrt(count - fits[0])


def _check_shapes(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, tensors.Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Raises CheckpointError unless a file has what it must, and no more."""
  dummy = {name: np.broadcast_to(np.float32(0), shape)
           for name, shape in shapes.items()}
  want = {name: entry.get(dummy, layer).shape
          for name, entry, layer in naming.each(dummy)}
  width = shapes["norm/bias"][0]
  want[naming.cls] = (1, 1, width)
  if naming.positions:
    want[naming.positions] = (1, found[naming.positions].shape[1], width)
  if naming.registers in found:
    want[naming.registers] = (1, *found[naming.registers].shape[1:2], width)
  imported.compare(path, found, want)

"""Encoders in another library's naming, and what describes them beside it."""

import functools
import json
import math
import pathlib
import re
from typing import Any, Mapping

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import imported
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import normalisation
from mtvit.models import vit

MAX_PATCHES = 2**16                # More are not believed.
# Parts that our encoder lacks, by their names in the file.
_UNSUPPORTED = (
    (r"\bls[12]\.|layer_?scale|lambda1", "LayerScale"),
    (r"[qk]_norm|query_norm|key_norm", "normalised queries and keys (qk-norm)"),
    (r"attn\.norm|mlp\.norm|inner_attn_ln|sub_ln",
     "norms inside attention or MLP"),
    (r"fc_norm", "pooling of the patches under a norm of its own (fc_norm)"),
    (r"norm_pre|pre_layrnorm|ln_pre", "a norm before the blocks (pre-norm)"),
    (r"w12|w3\.|fc1_[gx]|gate", "a gated MLP (SwiGLU)"),
    (r"attn_pool|MAPHead", "attention pooling"),
    (r"dist_token|distillation", "a distillation token"),
    (r"mask_token", "a mask token"),
    (r"rope|rel_pos|relative_position", "relative or rotary positions"),
)


def read(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, files.Tensor]
) -> imported.Imported:
  """An encoder in another library's naming.

  Args:
    path: of the file.
    naming: of the library.
    found: the arrays in the file, in that naming.

  Raises:
    CheckpointError: our encoder can't be that model.
  """
  notes = []
  heads = sorted(name for name in found if name.startswith(naming.heads))
  if heads:
    notes.append(f"left out, as it comes after the encoder: {', '.join(heads)}")
  found = {name: x for name, x in found.items() if name not in heads}
  _check_supported(path, found)
  variant = _variant(path, naming, found)
  told = _told(path, naming, notes)
  if told["heads"] not in (None, vit.parse_variant(variant)[0]["heads"]):
    raise errors.CheckpointError(
        f"{path} has {told['heads']} heads; {variant} has "
        f"{vit.parse_variant(variant)[0]['heads']}", "another file")
  token_names = _token_names(path, naming, found, told["tokens"], notes)
  slots, side = _grid(path, naming, found, len(token_names))
  shapes = naming_lib.shapes(variant, side * side, token_names)
  _check_shapes(path, naming, found, shapes)
  ours = _filled(naming, found, shapes, token_names, slots)
  normalisation.fold(ours, *_pixels(path, naming, notes))
  return imported.Imported(
      params=traverse_util.unflatten_dict(ours, sep="/"),
      token_names=token_names, notes=tuple(notes), model=dict(
          variant=variant, activation=told["activation"],
          image_size=side * vit.parse_variant(variant)[1]))


def _filled(
    naming: naming_lib.Naming, found: Mapping[str, files.Tensor],
    shapes: Mapping[str, tuple[int, ...]], token_names: tuple[str, ...],
    slots: int
) -> dict[str, np.ndarray]:
  """Our arrays by path, from theirs, whose shapes have been checked."""
  ours = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
  for name, entry, layer in naming.each(len(ours["blocks/fc1/bias"])):
    entry.put(ours, layer, found[name].read())
  positions = found[naming.positions].read()[0]             # [slots+n, d]
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
    path: pathlib.Path, found: Mapping[str, files.Tensor]
) -> None:
  for pattern, what in _UNSUPPORTED:
    name = next((x for x in sorted(found) if re.search(pattern, x)), None)
    if name:
      raise errors.CheckpointError(
          f"{path} has {what}, which this ViT has not ({name})",
          "a file of a plain ViT with a class token")


def _variant(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, files.Tensor]
) -> str:
  """NAME/PATCH of the sizes in a file."""
  def shape(ours):
    name = naming.entry(ours).theirs.format(0)
    if name not in found:
      raise errors.CheckpointError(
          f"{path} has no {name}", "a file of a plain ViT")
    return found[name].shape

  for name in (naming.cls, naming.positions):
    if name not in found:
      raise errors.CheckpointError(
          f"{path} has no {name}",
          "a file of a ViT with a class token and position embeddings")
  block = re.escape(naming.entry("blocks/fc1/bias").theirs)
  block = re.compile(block.replace(r"\{\}", r"\d+"))
  sizes = dict(
      width=math.prod(shape("norm/bias")),
      depth=sum(bool(block.fullmatch(name)) for name in found),
      mlp_dim=math.prod(shape("blocks/fc1/bias")))
  name = next((name for name, known in vit.VARIANTS.items()
               if sizes.items() <= known.items()), None)
  if name is None:
    raise errors.CheckpointError(
        f"{path}: no ViT here has width {sizes['width']}, depth "
        f"{sizes['depth']} and {sizes['mlp_dim']} hidden units",
        f"one of {', '.join(vit.VARIANTS)}, or a new one in VARIANTS of "
        "mtvit/models/vit.py")
  patch = math.isqrt(
      math.prod(shape("embed/kernel")) // (3 * sizes["width"]))
  return f"{name}/{max(1, patch)}"


def _told(
    path: pathlib.Path, naming: naming_lib.Naming, notes: list[str]
) -> dict[str, Any]:
  """What is beside a file and not in it: activation, heads, tokens."""
  activations = {"gelu": "gelu", "gelu_tanh": "gelu_tanh",
                 "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
  if naming is naming_lib.HUGGING_FACE:
    config = _json(path.with_name("config.json"))
    act, heads, tokens = (
        config.get("hidden_act"), config.get("num_attention_heads"), None)
    epsilon = config.get("layer_norm_eps", 1e-12 if config else None)
    if epsilon not in (None, 1e-6):
      notes.append(f"its norms have epsilon {epsilon}, and ours have 1e-6")
  else:
    config = _json(path.with_name("timm.json")).get(path.name, {})
    config = config if isinstance(config, dict) else {}
    made, tokens = config.get("create_model", {}), config.get("tokens")
    made = made if isinstance(made, dict) else {}
    act = made.get("act_layer", "gelu" if made else None)
    heads = made.get("num_heads")
  if act is None:
    # The files of AugReg come from Flax, whose GELU is the approximation.
    act = "gelu_tanh" if naming is naming_lib.AUGREG else "gelu"
    notes.append(f"the activation is not in the file; {act} is assumed")
  if not isinstance(act, str) or act not in activations:
    raise errors.CheckpointError(
        f"{path} has the activation {act!r}", "a model with GELU")
  return dict(activation=activations[act], heads=heads, tokens=tokens)


def _pixels(
    path: pathlib.Path, naming: naming_lib.Naming, notes: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation that the model's pixels are normalised with."""
  if naming is naming_lib.AUGREG:
    return normalisation.OURS
  if naming is naming_lib.HUGGING_FACE:
    found = normalisation.check(
        path, _json(path.with_name("preprocessor_config.json")), "image_mean",
        "image_std")
  else:
    inner = lambda told, *keys: functools.reduce(
        lambda x, key: x.get(key, {}) if isinstance(x, dict) else {}, keys,
        told)
    # Our own export, or the file that timm lays beside its weights.
    exported = inner(_json(path.with_name("timm.json")), path.name,
                     "create_model", "pretrained_cfg_overlay")
    told = exported or inner(
        _json(path.with_name("config.json")), "pretrained_cfg")
    found = normalisation.check(
        path, told if isinstance(told, dict) else {}, "mean", "std")
  if found is None:
    notes.append("the mean and deviation of its pixels are not beside the "
                 "file; 0.5 is assumed (DeiT and DINO have others)")
  return found or normalisation.OURS


def _json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object in a file; {} if there is no such file."""
  if not path.is_file():
    return {}
  try:
    if path.stat().st_size > 2**20:
      raise ValueError("it has more than a megabyte")
    value = json.loads(path.read_text())
    if not isinstance(value, dict):
      raise ValueError("it holds no object")
  except (OSError, ValueError, RecursionError) as e:
    raise errors.CheckpointError(
        f"{path} can't be read: {e}", "repair or remove it") from e
  return value


def _token_names(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, files.Tensor], told: Any, notes: list[str]
) -> tuple[str, ...]:
  """"cls" and the names of the registers in a file."""
  if not naming.registers or naming.registers not in found:
    return ("cls",)
  count = (*found[naming.registers].shape, 0, 0)[1]
  if told is None:
    names = ("cls", *(f"reg{i}" for i in range(min(count, MAX_PATCHES))))
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
    found: Mapping[str, files.Tensor], num_tokens: int
) -> tuple[int, int]:
  """How many positions are of tokens, and the side of the square of others."""
  count = (*found[naming.positions].shape, 0, 0)[1]
  fits = [slots for slots in (0, num_tokens)
          if 0 < count - slots <= MAX_PATCHES
          and math.isqrt(count - slots)**2 == count - slots]
  if not fits:
    raise errors.CheckpointError(
        f"{path}: {count} position embeddings are no square grid, with or "
        f"without {num_tokens} for tokens", "a model of square images")
  # Where both fit: timm's own models with registers have no slots.
  return fits[0], math.isqrt(count - fits[0])


def _check_shapes(
    path: pathlib.Path, naming: naming_lib.Naming,
    found: Mapping[str, files.Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Raises CheckpointError unless a file has what it must, and no more."""
  dummy = {name: np.broadcast_to(np.float32(0), shape)
           for name, shape in shapes.items()}
  want = {name: entry.get(dummy, layer).shape for name, entry, layer
          in naming.each(shapes["blocks/fc1/bias"][0])}
  width = shapes["norm/bias"][0]
  want[naming.cls] = (1, 1, width)
  want[naming.positions] = (1, found[naming.positions].shape[1], width)
  if naming.registers in found:
    want[naming.registers] = (1, *found[naming.registers].shape[1:2], width)
  imported.compare(path, found, want)

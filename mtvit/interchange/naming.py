"""What other libraries call the parameters of a ViT, and how they lay them out.

One table for each: timm's `VisionTransformer` (DeiT, DINO and DINOv2 are named
alike) and its `Eva` as far as it is DINOv3, Hugging Face's `ViTModel` and
`Dinov2Model`, and the npz files of AugReg and big_vision (arXiv:2106.10270). A
table serves both directions.
"""

import dataclasses
import math
import re
from typing import Any, Iterator, Mapping

import numpy as np

from mtvit.models import variants

# Our layout -> theirs, of one layer. "linear" is torch's [out, in], of which
# the output may be several of our axes (q, k, v, heads); of "linear_heads" the
# input is.
_TO_THEIRS = {
    "same": lambda x: x,
    "flat": lambda x: x.reshape(-1),
    "linear": lambda x: x.reshape(len(x), -1).T,
    "linear_heads": lambda x: x.reshape(-1, x.shape[-1]).T,
    "hwio": lambda x: _square(x),                             # [p, p, 3, d]
    "oihw": lambda x: _square(x).transpose(3, 2, 0, 1),       # [d, 3, p, p]
}
# Theirs -> ours, but for the shape.
_TO_OURS = {
    "same": lambda y: y,
    "flat": lambda y: y,
    "linear": lambda y: y.T,
    "linear_heads": lambda y: y.T,
    "hwio": lambda y: y,
    "oihw": lambda y: y.transpose(2, 3, 1, 0),
}


def _square(x: np.ndarray) -> np.ndarray:
  """A patch projection [p*p*3, d] as [p, p, 3, d]."""
  p = math.isqrt(len(x) // 3)
  return x.reshape(p, p, 3, x.shape[-1])


@dataclasses.dataclass(frozen=True)
class Entry:
  """One of their parameters.

  Attributes:
    theirs: name; {} stands for the number of the block.
    ours: path, joined by "/".
    layout: of theirs; a key of `_TO_THEIRS`.
    part: 0, 1, 2 if it is q, k or v of ours.
  """
  theirs: str
  ours: str
  layout: str
  part: int | None = None

  def place(self, ours: Mapping[str, Any], layer: int) -> np.ndarray:
    """The view of our array that this is."""
    x = ours[self.ours]
    if "{}" in self.theirs:
      x = x[layer]
    if self.part is not None:                # [d, 3, h, e] or [3, h, e]
      x = x[:, self.part] if x.ndim == 4 else x[self.part]
    return x

  def get(self, ours: Mapping[str, Any], layer: int) -> np.ndarray:
    """Their array, from ours."""
    return _TO_THEIRS[self.layout](self.place(ours, layer))

  def put(self, ours: Mapping[str, Any], layer: int, theirs: Any) -> None:
    """Writes their array, of the right shape, into ours."""
    place = self.place(ours, layer)
    place[...] = _TO_OURS[self.layout](theirs).reshape(place.shape)


@dataclasses.dataclass(frozen=True)
class Naming:
  """A library's names.

  Attributes:
    library: what errors call it.
    entries: all parameters but tokens and positions.
    cls: [1, 1, d].
    positions: [1, n, d], with or without slots for the tokens before; "" for
      rotary ones, which are no parameter.
    registers: [1, k, d]; "" if there are none in this library.
    apart: beginnings of names that play no part in the encoder's output.
    slots: how many tokens have a position; None for all or none of them.
    epsilon: of the norms, where nothing else is said.
  """
  library: str
  entries: tuple[Entry, ...]
  cls: str
  positions: str
  registers: str
  apart: tuple[str, ...]
  slots: int | None = None
  epsilon: float = 1e-6

  def each(
      self, ours: Mapping[str, np.ndarray]
  ) -> Iterator[tuple[str, Entry, int]]:
    """Their name, the entry and the layer of each of `entries` that we have."""
    for entry in self.entries:
      if entry.ours in ours:
        depth = len(ours[entry.ours]) if "{}" in entry.theirs else 1
        for layer in range(depth):
          yield entry.theirs.format(layer), entry, layer

  def knows(self, name: str) -> bool:
    """Whether a name is one of this library's."""
    name = re.sub(r"(?<=[._])\d+(?=[./])", "{}", name, count=1)
    return name in {e.theirs for e in self.entries} | {self.registers}

  def entry(self, ours: str) -> Entry:
    """The first of those that make up our parameter."""
    return next(e for e in self.entries if e.ours == ours)


def _entries(
    projection: tuple[str, str], block: str, qkv: tuple[str, ...],
    rest: Mapping[str, str], last: str, words: tuple[str, str, str],
    scales: tuple[str, ...] = ()
) -> tuple[Entry, ...]:
  """The table of a library.

  Args:
    projection: name of the patch projection and layout of its kernel.
    block: beginning of the names in a block.
    qkv: names of q, k and v, or the one of all.
    rest: our names in a block -> theirs.
    last: name of the final norm.
    words: for kernel, bias and scale, with the separator.
    scales: names of LayerScale in a block, if the library has it.
  """
  kernel, bias, scale = words
  torch = kernel == ".weight"
  linear, heads, flat = (
      ("linear", "linear_heads", "flat") if torch else ("same",) * 3)
  name, layout = projection
  found = [Entry(name + kernel, "embed/kernel", layout),
           Entry(name + bias, "embed/bias", "same")]
  for i, name in enumerate(qkv):
    part = i if len(qkv) > 1 else None
    found += [
        Entry(block + name + kernel, "blocks/attn/qkv/kernel", linear, part),
        Entry(block + name + bias, "blocks/attn/qkv/bias", flat, part)]
  for ours, theirs in rest.items():
    path, name = f"blocks/{ours}", block + theirs
    if "norm" in ours:
      found += [Entry(name + scale, f"{path}/scale", "same")]
    else:
      found += [Entry(name + kernel, f"{path}/kernel",
                      heads if ours == "attn/out" else linear)]
    found += [Entry(name + bias, f"{path}/bias", "same")]
  for i, name in enumerate(scales):
    found += [Entry(block + name, f"blocks/layer_scale{i + 1}", "same")]
  return tuple(found + [Entry(last + scale, "norm/scale", "same"),
                        Entry(last + bias, "norm/bias", "same")])


def _timm_entries(*scales: str) -> tuple[Entry, ...]:
  """The tables of timm, which differ in the names of LayerScale."""
  return _entries(
      ("patch_embed.proj", "oihw"), "blocks.{}.", ("attn.qkv",),
      {"norm1": "norm1", "attn/out": "attn.proj", "norm2": "norm2",
       "fc1": "mlp.fc1", "fc2": "mlp.fc2"}, "norm", _TORCH, scales)


_TORCH = (".weight", ".bias", ".weight")
TIMM = Naming(
    "timm", _timm_entries("ls1.gamma", "ls2.gamma"),
    "cls_token", "pos_embed", "reg_token",
    # Those of MAE, iBOT, and DINOv2 follow the heads.
    ("head.", "pre_logits.", "decoder.", "decoder_", "mask_token",
     "masked_embed"))
# The files of its authors that have registers; the others are named as timm's.
DINOV2 = dataclasses.replace(
    TIMM, library="DINOv2", registers="register_tokens", slots=1)
EVA = dataclasses.replace(
    TIMM, library="timm's Eva", entries=_timm_entries("gamma_1", "gamma_2"),
    positions="", epsilon=1e-5)
HUGGING_FACE = Naming(
    "Hugging Face",
    _entries(
        ("embeddings.patch_embeddings.projection", "oihw"),
        "encoder.layer.{}.",
        tuple(f"attention.attention.{x}" for x in ("query", "key", "value")),
        {"norm1": "layernorm_before", "attn/out": "attention.output.dense",
         "norm2": "layernorm_after", "fc1": "intermediate.dense",
         "fc2": "output.dense"}, "layernorm", _TORCH),
    "embeddings.cls_token", "embeddings.position_embeddings", "",
    ("pooler.", "classifier.", "decoder.", "embeddings.mask_token"))
HF_DINOV2 = Naming(
    "Hugging Face's Dinov2",
    _entries(
        ("embeddings.patch_embeddings.projection", "oihw"),
        "encoder.layer.{}.",
        tuple(f"attention.attention.{x}" for x in ("query", "key", "value")),
        {"norm1": "norm1", "attn/out": "attention.output.dense",
         "norm2": "norm2", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
        "layernorm", _TORCH, ("layer_scale1.lambda1", "layer_scale2.lambda1")),
    "embeddings.cls_token", "embeddings.position_embeddings",
    "embeddings.register_tokens", HUGGING_FACE.apart, slots=1)
AUGREG = Naming(
    "AugReg",
    _entries(
        ("embedding", "hwio"), "Transformer/encoderblock_{}/",
        tuple(f"MultiHeadDotProductAttention_1/{x}"
              for x in ("query", "key", "value")),
        {"norm1": "LayerNorm_0",
         "attn/out": "MultiHeadDotProductAttention_1/out",
         "norm2": "LayerNorm_2", "fc1": "MlpBlock_3/Dense_0",
         "fc2": "MlpBlock_3/Dense_1"}, "Transformer/encoder_norm",
        ("/kernel", "/bias", "/scale")),
    "cls", "Transformer/posembed_input/pos_embedding", "",
    ("head/", "pre_logits/"))


def shapes(
    variant: str, num_patches: int, token_names: tuple[str, ...],
    layer_scale: bool = False
) -> dict[str, tuple[int, ...]]:
  """Path -> shape of our parameters, without what hides positions.

  Args:
    variant: NAME/PATCH.
    num_patches: that have a position embedding; 0 for rotary positions.
    token_names: of the special tokens.
    layer_scale: the branches have LayerScale.
  """
  sizes, p = variants.parse_variant(variant)
  d, h, depth, mlp = (
      sizes[k] for k in ("width", "heads", "depth", "mlp_dim"))
  e = d // h
  block = {
      "norm1/scale": (d,), "norm1/bias": (d,), "attn/qkv/kernel": (d, 3, h, e),
      "attn/qkv/bias": (3, h, e), "attn/out/kernel": (h, e, d),
      "attn/out/bias": (d,), "norm2/scale": (d,), "norm2/bias": (d,),
      "fc1/kernel": (d, mlp), "fc1/bias": (mlp,), "fc2/kernel": (mlp, d),
      "fc2/bias": (d,)}
  if layer_scale:
    block |= {"layer_scale1": (d,), "layer_scale2": (d,)}
  return {
      "embed/kernel": (p * p * 3, d), "embed/bias": (d,),
      **({"position": (num_patches, d)} if num_patches else {}),
      "norm/scale": (d,), "norm/bias": (d,),
      **{f"token_{name}": (d,) for name in token_names},
      **{f"blocks/{name}": (depth, *shape) for name, shape in block.items()}}


def to_theirs(
    naming: Naming, ours: Mapping[str, np.ndarray],
    token_names: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """Their arrays by name.

  Args:
    naming: of a library.
    ours: path -> array, as in `shapes`.
    token_names: "cls", then what become registers, if the library has them.
  """
  arrays = {name: entry.get(ours, layer)
            for name, entry, layer in naming.each(ours)}
  token = lambda name: ours[f"token_{name}"]
  cls, position = token("cls"), ours["position"]              # [d], [n, d]
  own = ours.get("position_cls", np.zeros_like(cls))          # [d]
  if token_names[1:]:
    # No slots: what a slot would hold is in the tokens already.
    cls = cls + own
    arrays[naming.registers] = np.stack(
        [token(name) for name in token_names[1:]])[None]      # [1, k, d]
  else:
    position = np.concatenate([own[None], position])          # [1+n, d]
  arrays[naming.cls] = cls[None, None]                        # [1, 1, d]
  if naming.positions:
    arrays[naming.positions] = position[None]
  return arrays

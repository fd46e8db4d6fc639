"""Weights of other libraries: into our parameters, and out of them.

`read` takes a .safetensors file in the naming of timm's `VisionTransformer`, of
its DINOv3, of DINOv2, or of Hugging Face's `ViTModel` and `Dinov2Model`, behind
any prefix, an .npz file of AugReg or big_vision, and what `mtvit export`
writes. What our encoder can't compute is refused by name.
"""

import functools
import pathlib
import re
from typing import Callable, Mapping, NoReturn

import numpy as np

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import foreign
from mtvit.interchange import imported
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import native
from mtvit.interchange import prefixes
from mtvit.interchange import tensors

MAX_DEPTH = 1000                   # More layers are not believed.
# Beginnings of AugReg's names in the files that hold them.
_PREFIXES = ("opt/target/", "params/img/", "params/", "")
# big_vision stacks the layers, and numbers the modules in them afresh.
_STACKED = "Transformer/encoderblock/"
_RENUMBERED = {"LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3",
               "MultiHeadDotProductAttention_0":
                   "MultiHeadDotProductAttention_1"}
# Other libraries' ViTs, whose names are not read, by one of their names.
_OTHERS = (
    (r"patch_embed\.projection\.", "MMPretrain"),
    (r"(^|\.)conv_proj\.|encoder_layer_0\.", "torchvision"),
    (r"embeddings\.patch_embeddings\.weight$", "transformers' DINOv3"),
    (r"class_embedding$", "CLIP"), (r"to_patch_embedding\.", "vit-pytorch"),
    (r"layer1\.0\.conv1\.", "a ResNet"))


def read(path: str | pathlib.Path) -> imported.Imported:
  """Reads a file of weights, and what lies beside it to describe them.

  Raises:
    CheckpointError: it is damaged, of another kind, or of another model.
  """
  path = pathlib.Path(path)
  with files.opened(path) as found:
    if native.KEY in found:
      return native.read(path, found)
    notes: list[str] = []
    if path.suffix == ".safetensors":
      part = prefixes.encoder(
          path, found, (naming_lib.TIMM, naming_lib.HUGGING_FACE), notes)
      if part:
        return foreign.read(
            path, part.naming, part.arrays, notes, part.prefix)
    else:
      for prefix in _PREFIXES:
        if f"{prefix}embedding/kernel" in found:
          return foreign.read(
              path, naming_lib.AUGREG, _augreg(found, prefix, notes), notes)
    _refuse(path, found)


def _layer(whole: Callable[[], np.ndarray], i: int) -> np.ndarray:
  return whole()[i]


def _refuse(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor]
) -> NoReturn:
  """Raises CheckpointError with what is there."""
  other = next((f" (these are names of {library})" for pattern, library in
                _OTHERS if any(re.search(pattern, name) for name in found)), "")
  raise errors.CheckpointError(
      f"{path} names no parameter as timm's VisionTransformer, Hugging Face's "
      f"ViTModel or AugReg do; it has {tensors.listed(found) or 'none'}{other}",
      "a file of a plain ViT of one of these libraries")


def _augreg(
    found: Mapping[str, tensors.Tensor], prefix: str, notes: list[str]
) -> dict[str, tensors.Tensor]:
  """The encoder's arrays by AugReg's names."""
  naming = naming_lib.AUGREG
  own = {name.removeprefix(prefix): x for name, x in found.items()
         if name.startswith(prefix)
         and not name.removeprefix(prefix).startswith(naming.apart)}
  beside = found.keys() - {prefix + name for name in own}
  if beside:
    notes.append("left out, as it plays no part in the encoder's output: "
                 + tensors.listed(beside))
  return _unstacked(own)


def _unstacked(
    found: Mapping[str, tensors.Tensor]
) -> dict[str, tensors.Tensor]:
  """big_vision's names as AugReg's: layers apart, and numbered alike."""
  big_vision = "pos_embedding" in found
  result = {}
  for name, tensor in found.items():
    if name == "pos_embedding":
      name = naming_lib.AUGREG.positions
    if big_vision:
      name = "/".join(_RENUMBERED.get(x, x) for x in name.split("/"))
    if not name.startswith(_STACKED):
      result[name] = tensor
      continue
    depth = min((*tensor.shape, 0)[0], MAX_DEPTH)
    whole = functools.cache(tensor.read)
    for i in range(depth):
      result[name.replace("block/", f"block_{i}/")] = tensor._replace(
          shape=tensor.shape[1:], read=functools.partial(_layer, whole, i))
  return result

"""Weights of other libraries: into our parameters, and out of them.

`read` takes a .safetensors file in the naming of timm's `VisionTransformer` or
Hugging Face's `ViTModel`, an .npz file of AugReg or big_vision, and what
`mtvit.tools.export` writes. What our encoder can't compute is refused by name.
"""

import functools
import pathlib
from typing import Mapping

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import foreign
from mtvit.interchange import imported
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import native

MAX_DEPTH = 1000                   # More layers are not believed.
# Beginnings of AugReg's names in the files that hold them.
_PREFIXES = ("opt/target/", "params/img/", "params/", "")
# big_vision stacks the layers, and numbers the modules in them afresh.
_STACKED = "Transformer/encoderblock/"
_RENUMBERED = {"LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3",
               "MultiHeadDotProductAttention_0":
                   "MultiHeadDotProductAttention_1"}


def read(path: str | pathlib.Path) -> imported.Imported:
  """Reads a file of weights, and what lies beside it to describe them.

  Raises:
    CheckpointError: it is damaged, of another kind, or of another model.
  """
  path = pathlib.Path(path).expanduser()
  found = files.tensors(path)
  if native.KEY in found:
    return native.read(path, found)
  if path.suffix == ".safetensors":
    found = _without(found, "vit.") or found      # ViTForImageClassification.
    for naming in (naming_lib.TIMM, naming_lib.HUGGING_FACE):
      if naming.entry("embed/kernel").theirs in found:
        return foreign.read(path, naming, found)
  else:
    for prefix in _PREFIXES:
      if f"{prefix}embedding/kernel" in found:
        named = _unstacked(_without(found, prefix))
        return foreign.read(path, naming_lib.AUGREG, named)
  raise errors.CheckpointError(
      f"{path} names no parameter as timm's VisionTransformer, Hugging Face's "
      f"ViTModel or AugReg do (it has {', '.join(sorted(found)[:3])}, ...)",
      "a file of a plain ViT")


def _without(
    found: Mapping[str, files.Tensor], prefix: str
) -> dict[str, files.Tensor]:
  """What begins with a prefix, without it."""
  return {name.removeprefix(prefix): x for name, x in found.items()
          if name.startswith(prefix)}


def _unstacked(found: Mapping[str, files.Tensor]) -> dict[str, files.Tensor]:
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
      result[name.replace("block/", f"block_{i}/")] = files.Tensor(
          tensor.shape[1:], lambda i=i, whole=whole: whole()[i])
  return result

"""Names that begin as one library's, but go on as another's."""

import dataclasses
from typing import Collection

from mtvit.interchange import naming as naming_lib


def dialect(
    naming: naming_lib.Naming, names: Collection[str]
) -> naming_lib.Naming:
  """The table for names that begin as one library's, but go on as another's.

  Args:
    naming: `TIMM`, `HUGGING_FACE` or `AUGREG`.
    names: of the arrays of an encoder.
  """
  if naming is naming_lib.HUGGING_FACE:
    return (naming_lib.HF_DINOV2 if "encoder.layer.0.norm1.weight" in names
            else naming)
  if naming is not naming_lib.TIMM:
    return naming
  if naming_lib.DINOV2.registers in names:
    return naming_lib.DINOV2
  if naming_lib.TIMM.positions in names:
    return naming_lib.TIMM
  if "blocks.0.attn.qkv.bias" in names:
    return naming_lib.EVA
  # Where DINOv3 has biases, the keys have none; ours are then 0.
  entries = [e for e in naming_lib.EVA.entries
             if not e.theirs.endswith("qkv.bias")]
  if "blocks.0.attn.q_bias" in names:
    entries += [
        naming_lib.Entry(f"blocks.{{}}.attn.{x}_bias", "blocks/attn/qkv/bias",
                         "flat", part) for part, x in ((0, "q"), (2, "v"))]
  return dataclasses.replace(naming_lib.EVA, entries=tuple(entries))

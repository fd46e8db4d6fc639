"""Which files without position embeddings have DINOv3's rotary positions.

Rotary positions are no parameter, so the names in a file don't tell of them.
"""

import pathlib
import re
from typing import Any, Collection

from mtvit import errors
from mtvit.interchange import beside

BASE = 100.0                       # Of DINOv3's periods.
_SIDE = 16                         # Patches; DINOv3 takes images of any size.


def section(
    path: pathlib.Path, names: Collection[str], told: beside.Told,
    notes: list[str]
) -> dict[str, Any]:
  """The part of a `model` section that says where patches are.

  Args:
    path: of the file.
    names: in the file; there are no position embeddings.
    told: what is beside the file.
    notes: what is assumed is added.

  Raises:
    CheckpointError: nothing tells that the positions are those of DINOv3.
  """
  if told.arguments.get("rope_type") == "dinov3":          # Our own export.
    base: Any = told.arguments.get("rope_temperature")
    if type(base) not in (int, float) or not 1 < base < 1e9:
      raise errors.CheckpointError(
          f"{path}: its rope_temperature is said to be {repr(base)[:40]}",
          "repair the JSON beside it")
    return dict(position_init="none", rotary_base=float(base))
  # Of timm's models without position embeddings only these and LingBot's,
  # which are alike, have a class token, registers, and no bias of the keys.
  alike = ({"reg_token", "blocks.0.gamma_1"} <= set(names)
           and "blocks.0.attn.qkv.bias" not in names)
  named = told.architecture is None or re.search(
      "dinov3|lingbot", str(told.architecture))
  if not alike or not named:
    raise errors.CheckpointError(
        f"{path} has no pos_embed, and nothing tells that it has the rotary "
        "positions of DINOv3",
        "a file of a ViT with position embeddings, or of timm's DINOv3")
  if told.architecture is None:
    notes.append("the names are those of timm's DINOv3; its rotary positions, "
                 f"of base {BASE:g}, are assumed")
  return dict(position_init="none", rotary_base=BASE)


def side(told: beside.Told, patch: int, notes: list[str]) -> int:
  """How many patches the images of a file without embeddings are wide."""
  if type(told.side) is int and told.side > 0:
    return told.side // patch
  notes.append("the size of its images is not beside the file; "
               f"{_SIDE * patch} pixels are assumed")
  return _SIDE

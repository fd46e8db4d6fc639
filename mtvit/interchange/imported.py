"""An encoder from a file, and what any such file must fulfil."""

import dataclasses
import pathlib
import re
from typing import Any, Mapping

from mtvit import errors
from mtvit.interchange import tensors
from mtvit.models import variants


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
  """An encoder from a file.

  Attributes:
    params: of the encoder, nested, float32 numpy.
    model: what the file says of a config's `model` section, such as variant,
      image_size and activation.
    token_names: "cls", then the registers.
    position_policy: "drop_all" for an encoder without positions.
    gray: images must be made gray.
    notes: what was left out or assumed, one sentence each.
  """
  params: Any
  model: dict[str, Any]
  token_names: tuple[str, ...]
  position_policy: str = "drop"
  gray: bool = False
  notes: tuple[str, ...] = ()


def check_names(path: pathlib.Path, names: Any) -> None:
  """Raises CheckpointError unless these can be the tokens of an encoder."""
  if (not isinstance(names, list) or names[:1] != ["cls"]
      or not all(
          isinstance(x, str) and re.fullmatch(r"[a-z]\w{0,39}", x, re.ASCII)
          for x in names)
      or len(set(names)) != len(names) or len(names) > variants.MAX_TOKENS):
    raise errors.CheckpointError(
        f"{path}: its tokens are said to be {repr(names)[:80]}",
        f'at most {variants.MAX_TOKENS} names such as ["cls", "ct"]')


def compare(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor],
    want: Mapping[str, tuple[int, ...]]
) -> None:
  """Raises CheckpointError unless a file has these arrays, and no others."""
  # What there is tells more than what is missing.
  for name in sorted(want.keys() | found.keys(), key=lambda x: (
      x in want, x)):
    if name not in want:
      what = f"{path} has {name}, which this ViT has not"
    elif name not in found:
      what = f"{path} has no {name}"
    elif not found[name].floating:
      raise errors.CheckpointError(
          f"{path}: {name} is of type {found[name].dtype}",
          "weights in floating point")
    elif found[name].shape != want[name]:
      what = f"{path}: {name} is {found[name].shape}, and must be {want[name]}"
    else:
      continue
    raise errors.CheckpointError(what, "a file of a plain ViT")

"""Which arrays of a file are the encoder's, behind whatever prefix.

What trains a ViT saves it as a part of something larger: as `module.` (torch's
data parallelism), `_orig_mod.` (torch.compile), `backbone.` (lightly,
solo-learn), `teacher.backbone.` (DINO), `module.base_encoder.` (MoCo v3),
`vit.` (transformers), and combinations. So any prefix is taken off. Of several
encoders one is taken by a rule: a teacher or an average of weights (EMA), else
one that is neither student, momentum encoder nor target. What lies beside the
encoder must be known to play no part in its output.
"""

import pathlib
import re
from typing import Mapping, NamedTuple, Sequence

from mtvit import errors
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import tensors

# Put around single modules, anywhere in a name, by torch.
_WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|"
    r"_checkpoint_wrapped_module)\.")
_FIRST = {"teacher", "ema"}
_LAST = {"student", "momentum", "target"}
# Words in the names of what comes after an encoder, or is another one.
_APART = _FIRST | _LAST | {
    "head", "heads", "classifier", "classification", "projector",
    "predictor", "decoder", "pooler", "prototypes", "queue", "center", "loss",
    "criterion", "mask", "masked", "fc", "text", "logit", "optimizer"}
_COUNTERS = re.compile(
    r"(.*\.)?(num_batches_tracked|position_ids|relative_position_index|"
    r"n_averaged|queue_ptr)")


class Part(NamedTuple):
  """The encoder in a file.

  Attributes:
    naming: of the library.
    arrays: by name, without the prefix.
    prefix: of their names in the file.
  """
  naming: naming_lib.Naming
  arrays: dict[str, tensors.Tensor]
  prefix: str


class _Candidate(NamedTuple):
  naming: naming_lib.Naming
  prefix: str


def encoder(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor],
    namings: Sequence[naming_lib.Naming], notes: list[str]
) -> Part | None:
  """The encoder in a file, or None if there is none in these namings.

  Args:
    path: of the file.
    found: all arrays in it.
    namings: which the encoder may have.
    notes: gets what was left out.

  Raises:
    CheckpointError: there are several, or something unknown beside it.
  """
  found = _unwrapped(path, found)
  candidates = _candidates(found, namings)
  if not candidates:
    return None
  naming, prefix = _chosen(path, candidates)
  others = tuple(x.prefix for x in candidates if x.prefix not in ("", prefix))
  inside = tuple(x for x in others if x.startswith(prefix))
  arrays, beside = {}, {}
  for name, tensor in found.items():
    own = name.removeprefix(prefix)
    if (not name.startswith(prefix) or name.startswith(inside)
        or _is_counter(name, tensor) or own.startswith(naming.apart)):
      beside[name] = tensor
    else:
      arrays[own] = tensor
  _check_beside(path, beside, prefix, others)
  if len(candidates) > 1:
    notes.append(
        f"of {len(candidates)} encoders {prefix or 'the one without prefix'} "
        "is taken")
  if beside:
    notes.append("left out, as it plays no part in the encoder's output: "
                 + tensors.listed(beside))
  return Part(naming, arrays, prefix)


def _check_beside(
    path: pathlib.Path, beside: Mapping[str, tensors.Tensor], prefix: str,
    others: Sequence[str]
) -> None:
  """Raises CheckpointError if what is left out may belong to the encoder.

  Args:
    path: of the file.
    beside: what is left out.
    prefix: of the encoder.
    others: prefixes of other encoders.
  """
  unknown = sorted(
      name for name, tensor in beside.items()
      if not name.startswith((prefix, *others))
      and not _is_counter(name, tensor)
      and not _APART & set(re.split(r"[._\d]+", name.lower())))
  if unknown:
    raise errors.CheckpointError(
        f"{path}: the ViT is behind {prefix!r}, and what lies beside it may "
        f"play a part in its output: {tensors.listed(unknown)}",
        _keep(prefix))


def _unwrapped(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor]
) -> dict[str, tensors.Tensor]:
  """The same without what torch puts around modules."""
  result = {_WRAPPERS.sub("", name): x for name, x in found.items()}
  if len(result) < len(found):
    raise errors.CheckpointError(
        f"{path} has the same arrays twice, with and without _orig_mod. or the "
        "like in their names", "keep one of them")
  return result


def _candidates(
    found: Mapping[str, tensors.Tensor],
    namings: Sequence[naming_lib.Naming]
) -> list[_Candidate]:
  """Where patch projections are; where encoders are whole, only those."""
  some, whole = [], []
  for naming in namings:
    end = naming.entry("embed/kernel").theirs
    for name in found:
      if name != end and not name.endswith(f".{end}"):
        continue
      prefix = name.removesuffix(end)
      some.append(_Candidate(naming, prefix))
      if prefix + naming.cls in found and prefix + naming.positions in found:
        whole.append(some[-1])
  return whole or some


def _chosen(
    path: pathlib.Path, candidates: Sequence[_Candidate]
) -> _Candidate:
  """The one that the rule takes."""
  ranks: dict[int, list[_Candidate]] = {}
  for candidate in candidates:
    words = set(re.split(r"[._]+", candidate.prefix.lower()))
    rank = 0 if words & _FIRST else 2 if words & _LAST else 1
    ranks.setdefault(rank, []).append(candidate)
  best = ranks[min(ranks)]
  if len(best) > 1:
    names = sorted(x.prefix for x in best)
    shown = ", ".join(repr(x) for x in names[:4])
    raise errors.CheckpointError(
        f"{path} holds {len(names)} encoders alike, behind {shown}",
        _keep(names[-1]))
  return best[0]


def _keep(prefix: str) -> str:
  """How to make a file of what is behind a prefix alone."""
  return (
      "safetensors.numpy.save_file({k: x for k, x in safetensors.numpy."
      f"load_file(FILE).items() if k.startswith({prefix!r})}}, "
      "'encoder.safetensors')")


def _is_counter(name: str, tensor: tensors.Tensor) -> bool:
  """Whether it is an integer that a module keeps for itself."""
  return not tensor.floating and bool(_COUNTERS.fullmatch(name))

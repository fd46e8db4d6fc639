"""mtvit.npz: an encoder under our own names, for plain numpy.

Beside the parameters ("blocks/fc1/kernel", [depth, d, mlp_dim]) it has "mtvit",
JSON text that describes them. It holds any encoder that `model.kind` knows.
"""

import json
import pathlib
from typing import Any, Mapping, NamedTuple

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import imported
from mtvit.interchange import tensors
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.models import parameter_names
from mtvit.run import config_values
from mtvit.run import reading

FORMAT_VERSION = 1
KEY = "mtvit"                      # Of the JSON among the arrays.
# Keys of a `model` section that say how a run computed, and not what; and the
# tokens, which are described apart.
_OF_A_RUN = ("dtype", "remat", "unroll", "extra_tokens")
_NEEDED = ("variant", "image_size")


def write(
    path: pathlib.Path, params: Mapping[str, np.ndarray], described: Any
) -> None:
  """Writes an encoder.

  Args:
    path: of the file.
    params: path -> array.
    described: JSON, with model (a `model` section), tokens, position_policy
      and gray.
  """
  text = json.dumps({"format_version": FORMAT_VERSION, **described})
  files.write_npz(path, {**params, KEY: np.array(text)})


class _Described(NamedTuple):
  """The JSON in a file.

  Attributes:
    model: the part of the `model` section that the weights are of.
    tokens: "cls", then the others; not checked.
    policy: "drop", or "drop_all" for an encoder without positions.
    gray: images must be made gray.
  """
  model: dict[str, Any]
  tokens: list[str]
  policy: str
  gray: bool


def read(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor]
) -> imported.Imported:
  """Reads an encoder.

  Raises:
    CheckpointError: it is of another version, or not what `write` writes.
  """
  arrays = {name: x for name, x in found.items() if name != KEY}
  described = _described(path, found[KEY], "position" in arrays)
  imported.check_names(path, described.tokens)
  token_names = tuple(described.tokens)
  imported.compare(path, arrays, _shapes(path, described))
  return imported.Imported(
      params=traverse_util.unflatten_dict(
          {name: x.read() for name, x in arrays.items()}, sep="/"),
      model=described.model, token_names=token_names,
      position_policy=described.policy, gray=described.gray)


def _described(
    path: pathlib.Path, text: tensors.Tensor, has_positions: bool
) -> _Described:
  """The checked JSON in a file."""
  try:
    if text.shape or not text.dtype.startswith("<U"):
      raise ValueError(f"{KEY} is {text.dtype} {text.shape}, and no text")
    described = reading.parse(str(text.read()).encode())
    if described["format_version"] != FORMAT_VERSION:
      raise ValueError(f"format version {described['format_version']}")
    # Files from before this was said have the embeddings or have them not.
    policy = described.get(
        "position_policy", "drop" if has_positions else "drop_all")
    model = {key: value for key, value in described["model"].items()
             if key not in _OF_A_RUN}
    if not (type(described["gray"]) is bool and model.keys() >= set(_NEEDED)
            and policy in ("drop", "drop_all")):
      raise ValueError("its description is wrong")
    _config(model)
  except (ValueError, KeyError, TypeError, AttributeError,
          errors.ConfigError) as e:
    raise errors.CheckpointError(
        f"{path} can't be read: {e!r}"[:300],
        "export it again with this mtvit") from e
  return _Described(model, described["tokens"], policy, described["gray"])


def _config(model: Mapping[str, Any]) -> interface.EncoderConfig:
  """The `model` section, checked; raises ValueError or ConfigError."""
  kind = encoders.config_class(model.get("kind", "vit"))
  return config_values.parse_section(kind, model, prefix="model.")


def _shapes(
    path: pathlib.Path, described: _Described
) -> dict[str, tuple[int, ...]]:
  """Path -> shape of the parameters that the described encoder has."""
  config = _config(described.model)
  module = config.encoder(tuple(described.tokens), described.policy)
  try:
    return parameter_names.encoder_shapes(module, config.image_size)
  except Exception as e:      # Its sizes may be anything.
    raise errors.CheckpointError(
        f"{path} describes an encoder that can't be built: {e!r}"[:300],
        "export it again with this mtvit") from e

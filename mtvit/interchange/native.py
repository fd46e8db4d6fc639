"""mtvit.npz: an encoder under our own names, for plain numpy.

Beside the parameters ("blocks/fc1/kernel", [depth, d, mlp_dim]) it has "mtvit",
JSON text that describes them.
"""

import json
import pathlib
from typing import Any, Mapping

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import files
from mtvit.interchange import imported
from mtvit.interchange import naming
from mtvit.interchange import tensors
from mtvit.models import blocks
from mtvit.models import variants
from mtvit.run import reading

FORMAT_VERSION = 1
KEY = "mtvit"                      # Of the JSON among the arrays.


def write(
    path: pathlib.Path, params: Mapping[str, np.ndarray], described: Any
) -> None:
  """Writes an encoder.

  Args:
    path: of the file.
    params: path -> array.
    described: JSON, with model (a `model` section), tokens and gray.
  """
  text = json.dumps({"format_version": FORMAT_VERSION, **described})
  files.write_npz(path, {**params, KEY: np.array(text)})


def read(
    path: pathlib.Path, found: Mapping[str, tensors.Tensor]
) -> imported.Imported:
  """Reads an encoder.

  Raises:
    CheckpointError: it is of another version, or not what `write` writes.
  """
  described = _described(path, found[KEY])
  arrays = {name: x for name, x in found.items() if name != KEY}
  imported.check_names(path, described["tokens"])
  token_names = tuple(described["tokens"])
  model = {key: described["model"][key]
           for key in ("variant", "image_size", "activation")}
  _, patch = variants.parse_variant(model["variant"])
  want = naming.shapes(
      model["variant"], (model["image_size"] // patch)**2, token_names)
  if "position" not in arrays:     # A model without, position=drop_all.
    del want["position"]
  imported.compare(path, arrays, want)
  return imported.Imported(
      params=traverse_util.unflatten_dict(
          {name: x.read() for name, x in arrays.items()}, sep="/"),
      model=model, token_names=token_names, gray=described["gray"])


def _described(path: pathlib.Path, text: tensors.Tensor) -> dict[str, Any]:
  """The checked JSON in a file."""
  try:
    if text.shape or not text.dtype.startswith("<U"):
      raise ValueError(f"{KEY} is {text.dtype} {text.shape}, and no text")
    described = reading.parse(str(text.read()).encode())
    model = described["model"]
    if described["format_version"] != FORMAT_VERSION:
      raise ValueError(f"format version {described['format_version']}")
    if not (type(described["gray"]) is bool
            and type(model["image_size"]) is int
            and model["activation"] in blocks.ACTIVATIONS
            and described["tokens"]):
      raise ValueError("its description is wrong")
    variants.check_size(
        model["image_size"], variants.parse_variant(model["variant"])[1])
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    raise errors.CheckpointError(
        f"{path} can't be read: {e!r}"[:300],
        "export it again with this mtvit") from e
  return described

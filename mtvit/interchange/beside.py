"""What JSON beside a file of weights tells of the model in it."""

import functools
import pathlib
from typing import Any, Mapping, NamedTuple

from mtvit import errors
from mtvit.interchange import naming as naming_lib
from mtvit.interchange import normalisation
from mtvit.run import reading

CONFIG = "config.json"             # Of a folder for timm and transformers.
OURS = "mtvit"                     # The key of those that we have written.
_LONGEST = 2**20                   # Bytes of such a file.
_HUGGING_FACE = (naming_lib.HUGGING_FACE, naming_lib.HF_DINOV2)


class Told(NamedTuple):
  """What is beside a file and not in it; None for what is not there either.

  Attributes:
    activation: one of `blocks.ACTIVATIONS`.
    heads: of the attention, not checked.
    tokens: names, not checked.
    epsilon: of the norms.
    arguments: of timm.create_model, of our own export, not checked.
    architecture: what timm calls the model, not checked.
    side: of its images, pixels, not checked.
  """
  activation: str
  heads: Any
  tokens: Any
  epsilon: float
  arguments: dict[str, Any]
  architecture: Any
  side: Any


def told(
    path: pathlib.Path, naming: naming_lib.Naming, notes: list[str]
) -> Told:
  """What is beside a file and not in it.

  Raises:
    CheckpointError: our encoder has no such activation or epsilon.
  """
  activations = {"gelu": "gelu", "gelu_tanh": "gelu_tanh",
                 "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}
  made: Any = {}
  tokens, architecture, side = None, None, None
  if naming in _HUGGING_FACE:
    config = json_object(path.with_name("config.json"))
    act, heads = config.get("hidden_act"), config.get("num_attention_heads")
    usual = 1e-12 if naming is naming_lib.HUGGING_FACE else naming.epsilon
    epsilon = config.get("layer_norm_eps", usual if config else naming.epsilon)
  else:
    config = json_object(path.with_name("timm.json")).get(path.name, {})
    config = config if isinstance(config, dict) else {}
    made = config.get("create_model", {})
    tokens = config.get("tokens")
    # Our own export, or the file that timm lays beside its weights.
    theirs = _timm(path)
    made = made or theirs.get("model_args")
    made = made if isinstance(made, dict) else {}
    act = made.get("act_layer", "gelu" if made else None)
    heads = made.get("num_heads")
    epsilon = config.get("norm_epsilon", naming.epsilon)
    architecture = theirs.get("architecture")
    side = made.get("img_size", _input_side(theirs))
  if act is None:
    act = _assumed(naming, heads, notes)
  if not isinstance(act, str) or act not in activations:
    raise errors.CheckpointError(
        f"{path} has the activation {repr(act)[:40]}", "a model with GELU")
  if type(epsilon) is not float or not 0 < epsilon <= 0.1:
    raise errors.CheckpointError(
        f"{path}: its norms are said to have epsilon {repr(epsilon)[:40]}",
        "repair the JSON beside it")
  return Told(activations[act], heads, tokens, epsilon, made, architecture,
              side)


def _assumed(
    naming: naming_lib.Naming, heads: Any, notes: list[str]
) -> str:
  """The activation of a file that nothing describes."""
  # The files of AugReg come from Flax, whose GELU is the approximation; the
  # shapes in them tell the number of heads.
  augreg = naming is naming_lib.AUGREG
  act = "gelu_tanh" if augreg else "gelu"
  notes.append(f"the activation is not in the file; {act} is assumed")
  if not augreg and heads is None:
    notes.append("the number of heads is not in the file; that of the usual "
                 "ViT of this width is assumed")
  return act


def _input_side(config: Mapping[str, Any]) -> Any:
  """The last number of the input's size in timm's config.json, if any."""
  told = config.get("pretrained_cfg")
  size = told.get("input_size") if isinstance(told, dict) else None
  return size[-1] if isinstance(size, list) and size else None


def pixels(
    path: pathlib.Path, naming: naming_lib.Naming, notes: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation that the model's pixels are normalised with."""
  if naming is naming_lib.AUGREG:
    return normalisation.OURS
  if naming in _HUGGING_FACE:
    found = normalisation.check(
        path, json_object(path.with_name("preprocessor_config.json")),
        "image_mean", "image_std")
  else:
    inner = lambda told, *keys: functools.reduce(
        lambda x, key: x.get(key, {}) if isinstance(x, dict) else {}, keys,
        told)
    # Our own export, or the file that timm lays beside its weights.
    exported = inner(json_object(path.with_name("timm.json")), path.name,
                     "create_model", "pretrained_cfg_overlay")
    told = exported or inner(
        _timm(path), "pretrained_cfg")
    found = normalisation.check(
        path, told if isinstance(told, dict) else {}, "mean", "std")
  if found is None:
    notes.append("the mean and deviation of its pixels are not beside the "
                 "file; 0.5 is assumed (DeiT and DINO have others)")
  return found or normalisation.OURS


def _timm(path: pathlib.Path) -> dict[str, Any]:
  """What timm's config.json says of a file; an export's is of one alone."""
  found = json_object(path.with_name(CONFIG))
  return {} if OURS in found and path.name != "model.safetensors" else found


def json_object(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object in a file; {} if there is no such file."""
  if not path.is_file():
    return {}
  try:
    value = reading.parse(reading.content(path, _LONGEST))
    if not isinstance(value, dict):
      raise reading.Unusable("holds no object")
  except (OSError, reading.Unusable) as e:
    raise errors.CheckpointError(f"{path} {e}", "repair or remove it") from e
  return value

"""An encoder's weights, written for other libraries.

What a library needs to know beside the weights lies beside them as JSON.
"""

import contextlib
import dataclasses
import json
import math
import pathlib
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

from flax import traverse_util
import numpy as np

from mtvit import errors
from mtvit.interchange import beside
from mtvit.interchange import card
from mtvit.interchange import described
from mtvit.interchange import files
from mtvit.interchange import naming
from mtvit.interchange import native
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.models import parameter_names
from mtvit.run import files as writing

if TYPE_CHECKING:
  from mtvit import encoder as encoder_lib

# Format -> its file of weights.
FORMATS = {"safetensors": "model.safetensors", "npz": "augreg.npz",
           "hf": "hf/model.safetensors", "numpy": "mtvit.npz"}
_LIBRARIES = {
    "safetensors": (naming.TIMM, files.write_safetensors),
    "npz": (naming.AUGREG, files.write_npz),
    "hf": (naming.HUGGING_FACE, files.write_safetensors)}
_OTHERS = (card.NAME, beside.CONFIG, "timm.json", "hf/config.json",
           "hf/preprocessor_config.json")


def export(
    encoder: "encoder_lib.Encoder", output: pathlib.Path,
    formats: Sequence[str] | None = None, drop_tokens: bool = False,
    story: card.Story = card.UNKNOWN
) -> dict[str, list[str]]:
  """Writes an encoder's weights for other libraries.

  Args:
    encoder: to export.
    output: a folder, new, empty or an earlier export's; that is replaced.
    formats: of `FORMATS`; None for all that can hold the encoder.
    drop_tokens: leave task tokens out for timm, too.
    story: of the encoder, for its model card.

  Returns:
    File -> notes on what was left out or must be minded.

  Raises:
    ConfigError: no such format, none that can hold the encoder, or the folder
      is not ours.
    OSError: the disk is full; nothing is left behind.
  """
  formats = _checked(encoder, formats)
  tokens = {name: _kept(encoder, name, drop_tokens) for name in formats}
  notes = {FORMATS[x]: _notes(encoder, tokens[x], x) for x in formats}
  told = dict(
      model=dataclasses.asdict(encoder.model), tokens=encoder.token_names,
      gray=encoder.gray, run=pathlib.PurePath(encoder.name).name,
      step=encoder.step)
  edited = card.is_edited(output)
  with _begun(output, (card.NAME,) if edited else ()) as made:
    _describe(encoder, made, tokens)
    if edited:
      notes[card.NAME] = [
          "it was changed by hand, and is kept; remove it for a new one"]
    else:
      made.write(card.NAME, card.text(
          encoder, tokens, notes, output.absolute().name, story))
    _weights(encoder, made, tokens,
             told | dict(config=card.public(story.config) or None))
    made.write(files.MARK, _json({**told, "notes": notes}))
  return notes


def _weights(
    encoder: "encoder_lib.Encoder", made: writing.FileSet,
    tokens: Mapping[str, tuple[str, ...]], told: Mapping[str, Any]
) -> None:
  """Writes the files of weights; `tokens` by format."""
  policy = encoder.module.position_policy
  # What hides positions is of use in training alone.
  policy = "drop" if policy == "mask_token" else policy
  kept = parameter_names.encoder_shapes(
      encoder.model.encoder(encoder.token_names, policy), encoder.image_size)
  params = {name: np.asarray(x, np.float32) for name, x in
            traverse_util.flatten_dict(encoder.params, sep="/").items()
            if name in kept}
  if "numpy" in tokens:
    native.write(made.place(FORMATS["numpy"]), params,
                 {**told, "position_policy": policy})
  shape = (math.prod(encoder.grid), encoder.module.width)
  params = {"position": np.zeros(shape, np.float32)} | params
  for name, (library, write) in _LIBRARIES.items():
    if name in tokens:
      if name == "safetensors" and described.is_rotary(encoder):
        library = naming.EVA
      arrays = naming.to_theirs(library, params, tokens[name])
      write(made.place(FORMATS[name]), arrays)


def _checked(
    encoder: "encoder_lib.Encoder", formats: Sequence[str] | None
) -> Sequence[str]:
  """The formats; raises ConfigError if one can't hold the encoder."""
  for name in formats or ():
    if name not in FORMATS:
      raise errors.ConfigError(
          f"--formats: no {name!r}" + errors.suggest(name, FORMATS))
  can = holding(encoder)
  formats = can if formats is None else formats
  wrong = [name for name in formats if name not in can]
  if wrong or not can:
    own = {field.name for field in dataclasses.fields(interface.EncoderConfig)}
    differs = [
        f"{field.name}={getattr(encoder.model, field.name)}"
        for field in dataclasses.fields(encoder.model) if field.name not in own
        and getattr(encoder.model, field.name) != field.default]
    raise errors.ConfigError(
        f"--formats={','.join(wrong)}: no such file can hold this encoder, "
        f"{type(encoder.module).__name__} of model.kind={encoder.model.kind}"
        + f" with {', '.join(differs)}" * bool(differs),
        f"--formats={','.join(can)}" if can else "an encoder that is listed in "
        "mtvit/models/encoders.py and says what it `exports`")
  return formats


def holding(encoder: "encoder_lib.Encoder") -> tuple[str, ...]:
  """Formats that can hold an encoder, as its config says.

  A config speaks for the module that it builds; and it can be read again only
  as what is listed under its kind.
  """
  model, module = encoder.model, encoder.module
  built = model.build(encoder.token_names, module.position_policy)
  if type(module) is not type(built):
    return ()
  listed = encoders.ENCODERS.get(model.kind) is type(model)
  return tuple(x for x in FORMATS if x in model.exports() and (
      listed or x != interface.OWN_FORMAT))


def _kept(
    encoder: "encoder_lib.Encoder", name: str, drop: bool
) -> tuple[str, ...]:
  """The tokens that a format can hold."""
  if name in ("npz", "hf") or (name == "safetensors" and drop):
    return ("cls",)
  return encoder.token_names


def _describe(
    encoder: "encoder_lib.Encoder", made: writing.FileSet,
    tokens: Mapping[str, tuple[str, ...]]
) -> None:
  """Writes what timm and transformers need to know; `tokens` by format."""
  timm = {FORMATS[name]: described.timm_arguments(encoder, tokens[name])
          for name in ("safetensors", "npz") if name in tokens}
  if timm:
    made.write("timm.json", _json(timm))
  if "safetensors" in tokens:
    made.write(beside.CONFIG, _json(described.timm_config(
        timm[FORMATS["safetensors"]])))
  if "hf" in tokens:
    made.write("hf/config.json", _json(described.hf_config(encoder)))
    made.write("hf/preprocessor_config.json", _json(
        described.hf_processor(encoder)))


def _notes(
    encoder: "encoder_lib.Encoder", tokens: tuple[str, ...], name: str
) -> list[str]:
  """What a format leaves out, and what its user must mind."""
  notes = []
  dropped = encoder.token_names[len(tokens):]
  if dropped:
    notes.append(
        f"the tokens {', '.join(dropped)} are left out; all outputs change, "
        "since nothing attends to them")
  elif name == "safetensors" and tokens[1:]:
    notes.append(f"the registers are {', '.join(tokens[1:])}")
  if ("position" not in encoder.params and name != "numpy"
      and not described.is_rotary(encoder)):
    notes.append("the model has no position embeddings; they are 0")
  if "position_mask" in encoder.params:
    notes.append("the embedding that hides positions in training is left out")
  if encoder.gray:
    notes.append("trained on gray images: make the input gray")
  return notes


@contextlib.contextmanager
def _begun(
    output: pathlib.Path, kept: Sequence[str]
) -> Iterator[writing.FileSet]:
  """The files of an export in place of an earlier one's, but for some."""
  names = [x for x in (*FORMATS.values(), *_OTHERS) if x not in kept]
  made = writing.FileSet(output, names, files.MARK)
  with errors.unwritable(f"--output={output}", "another --output"):
    writing.remove_left(made.unfinished)     # Killed before it was there.
    # An export of before there was such a file may have one of the user's.
    foreign = described.is_foreign(output)
    if foreign or output.exists() and any(
        output.iterdir()) and not made.is_ours():
      raise errors.ConfigError(
          f"--output={output} " + (
              f"holds a {beside.CONFIG} that no export of mtvit has written"
              if foreign else "is not empty, and no export of mtvit"),
          "another --output")
    with made:
      yield made


def _json(value: Any) -> str:
  return json.dumps(value, indent=2) + "\n"

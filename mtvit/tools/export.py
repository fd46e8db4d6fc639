"""Exports the encoder of a run to timm, Hugging Face, AugReg's npz and numpy.

  mtvit export --workdir=runs/quickstart --output=exported

  safetensors  model.safetensors and config.json, as timm's models on the
               Hugging Face Hub have them; transformers' AutoModel takes the
               folder too. timm.json has the arguments of timm.create_model
  npz          augreg.npz, in the naming of AugReg, which timm reads too
  hf           hf/, a folder for transformers' ViTModel, without timm
  numpy        mtvit.npz, our own names and the config

README.md is the model card: data, tasks, results, how to load each file.

Beside [CLS] only timm knows special tokens, as registers. Elsewhere they are
left out, and all outputs change a little, since nothing attends to them.
export.json and the output say what was left out.
"""

import dataclasses

from absl import flags

from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.checkpoints import loading
from mtvit.interchange import card
from mtvit.interchange import exporting
from mtvit.report import exported
from mtvit.run import distributed
from mtvit.run import entry
from mtvit.run import paths
from mtvit.training import saved_runs

_WORKDIR = flags.DEFINE_string("workdir", None, "Of the run.")
_STEP = flags.DEFINE_integer("step", None, "Checkpoint; the newest if not set.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.")
_FORMATS = flags.DEFINE_list(
    "formats", None, f"Any of {','.join(exporting.FORMATS)}; all that can hold "
    "the encoder if not set.")
_DROP = flags.DEFINE_bool(
    "drop_tokens", False, "Leave the task tokens out for timm too.")


def main() -> None:
  """Exports, and prints each file with its notes."""
  if not _WORKDIR.value or not _OUTPUT.value:
    raise errors.ConfigError(
        "--workdir or --output is missing", "--workdir=runs/NAME --output=DIR")
  paths.check_local(**{"--output": _OUTPUT.value})
  path, story = paths.parse(_WORKDIR.value), card.UNKNOWN
  if path.suffix in loading.WEIGHTS:
    encoder = encoder_lib.load(path)
  else:
    loaded = loading.load_checkpoint(path, _STEP.value)
    encoder = encoder_lib.from_run(path, saved_runs.rebuild(loaded, path))
    one = path.name.isdecimal() and (path / "meta").exists()
    folder = paths.absolute(path).parents[1] if one else path
    encoder = dataclasses.replace(encoder, name=str(folder))
    story = exported.story(folder, loaded.step, loaded.meta)
  if not distributed.is_main():
    return
  output = paths.parse(_OUTPUT.value)
  notes = exporting.export(
      encoder, output, _FORMATS.value, drop_tokens=_DROP.value, story=story)
  for file, lines in notes.items():
    print(output / file)
    for line in lines:
      print(f"  note: {line}")
  print(f"{output / card.NAME}: the model card; it says what to add")


if __name__ == "__main__":
  entry.run(main)

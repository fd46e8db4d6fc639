"""What `mtvit evaluate` is told: the flags, and what they are by default."""

import dataclasses
from typing import Any

from absl import flags

from mtvit.probes import target

# The parts that --thorough changes: what they are by default, and with it.
DEFAULTS = {"layer_images": (1000, 5000), "cheat_steps": (0, 60)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(target.Choice):
  """What is evaluated and how: the flags of these names.

  None in `layer_images` and `cheat_steps` is what `DEFAULTS` says.
  """
  layer: int | None = None
  num_train: int = 0
  num_test: int = 0
  thorough: bool = False
  layer_images: int | None = None
  draws: int = 5
  diagnostics: bool = True
  cheat_steps: int | None = None
  shuffle_labels: bool = False

  def settled(self) -> "Options":
    """The same with a number for every None that `thorough` decides on."""
    wanted: dict[str, Any] = {
        name: values[self.thorough] for name, values in DEFAULTS.items()
        if getattr(self, name) is None}
    return dataclasses.replace(self, **wanted)


def define_flags() -> None:
  """Not on import: other programs have flags of the same names."""
  flags.DEFINE_string(
      "workdir", None, "Of the run; or one of its checkpoints, or a "
      ".safetensors or .npz file of weights.")
  flags.DEFINE_integer(
      "step", None, "Which checkpoint; default the newest.", lower_bound=0)
  _define_data_flags()
  flags.DEFINE_integer(
      "layer", None, "Whose features are tested, 0 is the input of the first "
      "block; default the last.", lower_bound=0)
  flags.DEFINE_integer(
      "num_train", 0, "Training images, evenly spaced; 0 for all.",
      lower_bound=0)
  flags.DEFINE_integer(
      "num_test", 0, "Test images, evenly spaced; 0 for all.", lower_bound=0)
  flags.DEFINE_bool(
      "thorough", False, "Takes several times as long: more images in the "
      "probes by layer and in the diagnostics, and the cheat index.")
  flags.DEFINE_integer(
      "layer_images", None, "Training images for the probes by layer, and a "
      "fifth more to validate them; 0 leaves these out. Default "
      "{:,}, {:,} with --thorough.".format(*DEFAULTS["layer_images"]),
      lower_bound=0)
  flags.DEFINE_integer(
      "draws", 5, "Draws of the few-shot images.", lower_bound=2)
  flags.DEFINE_bool(
      "diagnostics", True, "Look inside too: layers, positions, ranks, "
      "mosaics.")
  flags.DEFINE_integer(
      "cheat_steps", None, "Steps to refit each head for the cheat index; 0 "
      "leaves it out. Default {}, {} with --thorough.".format(
          *DEFAULTS["cheat_steps"]), lower_bound=0)
  flags.DEFINE_bool(
      "shuffle_labels", False, "Permute the training labels: expect chance.")


def _define_data_flags() -> None:
  flags.DEFINE_string(
      "data", "", "photo_tiles, folder:PATH or a TFDS name; default the run's.")
  flags.DEFINE_string(
      "train_split", "", "Default the run's, or train with --data.")
  flags.DEFINE_string(
      "test_split", "", "Default the run's, or test with --data.")
  flags.DEFINE_string(
      "data_dir", "", "Where TFDS keeps its data; default the run's.")
  flags.DEFINE_string(
      "cache_dir", "", "Where decoded images and lists of files are kept; "
      "default $MTVIT_CACHE_DIR or ~/.cache/mtvit, whatever the run's.")


def given() -> Options:
  """What the command line says."""
  values: dict[str, Any] = {
      field.name: flags.FLAGS[field.name].value
      for field in dataclasses.fields(Options)}
  return Options(**values)

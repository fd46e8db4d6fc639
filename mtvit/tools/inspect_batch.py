r"""Writes a PNG of a training batch: what the model sees, and the answers.

  mtvit inspect --config=quickstart \
      --step=0 --output=runs/batch.png

Each row is an image: its views, what the model sees of the first, and the
patches and answers of each task. Images that show hardly anything are left out.
"""

from absl import flags
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.pictures import batches
from mtvit.run import command_line
from mtvit.run import entry
from mtvit.run import paths

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, command_line.config_help())
_OUTPUT = flags.DEFINE_string("output", "batch.png", "The PNG to write.")
_STEP = flags.DEFINE_integer("step", 0, "Which step's batch.", lower_bound=0)
_IMAGES = flags.DEFINE_integer(
    "images", 4, "How many of its images.", lower_bound=1)


def main() -> None:
  """Makes one batch as the run would, and draws it."""
  output = paths.parse(_OUTPUT.value)
  if output.suffix != ".png":
    raise errors.ConfigError(f"--output={output} must end in .png")
  paths.check_local(**{"--output": output})
  config = config_lib.parse(entry.given_config(_CONFIG))
  batches.sample(config, _STEP.value).save(output, _IMAGES.value)
  print(output)


if __name__ == "__main__":
  entry.run(main)

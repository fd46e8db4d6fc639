"""mtvit: multi-task self-supervised pretraining of Vision Transformers."""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
  import pathlib

  from mtvit import encoder as encoder_lib


def load(
    path: "str | pathlib.Path", step: int | None = None
) -> "encoder_lib.Encoder":
  """Loads a trained encoder; see `mtvit.encoder.load`."""
  from mtvit import encoder    # Not before it is needed.
  return encoder.load(path, step)

"""The encoders that `model.kind` chooses from."""

from mtvit.models import interface
from mtvit.models import vit

ENCODERS: dict[str, type[interface.EncoderConfig]] = {
    "vit": vit.ModelConfig,
}


def config_class(kind: str) -> type[interface.EncoderConfig]:
  """The class of the `model` section of an encoder; ValueError if none."""
  if kind not in ENCODERS:
    raise ValueError(
        f"model.kind is {str(kind)[:80]!r}; choose one of "
        f"{', '.join(ENCODERS)}")
  return ENCODERS[kind]

"""One export, for the tests that change it."""

import pytest
import safetensors.numpy

from mtvit.interchange import exporting
from tests.interchange import helpers


@pytest.fixture
def plain(tmp_path):
  """A run without task tokens, its export, and timm's arrays of it."""
  encoder = helpers.encoder(tokens=("cls",), activation="gelu")
  exporting.export(encoder, tmp_path)
  return encoder, tmp_path, safetensors.numpy.load_file(
      tmp_path / "model.safetensors")

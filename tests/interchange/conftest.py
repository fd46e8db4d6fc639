"""One export, for the tests that change it."""

import shutil

import pytest
import safetensors.numpy

from mtvit.interchange import exporting
from tests.interchange import helpers


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
  """A run without task tokens, and the folder of its export; not changed."""
  folder = tmp_path_factory.mktemp("exported")
  encoder = helpers.encoder(tokens=("cls",), activation="gelu")
  exporting.export(encoder, folder)
  return encoder, folder


@pytest.fixture
def plain(tmp_path, exported):
  """The run, its export, copied, and timm's arrays of it."""
  encoder, folder = exported
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  return encoder, tmp_path, safetensors.numpy.load_file(
      tmp_path / "model.safetensors")

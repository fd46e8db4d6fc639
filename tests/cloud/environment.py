"""The packages that Orbax needs on gs://, in a folder beside the others."""

import pathlib
import shutil
import sys

from tests import environments

REQUIREMENTS = (pathlib.Path(__file__).with_name("requirements.txt"),)


def packages():
  """The folder to put on the path; skips the test if it can't be made."""
  if shutil.which("openssl") is None:
    environments.missing("no openssl, which makes the emulator's certificate")
  return environments.kept(
      "cloud", REQUIREMENTS, lambda folder: environments.install(
          sys.executable, REQUIREMENTS, "--no-deps", f"--target={folder}"))

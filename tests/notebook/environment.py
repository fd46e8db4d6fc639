"""The packages of a notebook's runtime, and sessions on top of them.

A session is an environment of its own that sees the packages, and installs
into itself, as a fresh Colab session does.
"""

import json
import os
import pathlib
import subprocess
import sys

from tests import environments

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = (HERE / "requirements.txt",)
# Of the tests, which the kernel must not have.
FOREIGN = ("PYTHONPATH", "XLA_FLAGS", "JAX_PLATFORMS", "MPLBACKEND")


def session(folder, base=None):
  """Makes a session in a folder, on the packages of `base`; its Python."""
  base = base or runtime()
  subprocess.run(
      [sys.executable, "-m", "venv", "--without-pip", folder], check=True)
  _packages(folder).joinpath("base.pth").write_text(f"{_packages(base)}\n")
  return folder / "bin" / "python"


def packages(python):
  """Package -> version, of all that a session sees."""
  listed = run(python, "-m", "pip", "list", "--format=json")
  return {item["name"].lower().replace("_", "-"): item["version"]
          for item in json.loads(listed)}


def run(python, *arguments, timeout=600, **variables):
  """Runs a session's Python; what it printed."""
  environment = {name: value for name, value in os.environ.items()
                 if name not in FOREIGN} | variables
  done = subprocess.run(
      [python, *map(str, arguments)], capture_output=True, text=True,
      timeout=timeout, env=environment)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def runtime():
  """The environment with the packages; skips the test if it can't be made."""
  return environments.kept("notebook", REQUIREMENTS, _make)


def _make(folder):
  said = environments.install(environments.create(folder), REQUIREMENTS)
  if not said:
    _rename_tensorflow(_packages(folder))
  return said


def _rename_tensorflow(folder):
  """The small build under the name that Colab's has."""
  old, = folder.glob("tensorflow_cpu-*.dist-info")
  new = old.with_name(old.name.replace("tensorflow_cpu", "tensorflow"))
  old.rename(new)
  told = new / "METADATA"
  told.write_text(told.read_text().replace(
      "Name: tensorflow-cpu", "Name: tensorflow").replace(
          "Name: tensorflow_cpu", "Name: tensorflow"))


def _packages(folder):
  version = f"python{sys.version_info.major}.{sys.version_info.minor}"
  return folder / "lib" / version / "site-packages"

"""The packages of a notebook's runtime, and sessions on top of them.

The packages are installed once for each content of requirements.txt, in the
user's cache. A session is an environment of its own that sees them, and
installs into itself, as a fresh Colab session does.
"""

import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.parity import environment as parity

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
# Of the tests, which the kernel must not have.
FOREIGN = ("PYTHONPATH", "XLA_FLAGS", "JAX_PLATFORMS", "MPLBACKEND")


def session(folder, base=None):
  """Makes a session in a folder, on the packages of `base`; its Python."""
  base = base or _base()
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


def _base():
  """The environment with the packages; skips the test if it can't be made."""
  key = hashlib.sha256(
      REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
  cache = pathlib.Path(
      os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  folder = cache / "mtvit" / f"notebook-{key}"
  folder.parent.mkdir(parents=True, exist_ok=True)
  with open(folder.with_suffix(".lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (folder / "complete").is_file():
      _make(folder)
  return folder


def _make(folder):
  shutil.rmtree(folder, ignore_errors=True)
  subprocess.run([sys.executable, "-m", "venv", folder], check=True)
  done = subprocess.run(
      [folder / "bin" / "python", "-m", "pip", "install", "--quiet",
       "--disable-pip-version-check", f"--requirement={REQUIREMENTS}"],
      capture_output=True, text=True, timeout=1800)
  if done.returncode == 0:
    _rename_tensorflow(_packages(folder))
    (folder / "complete").touch()
    return
  shutil.rmtree(folder, ignore_errors=True)
  reason = (f"no environment for the notebook: "
            f"{done.stderr.strip().splitlines()[-1:]}")
  if os.environ.get(parity.REQUIRED):
    pytest.fail(reason)
  pytest.skip(reason)


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

"""Installs what mtvit lacks in a notebook's runtime, and changes nothing else.

  import colab_install
  colab_install.install("requirements.txt")

Colab's runtimes come with JAX, Flax and TensorFlow for their devices. pip may
not touch what is there: another jax would lose the GPU or the TPU, another
protobuf would break TensorFlow.
"""

import importlib
import importlib.metadata
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
from typing import Mapping

from packaging import requirements as requirements_lib
from packaging import utils
from packaging import version as version_lib

from mtvit import errors

# The first block of requirements.txt; the other is what these need.
BLOCK = "# What mtvit uses itself."
# The lowest versions that work; tests/notebook runs the notebook on them.
LOWEST = {
    "jax": "0.7.1",
    "jaxlib": "0.7.1",
    "flax": "0.10.0",
    "optax": "0.2.3",
    "orbax-checkpoint": "0.11.30",
    "numpy": "2.0.2",
    "tensorflow": "2.19.1",
    "tensorflow-cpu": "2.19.1",
}
# Several packages hold the module; with one of them, none is missing.
TENSORFLOW = ("tensorflow", "tensorflow-cpu")
MODULES = dict.fromkeys(TENSORFLOW, "tensorflow") | {
    "opencv-python-headless": "cv2"}


def installed() -> dict[str, str]:
  """Package -> version, of all that this Python finds."""
  found: dict[str, str] = {}
  for item in importlib.metadata.distributions():
    name, version = item.metadata["Name"], item.version
    try:
      version_lib.Version(version)
    except (TypeError, version_lib.InvalidVersion):
      continue                     # Left over by an unfinished uninstall.
    if name:
      found.setdefault(utils.canonicalize_name(name), version)
  return found


def missing(
    text: str, there: Mapping[str, str]
) -> list[requirements_lib.Requirement]:
  """What mtvit uses itself, for this Python and machine, and is not there.

  Args:
    text: of requirements.txt; the one list of what mtvit needs.
    there: of `installed`.
  """
  block = text.partition(BLOCK)[2].partition("\n\n")[0]
  lines = [line for line in block.splitlines() if line.strip()]
  wanted = [requirements_lib.Requirement(line) for line in lines]
  if not wanted:
    raise ValueError(f"no {BLOCK!r} with packages below it")
  has = lambda name: (name in MODULES and importlib.util.find_spec(
      MODULES[name]) is not None)
  return [
      item for item in wanted
      if (item.marker is None or item.marker.evaluate())
      and utils.canonicalize_name(item.name) not in there
      and not has(item.name)]


def check(there: Mapping[str, str]) -> None:
  """Raises ConfigError naming what is there and older than `LOWEST`."""
  old = [name for name, lowest in LOWEST.items()
         if name in there
         and version_lib.Version(there[name]) < version_lib.Version(lowest)]
  if not old:
    return
  pure = [f"'{name}=={LOWEST[name]}'" for name in old]
  # These are built for the device or for each other.
  built = {"jax", "jaxlib", "numpy", *TENSORFLOW} & set(old)
  raise errors.ConfigError(
      "too old for mtvit: " + ", ".join(
          f"{name} {there[name]} (needs {LOWEST[name]})" for name in old),
      "a newer runtime version (Runtime > Change runtime type)" if built else
      f"%pip install {' '.join(pure)}, then Runtime > Restart session")


def install(file: str | pathlib.Path) -> None:
  """Installs what is missing; what is there keeps its version.

  Args:
    file: requirements.txt.

  Raises:
    ConfigError: what is there is too old, or what is missing does not fit it.
  """
  there = installed()
  check(there)
  lacking = missing(pathlib.Path(file).read_text(), there)
  names = [item.name for item in lacking]
  print(f"installing: {', '.join(names) or 'nothing'}", flush=True)
  if not names:
    return
  with tempfile.NamedTemporaryFile("w", suffix=".txt") as kept:
    kept.writelines(f"{name}=={version}\n" for name, version in there.items())
    kept.flush()
    # The pins; where they want newer neighbours than there are, what fits.
    for wanted in ([f"{x.name}{x.specifier}" for x in lacking], names):
      done = subprocess.run(
          [sys.executable, "-m", "pip", "install", "--quiet",
           "--disable-pip-version-check", f"--constraint={kept.name}",
           *wanted], capture_output=True, text=True)
      if done.returncode == 0:
        importlib.invalidate_caches()
        check(installed())
        return
  said = [line for line in done.stderr.splitlines() if "ERROR" in line]
  raise errors.ConfigError(
      f"pip can't install {', '.join(names)}: {' '.join(said[-1:])[:300]}",
      "a newer runtime version, or a virtual environment of its own: "
      "bash launch/local.sh")

"""The environment of timm, transformers and what benchmarks are compared with.

Torch and JAX share no process.
"""

import os
import pathlib
import subprocess

from tests import environments

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = (
    HERE / "requirements.txt", HERE.parents[1] / "launch" / "peers.txt")
INDEX = "https://download.pytorch.org/whl/cpu"


def python():
  """The path of its Python; skips the test if it can't be made."""
  return environments.kept("torch", REQUIREMENTS, _make) / "bin" / "python"


def _make(folder):
  python = environments.create(folder)
  # Without the other index first: pip may know where the CPU build is, and a
  # machine that reaches no other index would wait for it.
  return environments.install(python, REQUIREMENTS) and environments.install(
      python, REQUIREMENTS, f"--extra-index-url={INDEX}")


def run(*arguments, cwd=None):
  """Runs outside.py there; returns what it printed."""
  environment = {name: value for name, value in os.environ.items()
                 if name not in ("PYTHONPATH", "XLA_FLAGS")}
  # Threads of torch wait at full load for the cores that other tests have.
  environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
                  "OMP_NUM_THREADS": "1"}
  done = subprocess.run(
      [python(), HERE / "outside.py", *map(str, arguments)], cwd=cwd,
      capture_output=True, text=True, timeout=600, env=environment)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout

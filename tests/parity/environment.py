"""The environment of timm and transformers; torch and jax share no process.

It is made once for each content of requirements.txt, in the user's cache.
"""

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
INDEX = "https://download.pytorch.org/whl/cpu"
# CI sets it: there, no environment is a failure.
REQUIRED = "MTVIT_REQUIRE_ALL"


def python():
  """The path of its Python; skips the test if it can't be made."""
  key = hashlib.sha256(
      REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
  cache = pathlib.Path(
      os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  folder = cache / "mtvit" / f"parity-{key}"
  folder.parent.mkdir(parents=True, exist_ok=True)
  with open(folder.with_suffix(".lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)        # Two test processes want it.
    if not (folder / "complete").is_file():
      _make(folder)
  return folder / "bin" / "python"


def _make(folder):
  shutil.rmtree(folder, ignore_errors=True)
  subprocess.run([sys.executable, "-m", "venv", folder], check=True)
  install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet",
             "--disable-pip-version-check", f"--requirement={REQUIREMENTS}"]
  # Without the other index first: pip may know where the CPU build is, and a
  # machine that reaches no other index would wait for it.
  for more in ([], [f"--extra-index-url={INDEX}"]):
    done = subprocess.run(
        [*install, *more], capture_output=True, text=True, timeout=1800)
    if done.returncode == 0:
      (folder / "complete").touch()
      return
  shutil.rmtree(folder, ignore_errors=True)
  reason = (f"no environment for timm and transformers: "
            f"{done.stderr.strip().splitlines()[-1:]}")
  if os.environ.get(REQUIRED):
    pytest.fail(reason)
  pytest.skip(reason)


def run(*arguments, cwd=None):
  """Runs outside.py there; returns what it printed."""
  environment = {name: value for name, value in os.environ.items()
                 if name not in ("PYTHONPATH", "XLA_FLAGS")}
  environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
  done = subprocess.run(
      [python(), HERE / "outside.py", *map(str, arguments)], cwd=cwd,
      capture_output=True, text=True, timeout=600, env=environment)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout

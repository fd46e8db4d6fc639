"""The packages that Orbax needs on gs://, in a folder beside the others.

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

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")
# CI sets it: there, no environment is a failure.
REQUIRED = "MTVIT_REQUIRE_ALL"


def missing(reason):
  """Skips the test, or fails it in CI."""
  if os.environ.get(REQUIRED):
    pytest.fail(reason)
  pytest.skip(reason)


def packages():
  """The folder to put on the path; skips the test if it can't be made."""
  if shutil.which("openssl") is None:
    missing("no openssl, which makes the emulator's certificate")
  key = hashlib.sha256(
      REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
  cache = pathlib.Path(
      os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  folder = cache / "mtvit" / f"cloud-{key}"
  folder.parent.mkdir(parents=True, exist_ok=True)
  with open(folder.with_suffix(".lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)        # Two test processes want it.
    if not (folder / "complete").is_file():
      shutil.rmtree(folder, ignore_errors=True)
      done = subprocess.run(
          [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
           "--disable-pip-version-check", f"--target={folder}",
           f"--requirement={REQUIREMENTS}"],
          capture_output=True, text=True, timeout=600)
      if done.returncode:
        missing(f"no environment: {done.stderr.strip().splitlines()[-1:]}")
      (folder / "complete").touch()
  return folder

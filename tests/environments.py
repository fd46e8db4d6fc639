"""Environments of their own for some tests, made once and kept.

Each is made anew when its requirements.txt changes, in the user's cache.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys

import pytest

# CI sets it: there, what a test needs and is missing is a failure.
REQUIRED = "MTVIT_REQUIRE_ALL"


def missing(reason):
  """Skips the test, or fails it in CI."""
  if os.environ.get(REQUIRED) == "1":
    pytest.fail(reason)
  pytest.skip(reason)


@contextlib.contextmanager
def locked(folder):
  """While no other process of the tests has it."""
  with open(folder.with_suffix(".lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield


def kept(name, requirements, make):
  """The folder of an environment; skips the test if it can't be made.

  Args:
    name: of it.
    requirements: its files of requirements.
    make: fills the folder; returns what pip said if it failed, else nothing.
  """
  key = hashlib.sha256(b"".join(
      [file.read_bytes() for file in requirements]
      + [sys.version.encode()])).hexdigest()[:16]
  cache = pathlib.Path(
      os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  folder = cache / "mtvit" / f"{name}-{key}"
  folder.parent.mkdir(parents=True, exist_ok=True)
  with locked(folder):
    if not (folder / "complete").is_file():
      shutil.rmtree(folder, ignore_errors=True)
      if said := make(folder):
        shutil.rmtree(folder, ignore_errors=True)
        missing(f"no environment for {name}: {said.strip().splitlines()[-1:]}")
      (folder / "complete").touch()
  return folder


@contextlib.contextmanager
def small_files(size):
  """Meanwhile a file of more bytes can't be written, as on a full disk."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def create(folder):
  """Makes an empty environment; its Python."""
  subprocess.run([sys.executable, "-m", "venv", folder], check=True)
  return folder / "bin" / "python"


def install(python, requirements, *arguments):
  """Installs requirements with pip; what it said if it failed, else ""."""
  done = subprocess.run(
      [python, "-m", "pip", "install", "--quiet",
       "--disable-pip-version-check",
       *(f"--requirement={file}" for file in requirements), *arguments],
      capture_output=True, text=True, timeout=1800)
  return done.stderr + "failed" if done.returncode else ""

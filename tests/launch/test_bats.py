"""The launch scripts for TPUs, driven by bats against a fake gcloud."""

import pathlib
import shutil
import signal
import subprocess

import pytest

from tests import environments

HERE = pathlib.Path(__file__).parent
FILES = sorted(HERE.glob("*.bats"))


def test_there_are_files():
  assert len(FILES) == 5


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_scripts(file):
  for program in ("bats", "tmux", "git"):
    if not shutil.which(program):
      environments.missing(
          f"{program} is missing: apt-get install {program}")
  # Tests that a shell started in the background ignore Ctrl-C, and what they
  # start would too.
  done = subprocess.run(
      ["bats", "--timing", str(file)], capture_output=True, text=True,
      timeout=300,
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
  assert done.returncode == 0, done.stdout + done.stderr

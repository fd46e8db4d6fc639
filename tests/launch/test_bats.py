"""The launch scripts for TPUs, driven by bats against a fake gcloud."""

import os
import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
FILES = sorted(HERE.glob("*.bats"))
# CI sets it: there, no bats or tmux is a failure.
REQUIRED = "MTVIT_REQUIRE_ALL"


def test_there_are_files():
  assert len(FILES) == 5


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_scripts(file):
  for program in ("bats", "tmux", "git"):
    if not shutil.which(program):
      reason = f"{program} is missing: apt-get install {program}"
      if os.environ.get(REQUIRED):
        pytest.fail(reason)
      pytest.skip(reason)
  done = subprocess.run(
      ["bats", "--timing", str(file)], capture_output=True, text=True,
      timeout=300)
  assert done.returncode == 0, done.stdout + done.stderr

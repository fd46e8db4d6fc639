"""The script that checks a GPU, on a machine that has none."""

import json
import pathlib
import subprocess
import time

import pytest

from mtvit import errors
from mtvit.benchmarks import gpu_check
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]


def check(*words, **environment):
  return subprocess.run(
      ["bash", str(ROOT / "launch" / "gpu_check.sh"), *map(str, words)],
      capture_output=True, text=True, timeout=600,
      env=commands.environment(**environment))


def test_without_a_gpu_it_says_so(tmp_path):
  done = check(f"--output={tmp_path}", JAX_PLATFORMS="cpu")
  assert done.returncode == 2
  assert "JAX finds no GPU here" in done.stderr
  assert "--allow_cpu" in done.stderr and len(done.stderr.splitlines()) <= 5


def test_it_wants_a_place_for_what_it_finds():
  done = check("--allow_cpu", OUT="")
  assert done.returncode == 2 and "--output=DIR" in done.stderr
  done = check("--allow_cpu", OUT="/proc/no")
  assert done.returncode == 2 and "/proc/no" in done.stderr


@pytest.mark.slow
def test_all_of_it_at_tiny_sizes(tmp_path):
  done = check("--allow_cpu", "--peer_python=/none", OUT=str(tmp_path))
  assert done.returncode == 0, done.stderr
  found = json.loads((tmp_path / "gpu_check.json").read_text())
  assert set(found["agreement"]) == {"float32", "bfloat16"}
  for tasks in found["agreement"].values():
    assert len(tasks) == 7 and all(x["agrees"] for x in tasks.values())
  # The CPU beside itself, and in another dtype.
  assert all(x["gradient"] == 0 for x in found["agreement"]["float32"].values())
  assert all(
      1e-4 < x["gradient"] for x in found["agreement"]["bfloat16"].values())
  name = "mtvit, patch_level, scanned"
  assert found["pico/12"]["measured"][name]["step"][0]["count"] == 1
  assert found["run"]["result"]["steps"] == 2
  assert found["skipped"] == []
  text = (tmp_path / "gpu_check.md").read_text()
  assert f"| {name} |" in text and "Agreement: yes." in text
  assert text.strip() == done.stdout.strip()


def test_what_there_is_no_time_for_is_named(tmp_path):
  report = gpu_check.Report(tmp_path, 0.3)
  assert report.attempt("first", lambda: time.sleep(0.2) or 7) == 7
  assert report.attempt("second", lambda: 8) is None
  report.add("x", [1], "the first's")
  saved = json.loads((tmp_path / "gpu_check.json").read_text())
  assert saved["x"] == [1] and saved["skipped"] == ["second: 0 s were left"]
  assert "the first's" in report.text() and "- second: 0 s" in report.text()


def test_what_fails_is_named_and_the_rest_goes_on(tmp_path):
  report = gpu_check.Report(tmp_path, 60)
  def fail():
    raise errors.UserError("it ended with\nout of memory")
  assert report.attempt("large", fail) is None
  assert report.attempt("small", lambda: 1) == 1
  assert report.values["skipped"] == ["large: it ended with; out of memory"]

"""Imports go one way, and TensorFlow comes late."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FORBIDDEN = {
    "models": ("tensorflow", "mtvit.data", "mtvit.tasks", "mtvit.evals"),
    "data": ("jax", "flax", "optax", "mtvit.tasks", "mtvit.models"),
    "tasks": ("mtvit.evals", "mtvit.train_step", "mtvit.loop"),
    "evals": ("mtvit.loop", "mtvit.pretrain"),
}


def imports(file):
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
  files = list((ROOT / "mtvit" / package).rglob("*.py"))
  assert files
  for file in files:
    for name in imports(file):
      bad = [f for f in FORBIDDEN[package]
             if name == f or name.startswith(f + ".")]
      assert not bad, f"{file} imports {name}"


@pytest.mark.parametrize("arguments, code", [
    (["--help"], 1),     # absl's exit code for --help
    (["--config=configs/quickstart.py", "--config.tasks.colorize.mode=of"], 2),
    (["--config=configs/quickstart.py", "--config.tasks.colorize.typo=1"], 2),
])
def test_help_and_errors_do_not_import_tensorflow(arguments, code):
  program = (
      "import runpy, sys, atexit\n"
      "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
      f"sys.argv = ['pretrain'] + {arguments!r}\n"
      "runpy.run_module('mtvit.pretrain', run_name='__main__')\n")
  done = subprocess.run(
      [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
      text=True, timeout=120)
  assert done.returncode == code, done.stderr
  assert done.stdout.splitlines()[-1] == "False", done.stderr
  assert len(done.stderr.splitlines()) <= 5

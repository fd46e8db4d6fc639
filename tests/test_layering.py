"""Imports go one way, and TensorFlow comes late."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "mtvit"
# Room or file of the package -> what its files may import, beside each other.
# Imports for types alone (under TYPE_CHECKING) are no imports.
ROOMS = {
    "errors": "",
    "models": "",
    "run": "errors",
    "data": "errors run",
    "tasks": "data errors models",
    "config": "errors models run tasks",
    "interchange": "errors models run",
    "checkpoints": "config errors interchange models run",
    "training": "checkpoints config data errors models run tasks",
    "encoder": "checkpoints data errors models run training",
    "probes":
        "checkpoints config data encoder errors models run training",
    "diagnostics": "data models probes training",
    "pictures":
        "config data diagnostics encoder errors models probes run tasks "
        "training",
    "planning": "config errors run training",
    "benchmarks": "config data errors models planning run tasks training",
    "report": "errors interchange pictures probes run",
    "pretrain":
        "checkpoints config diagnostics pictures probes run training",
    "evaluate": "checkpoints config diagnostics errors pictures probes run "
                "training",
    "api": "checkpoints config encoder errors evaluate interchange pictures "
           "pretrain report run training",
    "__init__": "",
    "finetune": "checkpoints encoder errors models pretrain run",
    "__main__": "errors",
    "configs": "",
    "tools": "benchmarks checkpoints config diagnostics encoder errors "
             "interchange models pictures planning report run training",
    "study": "api benchmarks checkpoints config data diagnostics encoder "
             "errors models pictures pretrain probes report run tasks "
             "training",
}
# Constants of colour (sRGB curve, luminance, luma): in `data/srgb.py` alone.
COLOUR = {0.04045, 1.055, 12.92, 0.0031308, 0.212671, 0.71516, 0.299,
          0.587}
# Room -> packages that it may not know.
FOREIGN = {
    "errors": ("jax", "flax", "tensorflow"),
    "models": ("tensorflow", "orbax", "optax"),
    "run": ("flax", "optax"),
    "data": ("jax", "flax", "optax", "orbax"),
    "interchange": ("tensorflow",),
    "checkpoints": ("tensorflow",),
    "training": ("tensorflow",),
}


def imports(file):
  """Names of what a file imports when it runs, now or later."""
  def visit(node):
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
      return
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for child in ast.iter_child_nodes(node):
      yield from visit(child)
  return list(visit(ast.parse(file.read_text())))


def files(room):
  folder = PACKAGE / room
  return list(folder.rglob("*.py")) if folder.is_dir() else [
      folder.with_suffix(".py")]


def test_the_table_has_every_room():
  there = {path.stem for path in PACKAGE.iterdir()
           if path.suffix == ".py" or (path / "__init__.py").exists()}
  assert there == ROOMS.keys()
  known = set()
  for room, below in ROOMS.items():      # No circle: what is below comes first.
    assert set(below.split()) <= known, room
    known.add(room)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
  allowed = {room, *ROOMS[room].split()}
  used = set()
  for file in files(room):
    for name in imports(file):
      first, *rest = name.split(".")
      if first == "mtvit" and rest:
        assert rest[0] in allowed, f"{file} imports {name}"
        used.add(rest[0])
      assert first not in FOREIGN.get(room, ()), f"{file} imports {name}"
  assert used | {room} == allowed        # The table says no more than there is.


def test_what_draws_is_in_one_room():
  drawing = {
      file.relative_to(PACKAGE).parts[0] for file in PACKAGE.rglob("*.py")
      for name in imports(file)
      if name.startswith(("matplotlib", "PIL.ImageDraw", "PIL.ImageFont"))}
  assert drawing == {"pictures"}


def test_constants_of_colour_stand_in_one_place():
  stating = {
      str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py")
      for node in ast.walk(ast.parse(file.read_text()))
      if isinstance(node, ast.Constant) and isinstance(node.value, float)
      and node.value in COLOUR}
  assert stating == {"data/srgb.py"}


@pytest.mark.parametrize("arguments, code", [
    (["--help"], 1),     # absl's exit code for --help
    (["--config=quickstart", "--config.tasks.colorize.mode=of"], 2),
    (["--config=quickstart", "--config.tasks.colorize.typo=1"], 2),
])
def test_help_and_errors_do_not_import_tensorflow(arguments, code):
  program = (
      "import runpy, sys, atexit\n"
      "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
      f"sys.argv = ['pretrain'] + {arguments!r}\n"
      "runpy.run_module('mtvit.pretrain', run_name='__main__')\n")
  done = subprocess.run(
      [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True,
      text=True, timeout=300)
  assert done.returncode == code, done.stderr
  assert done.stdout.splitlines()[-1] == "False", done.stderr
  assert len(done.stderr.splitlines()) <= 5

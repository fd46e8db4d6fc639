"""Nothing that a user or a file provides is ever executed."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted(f for folder in ("mtvit", "configs", "tests", "launch")
               for f in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal",
           "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load",
         "yaml.unsafe_load", "compile"}


def dotted(node):
  if isinstance(node, ast.Attribute):
    return f"{dotted(node.value)}.{node.attr}"
  return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree):
  """What in a syntax tree would run code that comes from outside."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found = {alias.name.partition(".")[0] for alias in node.names} & MODULES
    elif isinstance(node, ast.ImportFrom):
      found = {(node.module or "").partition(".")[0]} & MODULES
    elif isinstance(node, ast.Call):
      found = {dotted(node.func)} & CALLS
      found |= {
          k.arg for k in node.keywords if k.arg in ("allow_pickle", "shell")
          and not (isinstance(k.value, ast.Constant)
                   and k.value.value is False)}
      if dotted(node.func).endswith("np.load") and not any(
          k.arg == "allow_pickle" for k in node.keywords):
        found |= {"np.load without allow_pickle=False"}
    else:
      continue
    for name in found:
      yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_file_runs_strangers_code(file):
  assert not list(unsafe(ast.parse(file.read_text())))


@pytest.mark.parametrize("code", [
    "import pickle", "from pickle import loads", "import dill.source",
    "eval(x)", "exec(x)", "__import__(x)", "os.system(x)", "yaml.load(x)",
    "np.load(x, allow_pickle=True)", "np.load(x, allow_pickle=flag)",
    "np.load(x)", "subprocess.run(x, shell=True)", "import joblib"])
def test_the_lint_sees(code):
  assert list(unsafe(ast.parse(code)))


def test_ruff_sees_them_too(tmp_path):
  file = tmp_path / "bad.py"
  file.write_text(
      '"""Bad."""\n\nimport pickle\nimport subprocess\n\n\n'
      "def f(x):\n"
      '  """Bad."""\n'
      "  pickle.loads(x)\n  eval(x)\n  exec(x)\n"
      "  subprocess.run(x, shell=True)\n")
  done = subprocess.run(
      [sys.executable, "-m", "ruff", "check", "--output-format=concise",
       f"--config={ROOT}/pyproject.toml", str(file)],
      capture_output=True, text=True)
  for rule in ("S301", "S307", "S102", "S602"):
    assert rule in done.stdout, done.stdout

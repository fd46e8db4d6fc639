"""Nothing that a user or a file provides is ever executed.

And files are written by `mtvit.run.files`, removed only where this says so.
"""

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


# Calls that change files, by what stands in front of the bracket.
CHANGES = {
    "unlink", "rmdir", "rmtree", "removedirs", "rename", "renames", "truncate",
    "ftruncate", "write_text", "write_bytes", "savefig", "mkdir", "makedirs",
    "touch", "symlink", "symlink_to", "link", "hardlink_to", "copyfile",
    "copytree", "copy2", "move", "chmod", "tofile", "save", "savez",
    "save_file", "savez_compressed", "memmap", "mkdtemp", "mkstemp",
    "TemporaryDirectory", "NamedTemporaryFile", "os.remove", "os.replace",
    "os.open", "shutil.copy"}
# The only places of them, and why no file of a user's is touched. What writes
# goes through `files.write`, to where a command was told to.
PLACES = {
    # Temporary files of its own pattern, and the files of a set that it began.
    "mtvit/run/files.py": {
        "os.open", "os.replace", "os.unlink", "part.unlink", "trial.unlink",
        "file.unlink", "self.unfinished.unlink", "folder.rmdir",
        "file.parent.mkdir", "epath.Path.write_bytes", "open"},
    # An opener for reading.
    "mtvit/run/reading.py": {"os.open"},
    # The lock, never through a link; entries of JAX's pattern in RUN/compiled.
    "mtvit/run/workdir.py": {"open", "file.truncate", "file.write_text",
                         "file.unlink", "os.unlink"},
    # A run's checkpoints: Orbax writes; what is damaged is put aside, whole.
    "mtvit/checkpoints/saving.py": {"self._aside.mkdir", "self._folder.rename",
                            "self._manager.save"},
    "mtvit/training/loop.py": {"self.checkpointer.save", "tempfile.mkdtemp",
                      "shutil.rmtree"},        # The folder that it made.
    # Folders that Python makes and removes, and copies out of them.
    "mtvit/run/paths.py": {"tempfile.TemporaryDirectory", "epath.Path.copy"},
    "mtvit/benchmarks/images.py": {
        "tempfile.TemporaryDirectory", "mkdir", "to.mkdir", "link.symlink_to",
        "photo.crop.save"},
    # The rows of a study, never truncated but behind their last whole line; its
    # lock and the logs of its runs, in its own folder.
    "mtvit/study/rows.py": {"open", "f.truncate"},
    "mtvit/study/running.py": {
        "options.workdir.mkdir", "log.parent.mkdir", "open"},
    "mtvit/pictures/effects.py": {"plots.save"},
    "mtvit/study/document.py": {"effects.save"},
    "mtvit/study/show.py": {"save"},
    "mtvit/benchmarks/profile.py": {"tempfile.TemporaryDirectory"},
    "mtvit/benchmarks/gpu_check.py": {"tempfile.TemporaryDirectory"},
    "mtvit/evaluate.py": {"tempfile.TemporaryDirectory"},
    "launch/colab_install.py": {"tempfile.NamedTemporaryFile"},
    # Four names, and names that are digests, in RUN/evaluation.
    "mtvit/pictures/evaluation.py": {"unlink"},
    "mtvit/probes/feature_cache.py": {"cache_files.save", "file.unlink"},
    # Through `files.write`, or into memory.
    "mtvit/pictures/plots.py": {"figure.savefig", "save"},
    "mtvit/tools/inspect_batch.py": {"batches.sample.save"},
    "mtvit/tools/report.py": {"save"},
    "mtvit/pictures/batches.py": {"grid.save"},
    "mtvit/pictures/curves.py": {"plots.save"},
    "mtvit/pictures/grid.py": {"plots.save"},
    "mtvit/pictures/panels.py": {"grid.save", "plots.save"},
    "mtvit/data/held.py": {"cache_files.save"},
    "mtvit/data/cache_files.py": {"save"},
    "mtvit/benchmarks/saved_batches.py": {"safetensors.numpy.save"},
    "mtvit/interchange/files.py": {"safetensors.numpy.save", "np.savez"},
    "mtvit/report/markup.py": {"image.save"},
    # /dev/null, and a process's own standard output.
    "mtvit/run/streams.py": {"open", "os.open"},
    "mtvit/benchmarks/peers/protocol.py": {"os.fdopen"},
}


def called(node):
  """The name of what is called; of "(a / b).c()" it is "c"."""
  if isinstance(node, ast.Attribute):
    return f"{called(node.value)}.{node.attr}".lstrip(".")
  if isinstance(node, ast.Call):
    return called(node.func)
  return node.id if isinstance(node, ast.Name) else ""


def changes(tree):
  """The calls in a syntax tree that change files."""
  for node in ast.walk(tree):
    if not isinstance(node, ast.Call):
      continue
    name, last = called(node.func), called(node.func).rpartition(".")[2]
    if name in CHANGES or last in CHANGES:
      yield name
    elif last in ("open", "fdopen"):
      of_function = name in ("open", "io.open", "os.fdopen")
      modes = [*node.args[1 if of_function else 0:], *(
          k.value for k in node.keywords if k.arg == "mode")][:1]
      # The first of a method may be a file to read, as of `Image.open`.
      if any(set(mode.value) & set("wax+")
             if isinstance(mode, ast.Constant) else of_function
             for mode in modes):
        yield name
    elif last == "replace" and len(node.args) == 1 and not node.keywords:
      yield name                     # A path's; a text's has two.
    elif last == "copy" and node.args and any(
        k.arg == "overwrite" for k in node.keywords):
      yield name


def test_files_are_changed_in_few_places():
  found = {}
  for file in FILES:
    name = str(file.relative_to(ROOT))
    if not name.startswith("tests/"):
      if calls := set(changes(ast.parse(file.read_text()))):
        found[name] = calls
  assert found == PLACES


def test_a_picture_is_whole_or_not_there():
  """`files.write` gives the file that a figure is saved to."""
  within, everywhere = set(), set()
  for file in FILES:
    for node in ast.walk(ast.parse(file.read_text())):
      if isinstance(node, ast.Call) and file.is_relative_to(ROOT / "mtvit"):
        saved = {(file, inner.lineno) for inner in ast.walk(node)
                 if isinstance(inner, ast.Call)
                 and called(inner.func).endswith("savefig")}
        everywhere |= saved
        if called(node.func) == "files_lib.write":
          within |= saved
  assert within == everywhere != set()


@pytest.mark.parametrize("code", [
    "os.remove(x)", "x.unlink()", "(a / b).unlink()", "shutil.rmtree(x)",
    "a.b(c).rename(d)", "x.replace(y)", "os.replace(x, y)", "open(x, 'w')",
    "open(x, mode='ab')", "x.open('w')", "open(x, 'r+')", "open(x, m)",
    "x.write_text(y)", "figure.savefig(x)", "image.save(x)", "np.savez(x)",
    "x.mkdir()", "unlink(x)", "os.open(x, 1)", "io.open(x, 'w')"])
def test_the_lint_sees_what_changes_files(code):
  assert list(changes(ast.parse(code)))


@pytest.mark.parametrize("code", [
    "open(x)", "open(x, 'rb')", "x.open()", "x.open('rb')", "s.replace(a, b)",
    "x.copy()", "dataclasses.replace(x, a=1)", "Image.open(x)"])
def test_the_lint_lets_reading_be(code):
  assert not list(changes(ast.parse(code)))

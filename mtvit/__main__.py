"""The command `mtvit`, which is also `python -m mtvit`."""

import ast
import importlib.util
import pathlib
import runpy
import sys

import mtvit
from mtvit import errors

# Command -> the module that is run.
COMMANDS = {
    "pretrain": "mtvit.pretrain",
    "finetune": "mtvit.finetune",
    "evaluate": "mtvit.evaluate",
    "report": "mtvit.tools.report",
    "export": "mtvit.tools.export",
    "inspect": "mtvit.tools.inspect_batch",
    "plan": "mtvit.tools.plan",
    "plan_table": "mtvit.tools.plan_table",
    "cheat_index": "mtvit.tools.cheat_index",
    "bench": "mtvit.tools.bench",
    "study": "mtvit.study.command",
}
# Package -> what is installed for it; only training and what draws need these.
_TRAINING = ("clu", "cv2", "matplotlib", "skimage", "sklearn", "tensorboard",
             "tensorflow", "tensorflow_datasets", "array_record")


def main() -> None:
  """Runs the command that the command line names, and exits as it does."""
  name = sys.argv[1] if len(sys.argv) > 1 else "--help"
  if name in ("--help", "-h", "-help", "help"):
    print(usage())
    return
  if name in ("--version", "version"):
    print(f"mtvit {mtvit.__version__}")
    return
  if name not in COMMANDS:
    _fail(f"there is no command {errors.printable(name)}"
          + errors.suggest(name, COMMANDS),
          "mtvit --help says what each of them does")
  del sys.argv[1]
  # As with `python -m`: a config may import what lies in this folder. Last, so
  # that nothing there takes the place of what is installed.
  if not {"", str(pathlib.Path.cwd())} & set(sys.path):
    sys.path.append(str(pathlib.Path.cwd()))
  try:
    runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
  except ModuleNotFoundError as e:
    if e.name is None or e.name.partition(".")[0] not in _TRAINING:
      raise
    _fail(f"mtvit {name} needs the package {e.name}, which is not installed",
          "in the checkout: pip install '.[train]'")


def _fail(what: str, fix: str) -> None:
  print(f"error: {errors.ConfigError(what, fix)}", file=sys.stderr)
  sys.exit(errors.ConfigError.exit_code)


def usage() -> str:
  """What the commands do, a line each, without importing them."""
  return "\n".join([
      "mtvit COMMAND [--FLAG...]; mtvit COMMAND --help; mtvit --version", "",
      *(f"  {name:<12} {_summary(module)}"
        for name, module in COMMANDS.items())])


def _summary(module: str) -> str:
  """The first line of the module's docstring."""
  spec = importlib.util.find_spec(module)
  assert spec and spec.origin
  tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))
  return (ast.get_docstring(tree) or "").partition("\n")[0]


if __name__ == "__main__":
  main()

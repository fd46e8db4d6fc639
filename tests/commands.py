"""Commands as a user starts them, each in a process of its own.

A process that has imported JAX and Flax already is forked for each: importing
them takes longer than most of what is tested. It has started no computation and
knows no TensorFlow, and a command runs as `python -m` runs it.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([
    "flax.linen", "optax", "ml_collections.config_flags", "numpy.ma",
    "orbax.checkpoint", "mtvit.configs.quickstart",
    "mtvit.interchange.exporting", "mtvit.pictures.evaluation",
    "mtvit.pictures.run_report", "mtvit.probes.frozen", "mtvit.probes.run_knn",
    "mtvit.report.training", "mtvit.run.entry", "mtvit.training.loop",
    "mtvit.training.saved_runs"])


def run(module, *arguments, cwd=ROOT, timeout=300, **environment):
  """Runs `python -m module arguments`; what subprocess.run would return."""
  with tempfile.TemporaryDirectory() as folder:
    files = [os.path.join(folder, name) for name in ("out", "err")]
    process = _FORKS.Process(target=_run, args=(
        module, [str(x) for x in arguments], str(cwd), files, {
            key: str(value) for key, value in environment.items()}))
    process.start()
    process.join(timeout)
    if process.is_alive():
      process.kill()
      process.join()
      raise subprocess.TimeoutExpired(module, timeout)
    said = [pathlib.Path(file).read_text() for file in files]
  return subprocess.CompletedProcess(
      [module, *arguments], process.exitcode, *said)


def _run(module, arguments, cwd, files, environment):
  for number, file in enumerate(files, 1):
    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
  os.chdir(cwd)
  if "XLA_FLAGS" in environment:
    os.environ.pop("NPROC", None)      # It was for eight devices.
  os.environ.update(environment)
  sys.path.insert(0, cwd)
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)

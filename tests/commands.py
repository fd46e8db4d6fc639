"""Commands as a user starts them, each in a process of its own.

A process that has imported JAX and TensorFlow already is forked for each:
importing them takes longer than most of what is tested. It has started no
computation, and a command runs as `python -m` runs it.
"""

import gc
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
# Small runs make few steps, which need not be fast, and programs are compiled
# in a quarter of the time. Those of users are in the quickstart's test.
QUICK = ("--xla_backend_optimization_level=0 "
         "--xla_cpu_use_fusion_emitters=false")
# Simulated devices that wait for each other in different collectives would wait
# for ever, as `run.entry` has it.
ORDERED = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
# Traces of programs are many objects that live on: Python looks for garbage
# seldom, in the tests' own processes and in those that are forked.
gc.set_threshold(100_000, 50, 50)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([
    "clu.metric_writers", "flax.linen", "ml_collections.config_flags",
    "numpy.ma", "optax", "orbax.checkpoint", "tensorflow",
    "mtvit.configs.quickstart", "mtvit.data.datasets",
    "mtvit.interchange.exporting", "mtvit.pictures.evaluation",
    "mtvit.pictures.run_report", "mtvit.probes.frozen", "mtvit.probes.run_knn",
    "mtvit.report.training", "mtvit.run.entry", "mtvit.training.loop",
    "mtvit.training.saved_runs"])


def environment(**changes):
  """That of a process with one device, as a user has it."""
  return _inherited() | {"XLA_FLAGS": QUICK} | changes


def _inherited():
  """This process's, without what is for eight devices."""
  return {key: value for key, value in os.environ.items() if key != "NPROC"}


def run(module, *arguments, cwd=ROOT, timeout=300, **environment):
  """Runs `python -m module arguments`; what subprocess.run would return."""
  with tempfile.TemporaryDirectory() as folder:
    files = [os.path.join(folder, name) for name in ("out", "err")]
    with open(files[0], "w") as out, open(files[1], "w") as err:
      process = start(module, *arguments, out=out, err=err, cwd=cwd,
                      **environment)
    process.join(timeout)
    if process.is_alive():
      process.kill()
      process.join()
      raise subprocess.TimeoutExpired(module, timeout)
    said = [pathlib.Path(file).read_text() for file in files]
  return subprocess.CompletedProcess(
      [module, *arguments], process.exitcode, *said)


def start(module, *arguments, out, err, cwd=ROOT, **environment):
  """Starts `python -m module arguments`; a multiprocessing.Process.

  What a test that fails leaves running ends with the tests. To be called, and
  the process to be joined, in one thread: each start polls all that run, and a
  process that two threads poll at once may seem to have exited with 255.

  Args:
    module: which to run.
    *arguments: its command line.
    out: the file of its standard output.
    err: that of its standard error.
    cwd: where it runs.
    **environment: changes of it.
  """
  inherited = _inherited() if "XLA_FLAGS" in environment else dict(os.environ)
  process = _FORKS.Process(daemon=True, target=_run, args=(
      module, [str(x) for x in arguments], str(cwd), [_File(out), _File(err)],
      inherited | {key: str(value) for key, value in environment.items()}))
  process.start()
  return process


class _File:
  """An open file, to be sent to a process that is being started."""

  def __init__(self, file):
    self.file = file

  def __reduce__(self):
    return _number, (multiprocessing.reduction.DupFd(self.file.fileno()),)


def _number(duplicate):
  return duplicate.detach()


def _run(module, arguments, cwd, outputs, environment):
  for number, output in enumerate(outputs, 1):
    os.dup2(output, number)
    os.close(output)
  os.chdir(cwd)
  import jax             # Here it has looked at its variables long ago.
  for key, value in environment.items():
    if key.startswith("JAX_") and os.environ.get(key) != value:
      jax.config.update(key.lower(), value)
  os.environ.clear()
  os.environ.update(environment)
  if "PYTHONUNBUFFERED" in environment:
    sys.stdout.reconfigure(write_through=True)
  sys.path.insert(0, cwd)
  sys.argv = [module, *arguments]
  sys.orig_argv = [sys.executable, "-m", module, *arguments]
  runpy.run_module(module, run_name="__main__", alter_sys=True)

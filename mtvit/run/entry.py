"""Starting a program: flags, clear errors, exit codes (see `errors`)."""

import os
import pathlib
import re
import shlex
import sys
import threading
import time
import traceback
from typing import Any, Callable, NamedTuple

from absl import app
from absl import flags
from absl import logging
from etils import epath
import jax
import ml_collections
from ml_collections import config_flags

from mtvit import errors
from mtvit.run import command_line
from mtvit.run import config_values
from mtvit.run import flag_errors
from mtvit.run import paths
from mtvit.run import streams

_SCHEDULER = "--xla_cpu_enable_concurrency_optimized_scheduler"
# --config.KEY=VALUE of a command without --config.
_overrides: list[str] = []


class Started(NamedTuple):
  """What a run is started with.

  Attributes:
    config: plain values, or None if the work directory is to tell.
    workdir: of the run.
    overrides: --config.KEY=VALUE, if the work directory is to tell.
  """
  config: dict[str, Any] | None
  workdir: epath.Path
  overrides: tuple[str, ...] = ()


def run(main: Callable[[], None]) -> None:
  """Parses the flags, calls `main`, and exits with the code of its error.

  Of a run of several processes, one that fails alone does not wait for the
  others.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # Else TensorFlow speaks on CPUs that it finds oneDNN faster on, whatever the
  # log level; the input pipeline has no use for it.
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  _define_flags()
  _let_simulated_devices_meet()
  logging.use_absl_handler()
  logging.set_verbosity(logging.WARNING)
  streams.protect()
  logging.get_absl_handler().python_handler.stream = sys.stderr
  # Orbax and its event loops log tracebacks, of one full disk a hundred, of
  # what `checkpoints.saving` catches and says in a line.
  logging.get_absl_handler().addFilter(
      lambda record: not re.search("/(orbax|asyncio)/", record.pathname))
  sys.unraisablehook = _unraisable
  try:
    try:
      app.run(lambda argv: _guarded(main, argv), flags_parser=_parse_flags)
    except errors.UserError as e:
      _fail(e)
  except SystemExit as e:
    _end_threads(0 if e.code is None else e.code)
    raise


def _define_flags() -> None:
  """Not on import: a program that imports this has flags of its own."""
  flags.disclaim_key_flags()       # --help counts them among the command's.
  flags.DEFINE_bool("traceback", False, "Show the traceback of an error.")
  flags.DEFINE_multi_string(
      "plugin", [], "Import path of a module that adds a task, an evaluator, a "
      "data source or an encoder.")


def _let_simulated_devices_meet() -> None:
  """Settings with which --xla_force_host_platform_device_count does not hang.

  One device may wait in a collective for another that waits in the next one;
  after 40 s XLA ends the process. With its scheduler for concurrency that was
  seen with 16 threads as with 1,024, with the one for memory it was not. XLA
  also makes one thread for each simulated device, and a device that waits in
  two collectives at once holds two. The number of threads does not depend on
  that of the devices: with as many threads, as many devices in one process or
  in several give the same bits.
  """
  given = os.environ.get("XLA_FLAGS", "")
  if re.search(r"--xla_force_host_platform_device_count=\d", given):
    os.environ.setdefault("NPROC", str(max(32, os.cpu_count() or 1)))
    if _SCHEDULER not in given:
      os.environ["XLA_FLAGS"] = f"{given} {_SCHEDULER}=false"


def _guarded(main: Callable[[], None], argv: list[str]) -> None:
  """Calls `main`; an error becomes its message and exit code."""
  try:
    if len(argv) > 1:
      raise errors.ConfigError(
          f"stray argument {argv[1]!r}", "flags start with --")
    main()
  except errors.UserError as e:
    _fail(e)
  except KeyboardInterrupt:          # Before `stop` takes over.
    print("stopped: Ctrl-C", file=sys.stderr, flush=True)
    os._exit(130)
  except Exception as e:
    if isinstance(e, OSError) and e.errno in errors.DISK_FULL:
      _fail(errors.DiskFull(
          f"{e.filename or 'the output, or a temporary file'}: {e.strerror}",
          "make room on the disk and run the same command again"))
    if not jax.distributed.is_initialized():
      raise
    if re.search("Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|coordination", str(e)):
      _fail(errors.LostProcess(
          "a computation that all processes share has failed: "
          + flag_errors.one_line(e)[:200],
          "if another process died, start all again"))
    traceback.print_exc()
    os._exit(1)


def _end_threads(code: Any) -> None:
  """Exits at once if threads go on that are none of ours.

  All is saved and closed by now, but Orbax's, of a save whose folder could not
  be made, would wait for ten minutes.
  """
  deadline = time.monotonic() + 5
  others = [thread for thread in threading.enumerate()
            if thread is not threading.main_thread() and not thread.daemon]
  for thread in others:
    # Orbax's own join raises an error.
    threading.Thread.join(thread, max(0, deadline - time.monotonic()))
  if any(thread.is_alive() for thread in others):
    if jax.distributed.is_initialized():
      jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def given_config(holder: flags.Flag | flags.FlagHolder) -> dict[str, Any]:
  """The config of a --config flag as plain values.

  Raises:
    ConfigError: the flag is missing, or the file can't be read.
  """
  value = holder.value
  if value is None:
    raise errors.ConfigError(
        "--config is missing", "--config=quickstart"
        + ", or the --workdir of a run to continue" * (
            holder.name == "config" and "allow_config_change" in flags.FLAGS))
  if not isinstance(value, ml_collections.ConfigDict):
    file = config_flags.get_config_filename(
        flags.FLAGS[holder.name]).partition(":")[0]
    try:
      getattr(value, "seed", None)   # A file that did not load raises why.
    except OSError as e:
      raise flag_errors.in_config(e) or errors.ConfigError(
          f"--config={file}: {flag_errors.one_line(flag_errors.innermost(e))}"
      ) from e
    raise errors.ConfigError(
        f"--config={file}: its get_config() gives {type(value).__name__}",
        "an ml_collections.ConfigDict, as mtvit.configs.common.config makes")
  return config_values.to_plain(value)


def run_flags(
    config: flags.Flag | flags.FlagHolder, workdir: str | None,
    prepare: Callable[[Any, epath.Path], Any] = lambda values, workdir: values
) -> Started:
  """What a run is started with.

  Args:
    config: the --config flag; its default is None.
    workdir: of the --workdir flag; None for runs/<config name>.
    prepare: completes the config of a run in a work directory.

  Raises:
    ConfigError: neither is given, or the config file can't be read.
  """
  if not config.value and workdir:
    return Started(None, paths.parse(workdir), tuple(_overrides))
  values = given_config(config)
  file = config_flags.get_config_filename(flags.FLAGS[config.name])
  place = paths.parse(
      workdir or f"runs/{pathlib.Path(file.partition(':')[0]).stem}")
  return Started(prepare(values, place), place)


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; what is wrong with them becomes a ConfigError."""
  # --help is for app.run; only it prints the module's own flags.
  words = argv[1:]
  command_line.import_plugins(words)
  if "config" in flags.FLAGS:        # Else nobody reads the overrides.
    words, _overrides[:] = command_line.in_order(words)
  # config_flags looks at sys.argv.
  sys.argv = argv = [argv[0], *words]
  with flag_errors.clear():
    return flags.FLAGS(argv)


def _unraisable(unraisable: Any) -> None:
  # TensorStore's threads tell a closed loop of each array of a failed save.
  if str(unraisable.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(unraisable)


def _fail(error: errors.UserError) -> None:
  if (flags.FLAGS["traceback"].value if flags.FLAGS.is_parsed()
      else "--traceback" in sys.argv):
    traceback.print_exception(error)
  if isinstance(error, errors.Preempted):
    text = f"stopped: {error}\n  to continue: {command()}"
  else:
    text = f"error: {error}"
  print(text, file=sys.stderr, flush=True)
  if error.alone and jax.distributed.is_initialized():
    os._exit(error.exit_code)        # Else it waits for the others to end.
  sys.exit(error.exit_code)


def command() -> str:
  """The command that started this program, for a shell."""
  words = list(sys.orig_argv)
  launcher = os.environ.get("MTVIT_LAUNCHER")
  if launcher and words[1:3] == ["-m", "mtvit"]:
    words = ["bash", launcher, *words[3:]]
  elif len(words) > 1 and pathlib.Path(words[1]).name == "mtvit":
    words = words[1:]                # The script that pip has made.
    words[0] = "mtvit"
  return shlex.join(words)

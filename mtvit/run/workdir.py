"""The folder of a run: one run at a time, and what it has compiled."""

import contextlib
import fcntl
import os
import re
import socket
from typing import IO, Callable, Iterator
import uuid
import zlib

from absl import logging
from etils import epath
import jax
from jax.experimental.compilation_cache import compilation_cache

from mtvit import errors
from mtvit.run import distributed
from mtvit.run import files
from mtvit.run import paths

# What compiles faster is not worth a file; seconds.
_MIN_COMPILE = 0.2
_MIN_COMPILE_NAME = "jax_persistent_cache_min_compile_time_secs"
# What JAX calls an entry of its cache, and what is in it: packed by zlib, which
# has a checksum, or by Zstandard; seconds, and then what was compiled.
_ENTRY = re.compile(r".+-[0-9a-f]{64}-cache")
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_TIME_BYTES = 4


@contextlib.contextmanager
def claimed(workdir: epath.Path) -> Iterator[Callable[[], None]]:
  """Makes `workdir` and holds it; yields what to call before a checkpoint.

  A folder has a lock, which a process that dies loses; a second run is refused.
  If the folder is taken away from a run, that ends: what it goes on to write
  would be lost. gs:// has no lock, and what a killed run left there looks like
  what a living one holds. So the run that started last has it, and an older one
  that still lives ends at its next checkpoint; until then both write.

  Raises:
    ConfigError: it can't be written to, or another run is in it; from the call,
      that another run has it now, or that it is gone.
  """
  with contextlib.ExitStack() as held:
    yield distributed.fail_together(lambda: _claim(workdir, held))


def _claim(
    workdir: epath.Path, held: contextlib.ExitStack
) -> Callable[[], None]:
  """Tries whether it can be written to; the first process takes it."""
  remote = paths.is_remote(workdir)
  with errors.unwritable(f"work directory {workdir}", "another --workdir" + (
      remote * ", or look at the bucket's name and your rights there")):
    files.try_writing(workdir)
    if not distributed.is_main():
      return lambda: None
    if remote:
      return _mark(workdir / "lock", held)
    return _hold(workdir, held)


def _hold(
    workdir: epath.Path, held: contextlib.ExitStack
) -> Callable[[], None]:
  """Locks a folder; returns what checks that it is still this one."""
  place = identity(os.stat(workdir))
  locks = [held.enter_context(_lock(workdir))]

  def check() -> None:
    try:
      there = identity(os.stat(workdir))
    except FileNotFoundError:
      there = None
    except OSError as e:             # As it may be for a moment.
      logging.warning("%s can't be looked at: %s", workdir, e.strerror)
      return
    if there != place:
      raise gone(workdir)
    try:
      same = identity(os.lstat(workdir / "lock")) == identity(
          os.fstat(locks[-1].fileno()))
    except FileNotFoundError:
      same = False
    if not same:                     # Somebody has removed it.
      locks.append(held.enter_context(_lock(workdir)))

  return check


def identity(status: os.stat_result) -> tuple[int, int]:
  """What a folder or file has in common with no other one."""
  return status.st_dev, status.st_ino


def gone(workdir: epath.Path) -> errors.ConfigError:
  """What to raise if a folder was taken away from its run."""
  error = errors.ConfigError(
      f"{workdir} was removed, renamed or replaced while a run was in it",
      "put it back, or take the --workdir where it is now, and run the same "
      "command again; it goes on from the last checkpoint")
  error.alone = True                 # Only this process knows.
  return error


def _lock(workdir: epath.Path) -> IO[str]:
  """`workdir`/lock, locked until it is closed; it says who has it."""
  with files.naming(workdir / "lock"):
    file = open(workdir / "lock", "a+", errors="replace",
                opener=files.without_links)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as e:
    with file:
      file.seek(0)
      raise errors.ConfigError(
          f"another run is using {workdir}: {file.read(200).strip()}",
          "another --workdir, or wait for it or stop it") from e
  except OSError as e:               # Some network file systems have no locks.
    logging.warning("%s can't be locked: %s", workdir, e.strerror)
  try:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
  except OSError as e:
    with contextlib.suppress(OSError):
      file.close()
    raise OSError(e.errno, e.strerror, file.name) from e
  return file


def _mark(file: epath.Path, held: contextlib.ExitStack) -> Callable[[], None]:
  """Writes an object that says who has it; returns what compares it."""
  mine = (f"process {os.getpid()} on {socket.gethostname()}, run "
          f"{uuid.uuid4().hex[:8]}\n")

  def found() -> str:
    with paths.os_errors(file):
      return file.read_text() if file.exists() else ""

  def check() -> None:
    try:
      who = found()
    except OSError as e:             # As it may be for a moment.
      logging.warning("%s can't be read: %s", file, e.strerror)
      return
    if who != mine:
      error = errors.ConfigError(
          f"another run has {file.parent} now: {who.strip() or 'it has ended'}",
          "one run at a time; nothing that this one saved is lost")
      error.alone = True             # Only this process knows.
      raise error

  def leave() -> None:
    with contextlib.suppress(OSError):
      if found() == mine:
        file.unlink(missing_ok=True)

  before = found()
  if before:
    logging.warning(
        "%s was not left in order by %s; if it still runs, it ends at its next "
        "checkpoint", file.parent, before.strip())
  with paths.os_errors(file):
    file.write_text(mine)
  held.callback(leave)
  return check


@contextlib.contextmanager
def compiled(workdir: epath.Path, own: bool) -> Iterator[None]:
  """Keeps what XLA compiles meanwhile in `workdir`/compiled, for a restart.

  What lies there is machine code, and who may write there could run any. So
  only a run that was started with its own config uses it: what reads a run, or
  goes on with one from its work directory alone, which may be a stranger's,
  compiles anew. JAX_COMPILATION_CACHE_DIR, if set, takes its place.

  JAX warns of what a kill or a full disk cut short, and never replaces it; so
  that is removed first.

  Args:
    workdir: of the run.
    own: whether its user gave the config.
  """
  if not own or jax.config.values["jax_compilation_cache_dir"]:
    yield
    return
  shortest = jax.config.values[_MIN_COMPILE_NAME]
  if _MIN_COMPILE_NAME.upper() not in os.environ:
    jax.config.update(_MIN_COMPILE_NAME, _MIN_COMPILE)
  folder = paths.absolute(workdir) / "compiled"
  if distributed.is_main() and not paths.is_remote(folder):
    remove_damaged(folder)
  jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
  compilation_cache.reset_cache()    # One that another run of this process had.
  try:
    yield
  finally:
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update(_MIN_COMPILE_NAME, shortest)
    compilation_cache.reset_cache()


def remove_damaged(folder: epath.Path) -> None:
  """Removes the entries of JAX's cache that can't be unpacked."""
  with contextlib.suppress(OSError), os.scandir(folder) as entries:
    for entry in entries:
      if _ENTRY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
        with contextlib.suppress(OSError):
          if _is_damaged(entry.path):
            os.unlink(entry.path)


def _is_damaged(file: str) -> bool:
  """Whether an entry is not what JAX wrote; of Zstandard only its beginning."""
  with open(file, "rb") as f:
    data = f.read()
  if data.startswith(_ZSTANDARD):
    return False
  try:
    return len(zlib.decompress(data)) <= _TIME_BYTES
  except zlib.error:
    return True

"""The folder of a run: one run at a time, and its files are whole."""

import contextlib
import fcntl
import os
import pathlib
import socket
import tempfile
from typing import IO, Any, Iterator

from absl import logging

from mtvit import distributed
from mtvit import errors


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
  """Makes `workdir` and holds its lock; a process that dies loses the lock.

  Raises:
    ConfigError: it can't be written to, or another run is in it.
  """
  with distributed.together(lambda: _claim(workdir)):
    yield


def _claim(workdir: pathlib.Path) -> contextlib.AbstractContextManager[Any]:
  """Tries whether it can be written to; the first process takes the lock."""
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    # A trial, since the access bits don't tell of a read-only file system.
    with tempfile.NamedTemporaryFile(dir=workdir, prefix=".trial"):
      pass
  except OSError as e:
    if e.errno in errors.DISK_FULL:
      raise
    raise errors.ConfigError(
        f"work directory {workdir} can't be written to: {e.strerror}",
        "another --workdir") from e
  return _lock(workdir) if distributed.is_main() else contextlib.nullcontext()


def _lock(workdir: pathlib.Path) -> IO[str]:
  """`workdir`/lock, locked until it is closed; it says who has it."""
  file = open(workdir / "lock", "a+")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as e:
    with file:
      file.seek(0)
      raise errors.ConfigError(
          f"another run is using {workdir}: {file.read().strip()}",
          "another --workdir, or wait for it or stop it") from e
  except OSError as e:               # Some network file systems have no locks.
    logging.warning("%s can't be locked: %s", workdir, e.strerror)
  file.truncate(0)
  file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
  file.flush()
  return file


def write_text(file: pathlib.Path, text: str) -> None:
  """Replaces a file by another, whole or not at all."""
  file.parent.mkdir(parents=True, exist_ok=True)
  partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
  partial.write_text(text)
  partial.replace(file)

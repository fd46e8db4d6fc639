"""The folder of a run: one run at a time, and it can be written to."""

import contextlib
import fcntl
import os
import pathlib
import socket
import tempfile
from typing import Iterator

from absl import logging

from mtvit import distributed
from mtvit import errors


@contextlib.contextmanager
def claimed(workdir: pathlib.Path) -> Iterator[None]:
  """Makes `workdir` and holds its lock; a process that dies loses the lock.

  Raises:
    ConfigError: it can't be written to, or another run is in it.
  """
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    # A trial, since the access bits don't tell of a read-only file system.
    with tempfile.NamedTemporaryFile(dir=workdir, prefix=".trial"):
      pass
  except OSError as e:
    raise errors.ConfigError(
        f"work directory {workdir} can't be written to: {e.strerror}",
        "another --workdir") from e
  with contextlib.ExitStack() as stack:
    if distributed.is_main():
      stack.enter_context(_locked(workdir))
    yield


@contextlib.contextmanager
def _locked(workdir: pathlib.Path) -> Iterator[None]:
  """Holds `workdir`/lock, which says who has it."""
  with open(workdir / "lock", "a+") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      file.seek(0)
      raise errors.ConfigError(
          f"another run is using {workdir}: {file.read().strip()}",
          "another --workdir, or wait for it or stop it") from e
    except OSError as e:             # Some network file systems have no locks.
      logging.warning("%s can't be locked: %s", workdir, e.strerror)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    yield

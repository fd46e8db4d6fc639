"""Logs of a study's runs: where a process begins, and why it has ended."""

import pathlib
import signal
from typing import BinaryIO

from mtvit import errors

_TAIL = 20_000              # Bytes of a log that are searched for a reason.
_BEGIN = "=== "             # A log has a line of it where a process begins.
# What faulthandler writes above the stacks of all threads.
_STUCK = "Timeout ("


def begin(log: BinaryIO, attempt: int) -> None:
  """Writes the line above what a process says."""
  log.write(f"{_BEGIN}attempt {attempt}\n".encode())
  log.flush()


def reason(log: pathlib.Path, code: int) -> str:
  """Why a process ended, by its log: its error, or what it said last."""
  how = (f"exit code {code}" if code >= 0
         else f"killed by {signal.Signals(-code).name}")
  with open(log, "rb") as f:
    f.seek(max(0, log.stat().st_size - _TAIL))
    lines = [x.strip() for x in f.read().decode(errors="replace").splitlines()
             if x.strip()]
  begins = [i for i, x in enumerate(lines) if x.startswith(_BEGIN)]
  lines = lines[begins[-1] + 1:] if begins else lines
  told = next((x for x in reversed(lines) if x.startswith(("error: ", _STUCK))),
              lines[-1] if lines else "it said nothing")
  if told.startswith(_STUCK):
    limit = told.removeprefix(_STUCK).rstrip(")!")
    told = f"no step in {limit}, the watchdog's limit"
  elif code < 0:
    return how
  return errors.printable(f"{how}: {told.removeprefix('error: ')}")

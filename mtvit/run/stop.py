"""Stopping in time: signals become a flag that all processes agree on.

Only this module handles them: SIGTERM and Ctrl-C; SIGUSR1, SIGUSR2 and SIGXCPU,
which batch systems send before they end a job; and SIGHUP, when the terminal is
closed. A thread receives them, so they are noticed while the main thread
compiles too, and a second Ctrl-C ends the process at once, whatever it is
doing. The same object holds the watchdog: a process that is stuck dumps the
stacks of its threads and exits.
"""

import faulthandler
import os
import signal
import sys
import threading
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np

from mtvit import errors

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1,
           signal.SIGUSR2, signal.SIGXCPU)


class Stop:
  """Turns the first of `SIGNALS` into a flag.

  Every loop that can run long polls it: `poll` where all processes do, and
  `check` where each is on its own, before training.

  Attributes:
    name: of the signal that all processes agree on, or "".
  """

  def __init__(self, mesh: jax.sharding.Mesh, watchdog_seconds: int = 0):
    """Binds what does not change.

    Args:
      mesh: of the run.
      watchdog_seconds: without a poll for so long, the process dumps the
        stacks of its threads to stderr and exits with 1; 0 for never.
    """
    self.name = ""
    self._sharding = NamedSharding(mesh, P(mesh.axis_names))
    self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, P()))
    self._watchdog_seconds = watchdog_seconds
    self._received = ""          # By this process.
    self._agreed = None          # The flags of all processes, on its way.

  def __enter__(self) -> "Stop":
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    # Elsewhere, as in some notebooks, Python does not let us handle signals.
    self._owner = threading.current_thread() is threading.main_thread()
    if self._owner:
      self._before = {s: signal.signal(s, self._handle) for s in SIGNALS
                      if not _is_refused(s)}
      self._fd_before = signal.set_wakeup_fd(
          self._write, warn_on_full_buffer=False)
    threading.Thread(target=self._listen, daemon=True).start()
    self._beat()
    return self

  def __exit__(self, *unused: Any) -> None:
    faulthandler.cancel_dump_traceback_later()
    if self._owner:
      signal.set_wakeup_fd(self._fd_before)
      for number, handler in self._before.items():
        signal.signal(number, handler)
    os.close(self._write)        # Ends the thread.

  def __bool__(self) -> bool:
    """Whether all processes agreed to stop, at the last poll."""
    return bool(self.name)

  def poll(self) -> bool:
    """Whether to stop now; the same on every process.

    All processes call it equally often and in the same order. With several of
    them it answers with the flags of the poll before, so that the devices
    never wait for the host.
    """
    self._beat()
    if jax.process_count() == 1:
      self.name = self.name or self._received
      return bool(self)
    if self._agreed is not None and not self.name:
      number = int(self._agreed)
      self.name = signal.Signals(number).name if number else ""
    number = int(signal.Signals[self._received]) if self._received else 0
    self._agreed = self._largest(jax.make_array_from_process_local_data(
        self._sharding, np.full(jax.local_device_count(), number, np.int32)))
    return bool(self)

  def check(self) -> None:
    """Raises Preempted if a signal came, in work that each process does alone.

    With several processes they will agree on it at the first `poll`.
    """
    self._beat()
    if self._received and jax.process_count() == 1:
      raise errors.Preempted(
          f"{self._received}: before the first step; nothing is lost")

  def _beat(self) -> None:
    if self._watchdog_seconds:
      faulthandler.dump_traceback_later(
          self._watchdog_seconds, exit=True, file=sys.__stderr__ or 2)

  def _listen(self) -> None:
    """The thread: one byte for each signal, whatever the main thread does."""
    while byte := os.read(self._read, 1):
      self._note(byte[0])
    os.close(self._read)

  def _handle(self, number: int, unused_frame: Any) -> None:
    # An event loop in a library may have taken the descriptor.
    if signal.set_wakeup_fd(
        self._write, warn_on_full_buffer=False) != self._write:
      self._note(number)

  def _note(self, number: int) -> None:
    if number not in SIGNALS:
      return
    if self._received and number == signal.SIGINT:
      print("stopped at once: Ctrl-C", file=sys.stderr, flush=True)
      os._exit(130)
    if not self._received:
      self._received = signal.Signals(number).name
      print(f"{self._received}: will save and stop; Ctrl-C to stop at "
            "once", file=sys.stderr, flush=True)


def _is_refused(number: int) -> bool:
  """Whether who started the process does not want it to hear of a signal.

  nohup ignores SIGHUP. A shell without job control lets what runs behind "&"
  ignore Ctrl-C, which would leave `kill -INT` without effect.
  """
  return number not in (signal.SIGTERM, signal.SIGINT) and (
      signal.getsignal(number) == signal.SIG_IGN)

"""Signals become a flag, and go back to who had them."""

import os
import signal
import threading
import time

import jax
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.run import stop as stop_lib
from mtvit.training import sharding


@pytest.fixture
def mesh():
  return sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))


def send(number, stop=None):
  """Sends this process a signal, which a thread of `stop` is to note."""
  os.kill(os.getpid(), number)
  if stop is None:
    time.sleep(0.1)
    return
  deadline = time.monotonic() + 30
  while not stop._received and time.monotonic() < deadline:
    time.sleep(0.001)


def finish_printing():
  """Waits for the threads that note signals; an ended `Stop` ends its own."""
  for thread in threading.enumerate():
    if "_listen" in thread.name:
      thread.join(30)


@pytest.mark.parametrize("number", stop_lib.SIGNALS)
def test_a_signal_becomes_a_flag(number, mesh, capfd):
  outside = signal.getsignal(number)
  signal.signal(number, signal.SIG_DFL)     # nohup may have ignored it.
  before = [signal.getsignal(n) for n in stop_lib.SIGNALS]
  with stop_lib.Stop(mesh) as stop:
    assert not stop.poll() and not stop
    stop.check()
    send(number, stop)
    assert not stop, "the flag must not change between polls"
    assert stop.poll() and stop and stop.name == number.name
    with pytest.raises(errors.Preempted, match=f"{number.name}: before the"):
      stop.check()
  assert [signal.getsignal(n) for n in stop_lib.SIGNALS] == before
  signal.signal(number, outside)
  assert signal.set_wakeup_fd(-1) == -1
  finish_printing()
  assert f"{number.name}: will save and stop" in capfd.readouterr().err


def test_a_library_that_takes_the_descriptor_loses_no_signal(mesh):
  with stop_lib.Stop(mesh) as stop:
    signal.set_wakeup_fd(-1)
    send(signal.SIGTERM, stop)
    assert stop.poll() and stop.name == "SIGTERM"


def test_other_signals_are_not_ours(mesh):
  before = signal.signal(signal.SIGALRM, lambda *_: None)
  with stop_lib.Stop(mesh) as stop:
    send(signal.SIGALRM)
    assert not stop.poll()
  signal.signal(signal.SIGALRM, before)


def test_what_nohup_ignores_stays_ignored(mesh):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  with stop_lib.Stop(mesh) as stop:
    send(signal.SIGHUP)
    assert not stop.poll()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    send(signal.SIGUSR1, stop)
    assert stop.poll() and stop.name == "SIGUSR1"
  assert signal.signal(signal.SIGHUP, before) == signal.SIG_IGN


def test_outside_the_main_thread_signals_are_left_alone(mesh):
  before = signal.getsignal(signal.SIGTERM)
  seen = []

  def work():
    with stop_lib.Stop(mesh) as stop:
      seen.append((stop.poll(), signal.getsignal(signal.SIGTERM)))

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [(False, before)] and jax.process_count() == 1

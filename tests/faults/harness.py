"""Runs of the real program in processes of their own, to be harmed."""

import json
import os
import pathlib
import re
import signal
import socket
import threading
import time

from mtvit.configs import quickstart
from mtvit.run import config_values
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "configs/quickstart.py:strategy=report"
LIMIT = 240          # Seconds after which a process has hung.


def overrides(config):
  """The flags that make CONFIG this config."""
  base = config_values.flatten(config_values.to_plain(
      quickstart.get_config("strategy=report")))
  mine = config_values.flatten(config_values.to_plain(config))
  as_flag = lambda x: tuple(x) if isinstance(x, list) else x
  return [f"--config.{key}={as_flag(value)}" for key, value in mine.items()
          if value != base[key]]


class Run:
  """One process of the program."""

  def __init__(
      self, config, workdir, *flags, devices=1, module="tests.faults.worker",
      arguments=None, **environment):
    # The program gives simulated devices their threads itself.
    environment = {
        "PYTHONUNBUFFERED": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} "
                     f"{commands.QUICK}",
        "FAULTS_PICTURES": "0", **environment}
    if arguments is None:
      arguments = [f"--workdir={workdir}"]
      if config is not None:
        arguments += [f"--config={CONFIG}", *overrides(config)]
    self.workdir = pathlib.Path(workdir)
    self.began = time.monotonic()
    self.lines, self._changed = [], threading.Condition()
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
      self.process = commands.start(
          module, *arguments, *flags, out=file, err=file, **environment)
    self._reader = threading.Thread(
        target=self._read, args=(reader,), daemon=True)
    self._reader.start()

  def _read(self, number):
    with os.fdopen(number, errors="replace") as file:
      for line in file:
        with self._changed:
          self.lines.append(line.rstrip("\n"))
          self._changed.notify_all()
    with self._changed:
      self._changed.notify_all()

  @property
  def output(self):
    """What it printed; of the progress lines only the last few."""
    old = [x for x in self.lines[:-5] if not x.startswith("step ")]
    return "\n".join(old[-60:] + self.lines[-5:])

  def wait_for(self, pattern, limit=LIMIT):
    """Until a line matches; returns it."""
    deadline = time.monotonic() + limit
    found = lambda: next(
        (x for x in list(self.lines) if re.search(pattern, x)), None)
    with self._changed:
      while not found():
        left = deadline - time.monotonic()
        assert left > 0, f"no {pattern!r} in:\n{self.output}"
        assert self._reader.is_alive() or found(), (
            f"ended without {pattern!r}:\n{self.output}")
        self._changed.wait(min(left, 1))
    return found()

  def wait_until(self, condition, limit=LIMIT):
    """Until something is true of the files, looked at every millisecond."""
    deadline = time.monotonic() + limit
    while not condition():
      assert time.monotonic() < deadline and self.process.is_alive(), (
          self.output)
      time.sleep(0.001)

  def is_saving(self):
    """Whether Orbax has an unfinished checkpoint on the disk."""
    return any((self.workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))

  def send(self, number):
    os.kill(self.process.pid, number)

  def kill(self):
    self.send(signal.SIGKILL)
    return self.finish()

  def finish(self, limit=LIMIT):
    """Waits for the end; returns the exit code."""
    self.process.join(limit)
    if self.process.is_alive():
      self.process.kill()
      raise AssertionError(f"hangs after {limit} s:\n{self.output}")
    self._reader.join(10)
    return self.process.exitcode

  def expect(self, code, limit=LIMIT):
    """Waits for the end with this exit code; returns the seconds it ran."""
    got = self.finish(limit)
    assert got == code, f"exit {got}, not {code}:\n{self.output}"
    return time.monotonic() - self.began


def several(config, workdir, *flags, count=2, devices=1, **environment):
  """The processes of one run; each has `devices` devices."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  each = lambda i: {
      key: value[i] if isinstance(value, (list, tuple)) else value
      for key, value in environment.items()}
  configs = config if isinstance(config, list) else [config] * count
  return [
      Run(configs[i], workdir, *flags, f"--coordinator=localhost:{port}",
          f"--num_processes={count}", f"--process_id={i}", devices=devices,
          **each(i))
      for i in range(count)]


def ids(file):
  """Step -> example ids of its batch; a step made twice had the same."""
  steps = {}
  for line in pathlib.Path(file).read_text().splitlines():
    line = json.loads(line)
    assert steps.setdefault(line["step"], line["ids"]) == line["ids"], line
  return steps

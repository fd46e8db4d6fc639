"""Contestants: processes that take turns, so that only one works at a time."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from mtvit import errors
from mtvit.run import paths

_ROOT = pathlib.Path(__file__).parents[2]
_PEERS = _ROOT / "mtvit" / "benchmarks" / "peers"
PEER_PYTHON = _ROOT / ".venv-peers" / "bin" / "python"
_SHOWN = 4        # Last lines of what a contestant that failed has said.


class Spec(NamedTuple):
  """How a contestant is started.

  Attributes:
    name: for people.
    command: arguments of a process that speaks `benchmarks.peers.protocol`.
    settings: JSON, its first line.
    environment: of the process.
    does: names of what it repeats.
  """
  name: str
  command: Sequence[str]
  settings: Mapping[str, Any]
  environment: Mapping[str, str]
  does: Sequence[str]


def ours(
    name: str, module: str, settings: Mapping[str, Any], does: Sequence[str],
    *, platforms: str | None = "cpu"
) -> Spec:
  """A contestant that is a module of `mtvit.benchmarks`.

  `platforms` is JAX_PLATFORMS; None leaves it as it is.
  """
  # Compiling is one of the things that are timed.
  environment = paths.child_environment() | {
      "JAX_ENABLE_COMPILATION_CACHE": "false"}
  if platforms is not None:
    environment["JAX_PLATFORMS"] = platforms
  # JAX takes three quarters of a GPU otherwise; nothing else runs there.
  environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
  command = [sys.executable, "-m", f"mtvit.benchmarks.{module}"]
  return Spec(name, command, settings, environment, does)


def peer(
    name: str, script: str, python: pathlib.Path, settings: Mapping[str, Any],
    does: Sequence[str]
) -> Spec:
  """A contestant that is a script of `mtvit.benchmarks.peers`.

  Raises:
    ConfigError: there is no such Python.
  """
  if not python.is_file():
    raise errors.ConfigError(
        f"{python}, the Python of the other libraries, does not exist",
        "bash launch/local.sh --with_peers bench ... makes it")
  command = [str(python), str(_PEERS / script)]
  return Spec(name, command, settings, _peer_environment(), does)


def has_package(python: pathlib.Path, name: str) -> bool:
  """Whether the Python of other libraries has this one, which isn't loaded.

  Raises:
    UserError: the Python can't be started.
  """
  code = ("import importlib.util, sys; "
          "sys.exit(importlib.util.find_spec(sys.argv[1]) is None)")
  try:
    # Without the package around it there is a traceback.
    done = subprocess.run([str(python), "-c", code, name],
                          capture_output=True, env=_peer_environment())
  except OSError as e:
    raise errors.UserError(f"{python} can't be started: {e.strerror}") from e
  return done.returncode == 0


def _peer_environment() -> dict[str, str]:
  environment = os.environ | {"HF_HUB_OFFLINE": "1"}
  environment.pop("PYTHONPATH", None)
  return environment


class Contestant:
  """A running process that is idle until it is asked to do something.

  Attributes:
    spec: how it was started.
    ready: what it told when it was warm.
  """

  def __init__(self, spec: Spec):
    """Starts it and waits until it is warm; raises UserError if it fails."""
    self.spec = spec
    self._said = tempfile.TemporaryFile("w+", errors="replace")
    try:
      self._process = subprocess.Popen(
          spec.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
          stderr=self._said, text=True, env=dict(spec.environment))
    except OSError as e:
      raise errors.UserError(
          f"{spec.name}: {spec.command[0]} can't be started: {e.strerror}"
      ) from e
    self.ready = self._ask(json.dumps(spec.settings))["ready"]

  def repeat(self, what: str) -> dict[str, float]:
    """One repetition; raises UserError if the process fails."""
    return self._ask(what)

  def close(self) -> None:
    """Ends the process."""
    with contextlib.suppress(OSError):
      self._process.stdin.close()
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()
    self._said.close()

  def _ask(self, line: str) -> dict[str, Any]:
    try:
      self._process.stdin.write(line + "\n")
      self._process.stdin.flush()
      answer = self._process.stdout.readline()
    except BrokenPipeError:
      answer = ""
    if not answer:
      raise self._failure()
    return json.loads(answer)

  def _failure(self) -> errors.UserError:
    code = self._process.wait()
    self._said.seek(0)
    lines = [x.rstrip() for x in self._said if x.strip()][-_SHOWN:]
    error = errors.UserError("\n".join([
        f"{self.spec.name} ended with exit code {code}; it said last:",
        *(f"  {line}" for line in lines or ["nothing"])]))
    self.close()
    # What it found wrong is what is wrong here.
    error.exit_code = code if code in (2, 4) else 1
    return error


@contextlib.contextmanager
def started(specs: Sequence[Spec]) -> Iterator[list[Contestant]]:
  """All of them, started and warmed up one after the other."""
  with contextlib.ExitStack() as stack:
    running = []
    for spec in specs:
      began = time.monotonic()
      running.append(Contestant(spec))
      stack.callback(running[-1].close)
      _say(f"{spec.name}: ready after {time.monotonic() - began:.0f} s")
    yield running


# Contestant -> what it does -> its repetitions, in order.
Measured = dict[str, dict[str, list[dict[str, float]]]]


def interleaved(running: Sequence[Contestant], repeats: int) -> Measured:
  """Repetitions in rounds, each contestant once; every other round backwards.

  So the machine's moods hit all alike, and the repetitions of a round can be
  compared as pairs.
  """
  found: Measured = {x.spec.name: {} for x in running}
  for i in range(repeats):
    _say(f"round {i + 1} of {repeats}")
    for one in running[::1 if i % 2 == 0 else -1]:
      for what in one.spec.does:
        found[one.spec.name].setdefault(what, []).append(one.repeat(what))
  return found


class Found(NamedTuple):
  """What a benchmark has measured.

  Attributes:
    measured: of all contestants.
    ready: contestant -> what it told when it was warm.
    last: what the first did at the end.
  """
  measured: Measured
  ready: dict[str, dict[str, Any]]
  last: dict[str, Any]


def measure(
    specs: Sequence[Spec], repeats: int, last: Sequence[str] = ()
) -> Found:
  """Runs the contestants in rounds, and lets the first do `last` at the end.

  On an accelerator they run one after the other instead, since each may need
  all of its memory.
  """
  with contextlib.ExitStack() as stack:
    first, = stack.enter_context(started(specs[:1]))
    alone = on_accelerator(first.ready)
    running = [first]
    if not alone:
      running += stack.enter_context(started(specs[1:]))
    found = Found(
        interleaved(running, repeats), {x.spec.name: x.ready for x in running},
        {what: first.repeat(what) for what in last})
  for spec in specs[1:] if alone else ():
    other = measure([spec], repeats)
    found.measured.update(other.measured)
    found.ready.update(other.ready)
  return found


def on_accelerator(ready: Mapping[str, Any]) -> bool:
  """Whether a contestant has told that it computes on one."""
  return ready.get("device", {}).get("platform", "cpu") != "cpu"


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)

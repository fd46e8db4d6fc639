"""Makes the runs of a study that have no row yet, some at a time.

Each is a process of its own, which writes its row when it ends. What fails
becomes a row with its reason, and is tried once more. Whoever starts the same
command again goes on where this stopped, in the middle of a run too.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Callable, Iterator, Sequence

from mtvit import errors
from mtvit.run import console
from mtvit.run import paths
from mtvit.study import arms
from mtvit.study import logs
from mtvit.study import provenance
from mtvit.study import rows

ATTEMPTS = 2
_POLL = 0.2                 # seconds
# Exit codes of what is not the arm's fault: configuration and data.
_ENDS = (errors.ConfigError.exit_code, errors.DataError.exit_code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How a study is run.

  Attributes:
    workdir: the runs are in ARM/SEED below it.
    workers: runs at a time.
    arms: names of those to run; empty for all.
    seeds: to run; empty for all.
    data: takes the place of the config's data.name; "" for none.
  """
  workdir: pathlib.Path
  workers: int = 1
  arms: tuple[str, ...] = ()
  seeds: tuple[int, ...] = ()
  data: str = ""


def chosen(study: arms.Study, options: Options) -> list[arms.Run]:
  """The runs that the options choose, in order.

  Raises:
    ConfigError: an arm is unknown, or nothing is left.
  """
  for name in options.arms:
    study.arm(name)
  found = [run for run in study.runs()
           if (not options.arms or run.arm.name in options.arms)
           and (not options.seeds or run.seed in options.seeds)]
  if not found:
    raise errors.ConfigError("no run has these arms and seeds")
  return found


def check_rows(named: arms.Named, table: rows.Table) -> None:
  """Refuses to add to rows that can't be compared with what would be added.

  Raises:
    ConfigError: they are of other settings or of other code.
  """
  digests = {arm.name: named.study.digest(arm) for arm in named.study.arms}
  code = provenance.code_digest()
  for row in table.done().values():
    if digests.get(row.arm, row.config_digest) != row.config_digest:
      raise errors.ConfigError(
          f"{named.rows}: {row.arm}, seed {row.seed}, was run with other "
          "settings than the study has now",
          "restore the study, or move the file of rows away")
    if row.code_digest != code:
      raise errors.ConfigError(
          f"{named.rows}: {row.arm}, seed {row.seed}, was run with another "
          f"version of the code, commit {row.commit or 'unknown'}",
          "that version, or move the file of rows away")


def run(named: arms.Named, options: Options) -> None:
  """Makes the chosen runs that have no row.

  Raises:
    ConfigError: the study, or the rows that are there, are wrong.
    Preempted: a signal came; what was under way has saved.
    UserError: of a run whose config or data are wrong.
  """
  wanted = chosen(named.study, options)
  table = rows.read(named.rows)
  for note in table.notes:
    console.note(f"note: {note}")
  check_rows(named, table)
  options.workdir.mkdir(parents=True, exist_ok=True)
  with _alone(options.workdir), _signals() as stopped:
    _Scheduler(named, options, wanted, stopped).work()
  done = rows.read(named.rows).done()
  failed = [str(x) for x in wanted if (x.arm.name, x.seed) not in done]
  if failed:
    raise errors.UserError(
        f"{len(failed)} of {len(wanted)} runs failed: {'; '.join(failed[:3])}",
        f"their rows in {named.rows} say why; who removes them has the same "
        "command try again")


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
  """Refuses a folder in which another study runs."""
  with open(folder / "study.lock", "w") as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise errors.ConfigError(
          f"another `mtvit study run` is at work in {folder}",
          "let it end, or another --workdir") from e
    yield


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], str]]:
  """What tells the name of the first signal to stop, or ""."""
  received: list[int] = []

  def handle(number, unused_frame):
    received.append(number)
    if received.count(signal.SIGINT) > 1:
      raise KeyboardInterrupt
    console.note(f"{signal.Signals(number).name}: the runs will save and stop")
  numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
  before = {x: signal.signal(x, handle) for x in numbers
            if signal.getsignal(x) != signal.SIG_IGN}
  try:
    yield lambda: signal.Signals(received[0]).name if received else ""
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


class _Scheduler:
  """Keeps its slots busy until every run has a row."""

  def __init__(
      self, named: arms.Named, options: Options, wanted: Sequence[arms.Run],
      stopped: Callable[[], str]
  ):
    self._named, self._options, self._wanted = named, options, wanted
    self._stopped = stopped
    self._slots: dict[int, tuple[arms.Run, subprocess.Popen[bytes]]] = {}
    self._began = time.monotonic()
    self._ended = 0
    self._cores = sorted(os.sched_getaffinity(0)) if hasattr(
        os, "sched_getaffinity") else []

  def work(self) -> None:
    """Starts, waits, and tells how far it is."""
    self._tell("")
    try:
      while True:
        if self._stopped():
          self._stop()
        if not self._fill() and not self._slots:
          return
        time.sleep(_POLL)
        self._collect()
    finally:
      for _, process in self._slots.values():
        process.kill()
        process.wait()

  def _open(self) -> list[arms.Run]:
    """What is neither done, nor given up, nor under way."""
    table = rows.read(self._named.rows)
    busy = [run for run, _ in self._slots.values()]
    return [run for run in self._wanted if run not in busy
            and (run.arm.name, run.seed) not in table.done()
            and len(table.failures(run.arm.name, run.seed)) < ATTEMPTS]

  def _fill(self) -> bool:
    """Starts runs in the slots that are free; whether any was started."""
    free = [x for x in range(self._options.workers) if x not in self._slots]
    if not free:
      return False
    starting = list(zip(free, self._open()))
    for slot, one in starting:
      self._slots[slot] = one, self._start(slot, one)
    return bool(starting)

  def _start(self, slot: int, one: arms.Run) -> "subprocess.Popen[bytes]":
    """A process that makes one run, with its share of cores and GPU."""
    options, workers = self._options, self._options.workers
    failed = rows.read(self._named.rows).failures(one.arm.name, one.seed)
    log = self._log(one)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = paths.child_environment() | {
        "MTVIT_STUDY_PARENT": str(os.getpid())}
    # The seeds of an arm compile the same, and so does its second attempt.
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(
        (options.workdir / "compiled").absolute()))
    # Large arrays in huge pages, as launch/common.sh has it.
    environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    if workers > 1:
      environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / workers:.3f}"
    with open(log, "ab") as out:
      logs.begin(out, len(failed) + 1)
      process = subprocess.Popen(
          [sys.executable, "-m", "mtvit", "study", "one", self._named.name,
           f"--arms={one.arm.name}", f"--seeds={one.seed}",
           f"--workdir={options.workdir}", f"--data={options.data}",
           f"--attempt={len(failed) + 1}"],
          stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
          start_new_session=True)     # Ctrl-C is passed on as SIGTERM.
    mine = self._cores[slot::workers]
    if mine and workers > 1:
      # The libraries make as many threads as they have cores.
      with contextlib.suppress(OSError):
        os.sched_setaffinity(process.pid, mine)
    return process

  def _log(self, one: arms.Run) -> pathlib.Path:
    return folder(self._options.workdir, one).with_suffix(".log")

  def _collect(self) -> None:
    """Looks which processes have ended, and how."""
    for slot, (one, process) in list(self._slots.items()):
      code = process.poll()
      if code is None:
        continue
      del self._slots[slot]
      if code == errors.Preempted.exit_code or self._stopped():
        continue
      self._ended += 1
      done = (one.arm.name, one.seed) in rows.read(self._named.rows).done()
      if code in _ENDS:
        error = errors.UserError(f"{one}: {logs.reason(self._log(one), code)}")
        error.exit_code = code
        raise error
      if not done:
        self._failed(one, code)
      self._tell(f"{one}: {'done' if done else 'failed'}; ")

  def _failed(self, one: arms.Run, code: int) -> None:
    named = self._named
    failed = rows.read(named.rows).failures(one.arm.name, one.seed)
    rows.append(named.rows, rows.Row(
        arm=one.arm.name, seed=one.seed, status=rows.FAILED,
        attempt=len(failed) + 1, reason=logs.reason(self._log(one), code),
        config_digest=named.study.digest(one.arm),
        code_digest=provenance.code_digest(), commit=provenance.commit()))

  def _tell(self, what: str) -> None:
    """One line: what has ended, how many are left, and how long they take."""
    left = len(self._open()) + len(self._slots)
    text = f"{what}{len(self._wanted) - left} of {len(self._wanted)} runs"
    if self._ended and left:
      seconds = (time.monotonic() - self._began) / self._ended * left
      text += f"; about {seconds / 3600:.1f} h left"
    console.note(text)

  def _stop(self) -> None:
    """Has the processes save and stop."""
    for _, process in self._slots.values():
      process.terminate()
    for _, process in self._slots.values():
      process.wait()
    self._slots.clear()
    raise errors.Preempted(f"{self._stopped()}: rows are in {self._named.rows}")


def folder(workdir: pathlib.Path, one: arms.Run) -> pathlib.Path:
  """The work directory of a run."""
  return workdir / one.arm.name / str(one.seed)

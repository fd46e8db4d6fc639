"""The rows of a study: a line of JSON for each run that has ended.

They stand beside the study's file, are only ever added to, and are all that
tables and verdicts are made from.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import pathlib
from typing import IO, Any, Iterator, Mapping, NamedTuple

from mtvit import errors

DONE, FAILED = "done", "failed"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A run that has ended.

  Attributes:
    arm: its name.
    seed: of the run.
    status: "done" or "failed".
    attempt: 1, or 2 if the first one failed.
    reason: why it failed.
    config_digest: `Study.digest` of the arm.
    code_digest: SHA-256 of the code that trains and measures.
    commit: of the checkout; "" if it is none, "+" behind it if its code is
      changed.
    data: SHA-256 of the names of all images.
    versions: package -> version.
    machine: what it ran on.
    threads: cores that it had.
    seconds: of the run, part -> seconds.
    measures: see `study.measuring`.
  """
  arm: str
  seed: int
  status: str
  attempt: int = 1
  reason: str = ""
  config_digest: str = ""
  code_digest: str = ""
  commit: str = ""
  data: str = ""
  versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
  machine: str = ""
  threads: int = 0
  seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
  measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Table(NamedTuple):
  """What a file of rows holds.

  Attributes:
    rows: of runs, in order.
    costs: of the steps' cost, apart from the runs.
    notes: what was odd, for people.
  """
  rows: tuple[Row, ...] = ()
  costs: tuple[dict[str, Any], ...] = ()
  notes: tuple[str, ...] = ()

  def done(self) -> dict[tuple[str, int], Row]:
    """Arm and seed -> the row of the run."""
    return {(x.arm, x.seed): x for x in self.rows if x.status == DONE}

  def failures(self, arm: str, seed: int) -> list[Row]:
    """The rows of the attempts that failed."""
    return [x for x in self.rows
            if (x.arm, x.seed, x.status) == (arm, seed, FAILED)]


def read(file: pathlib.Path) -> Table:
  """The rows of a file; none if there is no file.

  A last line that was cut short, as by a power cut, is left out and noted.

  Raises:
    ConfigError: another line is no row, or a run has two.
  """
  try:
    data = file.read_bytes()
  except FileNotFoundError:
    return Table()
  whole, _, torn = data.rpartition(b"\n")
  found: list[Row] = []
  costs, notes = [], []
  if torn:
    notes.append(f"{file}: the last line was cut short; its run is missing")
  for number, line in enumerate(whole.split(b"\n") if whole else [], 1):
    try:
      value = json.loads(line)
      if value.pop("kind") == "cost":
        costs.append(value)
        continue
      row = Row(**value)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
      raise errors.ConfigError(
          f"{file}, line {number}, is no row: {e}",
          "restore the file, or remove the line") from e
    if row.status == DONE and any(
        (x.arm, x.seed, x.status) == (row.arm, row.seed, DONE)
        for x in found):
      raise errors.ConfigError(
          f"{file}, line {number}: a second row of {row.arm}, seed {row.seed}",
          "remove one of the two")
    found.append(row)
  return Table(tuple(found), tuple(costs), tuple(notes))


def append(file: pathlib.Path, row: Row) -> None:
  """Adds a row, on the disk when this returns.

  Raises:
    ConfigError: the run has a row already.
  """
  with _alone(file) as f:
    if row.status == DONE and (row.arm, row.seed) in read(file).done():
      raise errors.ConfigError(
          f"{file} has a row of {row.arm}, seed {row.seed}")
    _add(f, {"kind": "run", **dataclasses.asdict(row)})


def append_cost(file: pathlib.Path, cost: Mapping[str, Any]) -> None:
  """Adds what `study.cost` has measured, on the disk when this returns."""
  with _alone(file) as f:
    _add(f, {"kind": "cost", **cost})


@contextlib.contextmanager
def _alone(file: pathlib.Path) -> Iterator[IO[bytes]]:
  """The file, open for this process alone, without a torn last line."""
  with open(file, "a+b") as f:
    fcntl.flock(f, fcntl.LOCK_EX)
    f.seek(0)
    f.truncate(f.read().rfind(b"\n") + 1)
    yield f


def _add(f: IO[bytes], value: Mapping[str, Any]) -> None:
  f.write((json.dumps(_finite(value), allow_nan=False) + "\n").encode())
  f.flush()
  os.fsync(f.fileno())


def _finite(value: Any) -> Any:
  """With null for what JSON has no number for."""
  if isinstance(value, float) and not math.isfinite(value):
    return None
  if isinstance(value, Mapping):
    return {key: _finite(x) for key, x in value.items()}
  return [_finite(x) for x in value] if isinstance(
      value, (list, tuple)) else value

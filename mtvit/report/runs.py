"""What is on disk of a run, read without TensorFlow and without the model."""

import dataclasses
import math
import os
import pathlib
import shlex
from typing import Any, Mapping, Sequence

from etils import epath

from mtvit import errors
from mtvit.report import schema
from mtvit.run import metrics as metrics_lib
from mtvit.run import paths
from mtvit.run import reading


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
  """One of a run's evaluations, on one data set.

  Attributes:
    folder: RUN/evaluation/TARGET.
    values: of evaluation.json.
    random_init: the same of random init, or None.
  """
  folder: epath.Path
  values: Mapping[str, Any]
  random_init: Mapping[str, Any] | None

  @property
  def data(self) -> str:
    """What was classified, and from how many images."""
    data = self.values["data"]
    return (f"{data['name']}, {data['test_split']} ({data['num_test']} images, "
            f"{data['num_train'] + data['num_val']} for training)")

  @property
  def options(self) -> str:
    """The flags of `mtvit evaluate` that say on which data."""
    data = self.values["data"]
    given = {"data": data["name"], "train_split": data["train_split"],
             "test_split": data["test_split"]}
    return " ".join(
        f"--{key}={shlex.quote(value)}" for key, value in given.items())

  @property
  def probes(self) -> Mapping[str, Any]:
    """What the probes found; without labels nothing."""
    return self.values.get("probes") or {"chosen": {}, "test": []}

  @property
  def random_diagnostics(self) -> Mapping[str, Any]:
    """Of random init."""
    return (self.random_init or {}).get("diagnostics") or {}

  @property
  def compared(self) -> Mapping[str, Any]:
    """The values, with random init among them wherever it was found."""
    return {**self.values, "random_init": self.random_init}

  @property
  def diagnostics(self) -> Mapping[str, Any]:
    return self.values.get("diagnostics") or {}

  @property
  def classified(self) -> bool:
    """Whether there was something to classify."""
    return len(self.values["data"]["classes"]) > 1

  @property
  def chance(self) -> float:
    """Accuracy of guessing among the classes."""
    return 1 / max(1, len(self.values["data"]["classes"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What a run left.

  Attributes:
    name: unlike that of the other runs of the report.
    folder: its work directory.
    config: plain values, or {}.
    result: of result.json, or {}.
    lines: of metrics.jsonl.
    cheat: rows of report/cheat_index.json.
    evaluations: by folder name.
    left_out: what can't be used, a sentence each.
  """
  name: str
  folder: epath.Path
  config: Mapping[str, Any]
  result: Mapping[str, Any]
  lines: Sequence[Mapping[str, float]]
  cheat: Sequence[Mapping[str, Any]]
  evaluations: Sequence[Evaluation]
  left_out: Sequence[str] = ()

  def command(self, name: str) -> str:
    """The shell command that makes a missing part."""
    folder = shlex.quote(os.fspath(self.folder))
    return f"mtvit {name} --workdir={folder}"

  def score(self, key: str) -> float | None:
    """A finite number of result.json, if it is there."""
    value = self.result.get(key)
    if (isinstance(value, float | int) and not isinstance(value, bool)
        and abs(value) < math.inf):
      return float(value)
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Book:
  """The runs of a report, and where it goes.

  Attributes:
    runs: in the order in which they are shown.
    output: the HTML file, on a disk.
  """
  runs: Sequence[Run]
  output: pathlib.Path

  def drawing(self, name: str) -> pathlib.Path:
    """A PNG beside the report, not to be taken for a picture of the run."""
    return self.output.with_name(f"{self.output.stem}_{name}.png")

  def evaluated(self) -> list[tuple[Run, Evaluation]]:
    """Every evaluation of every run."""
    return [(run, evaluation) for run in self.runs
            for evaluation in run.evaluations]

  def by_data(self) -> dict[str, list[tuple[Run, Evaluation]]]:
    """The same by what was classified: only those can be compared."""
    groups: dict[str, list[tuple[Run, Evaluation]]] = {}
    for run, evaluation in self.evaluated():
      groups.setdefault(evaluation.data, []).append((run, evaluation))
    return groups


def given(workdirs: Sequence[str]) -> list[str]:
  """The folders that --workdir names: each is A or A,B.

  What is a folder as a whole is one, whatever its name.
  """
  found = []
  for text in workdirs:
    whole = "," not in text or paths.parse(text).is_dir()
    found += [text] if whole else text.split(",")
  return found


def read_all(folders: Sequence[str]) -> list[Run]:
  """Reads runs, each under a name of its own.

  Raises:
    ConfigError: there is none, one is named twice, or is no run.
  """
  given = [paths.parse(folder) for folder in folders if folder]
  if not given:
    raise errors.ConfigError("--workdir is missing", "--workdir=runs/NAME")
  whole = [paths.absolute(path) for path in given]
  if len({_real(path) for path in whole}) < len(whole):
    raise errors.ConfigError("--workdir names the same run twice")
  names = [path.name for path in whole]
  if len(set(names)) < len(names):
    names = [os.fspath(path) for path in given]
  return [read(path, name) for path, name in zip(given, names)]


def _real(path: epath.Path) -> str:
  """Without links; on gs:// there are none."""
  name = os.fspath(path)
  return name if paths.is_remote(path) else os.path.realpath(name)


def read(folder: epath.Path, name: str) -> Run:
  """Reads a run; what is damaged is left out.

  Raises:
    ConfigError: the folder is not that of a run.
  """
  left_out: list[str] = []

  def content(file, read_file):
    try:
      return read_file(file)
    except FileNotFoundError:
      return None
    except reading.Unusable as e:
      left_out.append(f"{file} {e}")
      return None

  def of_kind(file, wanted):
    return content(file, lambda file: schema.read(file, wanted))

  config = of_kind(folder / "config.json", schema.CONFIG)
  reports = reading.read_lines(folder / metrics_lib.METRICS)
  left_out += [
      f"{folder / metrics_lib.METRICS} {text}" for text in reports.complaints()]
  lines = metrics_lib.numbers(reports.good)
  evaluations = [
      Evaluation(folder=place, values=values, random_init=(
          values.get("random_init") or _once_apart(values, of_kind(
              place / "evaluation_random_init.json", schema.EVALUATION))))
      for place in inside(folder / "evaluation", left_out)
      if (values := of_kind(
          place / "evaluation.json", schema.EVALUATION)) is not None]
  if config is None and not lines and not evaluations:
    raise errors.ConfigError(
        f"{folder} is not the work directory of a run: "
        + ("; ".join(left_out[:3]) or "no config.json"),
        "--workdir=runs/NAME")
  return Run(
      name=name, folder=folder, config=config or {}, lines=lines,
      result=of_kind(folder / "result.json", schema.RESULT) or {},
      cheat=content(
          folder / "report" / "cheat_index.json", schema.read_cheat) or [],
      evaluations=evaluations, left_out=left_out)


def _once_apart(
    values: Mapping[str, Any], random_init: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
  """Random init from a file of its own, if it was about the same images."""
  same = random_init and random_init["data"] == values["data"]
  return random_init if same else None


def inside(
    folder: epath.Path, left_out: list[str] | None = None
) -> list[epath.Path]:
  """What is in a folder, sorted; nothing if it isn't there.

  Why it can't be listed goes to `left_out`.
  """
  try:
    with paths.os_errors(folder):
      return sorted(folder.iterdir()) if folder.is_dir() else []
  except OSError as e:
    if left_out is not None:
      left_out.append(f"{folder} can't be listed: {e.strerror}")
    return []

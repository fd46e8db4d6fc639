"""What a study compares: a Python file whose `get_study` returns a `Study`.

  from mtvit.study import arms

  def get_study() -> arms.Study:
    return arms.Study(
        config="quickstart", changes={"total_steps": 200}, seeds=3,
        arms=(arms.Arm("alone", argument="strategy=contrastive"),
              arms.Arm("report", argument="strategy=report")),
        comparisons=(arms.Comparison("report", "alone"),))

A study of several sizes takes the size as an argument, `get_study(tier="cpu")`,
which the command line gives behind a colon: `FILE:gpu`.
"""

import dataclasses
import inspect
import pathlib
import re
import runpy
from typing import Any, Iterator, Mapping, NamedTuple

from mtvit import api
from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.run import config_values
from mtvit.run import flag_errors

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclasses.dataclass(frozen=True)
class Arm:
  """One of the settings that are compared.

  Attributes:
    name: of letters, digits, "_", "-" and "."; the first no sign.
    changes: config key -> value, over those of the study.
    argument: of the config file, as in "strategy=report"; behind the study's.
    seeds: how many, 0, 1, ...; None for as many as the study has.
    train: False measures the first parameters of the run, and trains nothing.
  """
  name: str
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  argument: str = ""
  seeds: int | None = None
  train: bool = True


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A question: is `arm` better than `against`?

  Attributes:
    arm: name of an arm.
    against: name of another.
    measures: that are compared, of what `study.measuring` gives.
    margin: the least difference that matters, in the measure's unit.
  """
  arm: str
  against: str
  measures: tuple[str, ...] = ("knn", "linear")
  margin: float = 1.0


class Run(NamedTuple):
  """An arm with a seed."""
  arm: Arm
  seed: int

  def __str__(self) -> str:
    return f"{self.arm.name}, seed {self.seed}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
  """A comparison of settings over seeds.

  Attributes:
    config: NAME or FILE[:ARGUMENT] of a config, as --config takes it.
    arms: what is compared.
    seeds: of each arm that does not say otherwise.
    changes: config key -> value, of all arms.
    comparisons: questions that the tables answer.
    measures: field of `study.measuring.Measures` -> value.
    claims: import path of a module that judges more than `comparisons`.
    cost_against: arm whose step the others' steps are compared with; "" for the
      first.
  """
  config: str
  arms: tuple[Arm, ...]
  seeds: int = 3
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  comparisons: tuple[Comparison, ...] = ()
  measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  claims: str = ""
  cost_against: str = ""

  def __post_init__(self):
    names = [arm.name for arm in self.arms]
    if not names:
      raise errors.ConfigError("the study has no arms", "arms=(Arm(...), ...)")
    for name in names:
      if not _NAME.fullmatch(name):
        raise errors.ConfigError(
            f"arm {name!r}: no name of letters, digits, _, - and .")
      if names.count(name) > 1:
        raise errors.ConfigError(f"two arms are named {name}")
    for arm in self.arms:
      if self.num_seeds(arm) < 1:
        raise errors.ConfigError(
            f"arm {arm.name}: seeds={self.num_seeds(arm)}", "at least 1")
      _check_free(arm.name, arm.changes)
    _check_free("changes", self.changes)
    asked = [x for c in self.comparisons for x in (c.arm, c.against)]
    for name in asked + [self.cost_against] * bool(self.cost_against):
      self.arm(name)

  def num_seeds(self, arm: Arm) -> int:
    """How many runs an arm has."""
    return self.seeds if arm.seeds is None else arm.seeds

  def arm(self, name: str) -> Arm:
    """The arm of that name; raises ConfigError if there is none."""
    for arm in self.arms:
      if arm.name == name:
        return arm
    raise errors.ConfigError(
        f"the study has no arm {name}"
        + errors.suggest(name, [arm.name for arm in self.arms]))

  def runs(self) -> Iterator[Run]:
    """All runs in order: arms of most seeds first, a whole seed at a time."""
    for count in sorted({self.num_seeds(x) for x in self.arms}, reverse=True):
      for seed in range(count):
        for arm in self.arms:
          if self.num_seeds(arm) == count:
            yield Run(arm, seed)

  def resolve(self, arm: Arm, seed: int = 0) -> dict[str, Any]:
    """The full config of a run, plain; raises ConfigError."""
    name, _, argument = self.config.partition(":")
    argument = ",".join(filter(None, [argument, arm.argument]))
    try:
      found = api.load_config(
          f"{name}:{argument}", {**self.changes, **arm.changes, "seed": seed})
    except errors.ConfigError as e:
      raise errors.ConfigError(f"arm {arm.name}: {e}") from e
    return config_lib.resolved(found)

  def digest(self, arm: Arm) -> str:
    """SHA-256 of what an arm's runs have in common.

    Where files are kept, which no result depends on, is left out.
    """
    flat = config_values.flatten(self.resolve(arm))
    for key in ("seed", *config_values.PLACES):
      del flat[key]
    return fingerprint.of_json(
        {"config": flat, "train": arm.train, "measures": dict(self.measures)})


def _check_free(what: str, changes: Mapping[str, Any]) -> None:
  if "seed" in changes:
    raise errors.ConfigError(
        f"{what}: the study gives each run its seed", "seeds=N")


class Named(NamedTuple):
  """A study and where it stands.

  Attributes:
    study: as its file has it.
    file: of the study.
    tier: the argument of its `get_study`; "" if that takes none.
  """
  study: Study
  file: pathlib.Path
  tier: str

  @property
  def name(self) -> str:
    """The file as the command line names it."""
    return f"{self.file}:{self.tier}" if self.tier else str(self.file)

  @property
  def rows(self) -> pathlib.Path:
    """The rows, beside the study: FILE.TIER.jsonl."""
    return self.file.with_suffix(f".{self.tier}.jsonl" if self.tier
                                 else ".jsonl")


def load(name: str) -> Named:
  """Reads a study.

  Args:
    name: FILE or FILE:TIER.

  Raises:
    ConfigError: it can't be read, or contradicts itself.
  """
  given, _, tier = name.partition(":")
  file = pathlib.Path(given)
  if not file.is_file() or file.suffix != ".py":
    raise errors.ConfigError(
        f"{given or 'no file'} is not the Python file of a study",
        "mtvit study run FILE.py, as mtvit/study/README.md shows it")
  with flag_errors.clear():
    function = runpy.run_path(str(file)).get("get_study")
    if not callable(function):
      raise errors.ConfigError(
          f"{file} has no function get_study",
          "def get_study(): return arms.Study(...)")
    takes = list(inspect.signature(function).parameters.values())
    if tier and not takes:
      raise errors.ConfigError(
          f"{name}: the study has no tiers", f"without :{tier}")
    if takes and not tier:
      if takes[0].default is inspect.Parameter.empty:
        raise errors.ConfigError(f"{file}: which tier?", f"{file}:TIER")
      tier = takes[0].default
    study = function(tier) if takes else function()
  if not isinstance(study, Study):
    raise errors.ConfigError(
        f"{file}: get_study returned {type(study).__name__}",
        "an arms.Study")
  return Named(study, file, tier)

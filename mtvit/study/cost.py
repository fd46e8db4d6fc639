"""What a step of each arm costs, beside a step of one of them.

Apart from the runs: processes that train on noise and take turns, two at a
time, as in `mtvit bench`. Seconds depend on the machine and its moods; the
ratio of two steps of the same round much less.
"""

import dataclasses
from typing import Any, Mapping, Sequence

from mtvit import errors
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.study import arms
from mtvit.study import rows

# Two processes share a GPU, of which each would take most of the memory.
_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
  """How it is measured.

  Attributes:
    repeats: rounds of every pair of arms.
    steps: of a repetition.
  """
  repeats: int = 7
  steps: int = 2


def record(
    named: arms.Named, wanted: Sequence[str] = (), rounds: Rounds = Rounds()
) -> dict[str, Any]:
  """Measures the steps of a study's arms and adds that to its rows.

  Args:
    named: the study.
    wanted: arms beside the one that steps are compared with; empty for all.
    rounds: see there.

  Returns:
    What `measure` does, and `config_digests`, those of the arms.

  Raises:
    UserError: as `measure`; there is no such arm, or it trains nothing.
  """
  study = named.study
  chosen = [study.arm(name) for name in wanted] or [
      arm for arm in study.arms if arm.train]
  if idle := [arm.name for arm in chosen if not arm.train]:
    raise errors.ConfigError(f"arm {idle[0]} trains nothing", "other arms")
  first = (study.arm(study.cost_against) if study.cost_against
           else next(arm for arm in study.arms if arm.train))
  measured = {arm.name: arm for arm in [first, *chosen]}
  found = measure({name: study.resolve(arm) for name, arm in measured.items()},
                  first.name, rounds) | {"config_digests": {
                      name: study.digest(arm)
                      for name, arm in measured.items()}}
  rows.append_cost(named.rows, found)
  return found


def measure(
    configs: Mapping[str, Mapping[str, Any]], against: str,
    rounds: Rounds = Rounds()
) -> dict[str, Any]:
  """Measures the steps of all arms, on an otherwise idle machine.

  Args:
    configs: arm -> config as plain values.
    against: the arm among them that each other one is paired with.
    rounds: see there.

  Returns:
    JSON: `against`, `repeats`, `steps`, `machine`, `versions`; and `arms`: arm
    -> `seconds_step` and `ratio`, medians; `seconds_least`, `seconds_most`,
    `ratio_least`, `ratio_most`; `flops_step` and `flops_ratio`; `step_bytes`,
    of the compiled step, and `peak_bytes`, of its process. A ratio is to a step
    of `against` in the same round.

  Raises:
    UserError: a process failed; it says which, and what it said last.
  """
  first = _spec(against, configs[against], rounds)
  found: dict[str, dict[str, Any]] = {}
  with processes.started([first]) as (base,):
    for name, config in configs.items():
      if name == against:
        continue
      with processes.started([_spec(name, config, rounds)]) as (other,):
        measured = processes.interleaved([base, other], rounds.repeats)
        found.setdefault(against, _row(base, base, measured))
        found[name] = _row(other, base, measured)
    if not found:
      found[against] = _row(
          base, base, processes.interleaved([base], rounds.repeats))
    versions = base.ready["versions"]
  return {"against": against, **dataclasses.asdict(rounds),
          "machine": show.machine(), "versions": versions, "arms": found}


def _spec(
    name: str, config: Mapping[str, Any], rounds: Rounds
) -> processes.Spec:
  """A contestant on the devices that the runs have too."""
  spec = processes.ours(
      name, "step_process", {"config": config, "steps": rounds.steps}, ["step"],
      platforms=None)
  return spec._replace(environment={**spec.environment, **_ENVIRONMENT})


def _row(
    arm: processes.Contestant, base: processes.Contestant,
    measured: processes.Measured
) -> dict[str, Any]:
  """What one arm costs, beside another in the same rounds."""
  steps, others = (measured[x.spec.name]["step"] for x in (arm, base))
  flops = arm.ready["flops"]
  return beside(steps, others) | {
      "flops_step": flops, "flops_ratio": flops / base.ready["flops"],
      "step_bytes": arm.ready["memory_bytes"],
      "peak_bytes": steps[-1]["peak_bytes"]}


def beside(
    steps: Sequence[Mapping[str, float]], others: Sequence[Mapping[str, float]]
) -> dict[str, float]:
  """Seconds a step, and times that of another in the same round.

  Args:
    steps: `count` and `seconds`, by round.
    others: likewise, of the other.
  """
  rates, beside_them = show.rates(steps), show.rates(others)
  seconds = show.spread([1 / rate for rate in rates])
  ratio = show.ratio(beside_them, rates)
  return {
      "seconds_step": seconds.median, "seconds_least": seconds.least,
      "seconds_most": seconds.most, "ratio": ratio.median,
      "ratio_least": ratio.least, "ratio_most": ratio.most}

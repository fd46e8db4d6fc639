"""What must hold before any verdict is looked at."""

from typing import Any, Iterable, Mapping, NamedTuple

import numpy as np

from mtvit.study import blocks
from mtvit.study import results as results_lib
from mtvit.study import statistics

LEARNED = 5.0                  # Points of kNN above random init.
CHANCE = 1.0                   # Points that the seeds' mean may be off chance,
ONE = 8.0                      # and that one run may be, which scatters more.
_NAMED = 4                     # Runs that a gate names, at most.


class Gate(NamedTuple):
  """A condition.

  Attributes:
    name: what must hold.
    passed: whether it does.
    found: the numbers.
    fix: what to do if it does not.
  """
  name: str
  passed: bool
  found: str
  fix: str


def general(results: results_lib.Results) -> list[Gate]:
  """Those of any study: rows that can be compared."""
  return [_unskipped(results), _machines(results), _one_digest(
      results, "code_digest", "one digest of the training code",
      "run again what an older version has run"), _one_digest(
          results, "data", "one digest of the data",
          "run again what had other images")]


def report(results: results_lib.Results) -> list[Gate]:
  """Those of the report's study."""
  return [
      _learns(results), _chance(results),
      _equal(results, "control_nothing", "contrastive", "digest",
             "corruption that is none changes nothing",
             "the corruption of report_control leaks into clean views"),
      _equal(results, "report", "control", "images_digest",
             "report and control see identical images",
             "their corruption must draw alike; compare their configs"),
      _equal(results, "contrastive_again", "contrastive", "digest",
             "the same arm and seed twice gives the same parameters",
             "same threads and machine; on a GPU deterministic kernels")]


def _learns(results: results_lib.Results) -> Gate:
  d = statistics.interval(list(
      results.differences("contrastive", "random", "knn").values()))
  return Gate(
      "contrastive learns: kNN above random init", d.low > 0 and
      d.mean >= LEARNED, f"mean {d.mean:+.2f} points, at least {LEARNED:g}; "
      f"interval {d.low:.2f} to {d.high:.2f}, above 0; {d.n} seeds",
      "train longer: at this length there is nothing to compare")


def _chance(results: results_lib.Results) -> Gate:
  # Labels are permuted alike in all arms of a seed, which are off chance
  # together: each seed counts once, as many arms as it may have.
  by_seed: dict[int, list[float]] = {}
  for arm in results.expected:
    for seed, x in results.values(arm, "linear_shuffled_labels").items():
      by_seed.setdefault(seed, []).append(x)
  found = [x for of_seed in by_seed.values() for x in of_seed]
  mean = float(np.mean([np.mean(x) for x in by_seed.values()])) if (
      found) else float("nan")
  classes = {x for arm in results.expected
             for x in results.values(arm, "num_classes").values()}
  chance = 100 / classes.pop() if len(classes) == 1 else float("nan")
  far = max(found, key=lambda x: abs(x - chance), default=float("nan"))
  return Gate(
      "with labels shuffled the probe is at chance",
      abs(mean - chance) <= CHANCE and abs(far - chance) <= ONE,
      f"mean {mean:.2f} % of {len(by_seed)} seeds, furthest run {far:.1f} %; "
      f"chance {chance:g} %, at most {CHANCE:g} and {ONE:g} points off",
      "test images or their labels leak into training")


def _equal(
    results: results_lib.Results, arm: str, against: str, measure: str,
    name: str, fix: str
) -> Gate:
  """Whether two arms have the same digest in every seed of the first."""
  pairs = {seed: [results.value(x, seed, measure) for x in (arm, against)]
           for seed in results.expected.get(arm, ())}
  bad = [seed for seed, (ours, theirs) in pairs.items()
         if ours is None or ours != theirs]
  found = f"{len(pairs) - len(bad)} of {len(pairs)} seeds are equal"
  if bad:
    # What differs is told before what is not there yet.
    first = next((x for x in bad if None not in pairs[x]), bad[0])
    found += (f"; seed {first}: {arm} {_short(pairs[first][0])}, {against} "
              f"{_short(pairs[first][1])}")
    if None in pairs[first]:
      fix = "run what is missing"
  return Gate(name, bool(pairs) and not bad, found, fix)


def _unskipped(results: results_lib.Results) -> Gate:
  bad = [f"{arm}, seed {seed}: {row.measures['skipped']}"
         for (arm, seed), row in results.done.items()
         if row.measures.get("skipped")]
  return Gate("no run skipped a step", not bad,
              blocks.listed(bad, _NAMED) or "none skipped",
              "a lower learning rate for all arms, or find what is not finite")


def _machines(results: results_lib.Results) -> Gate:
  seeds = sorted({seed for _, seed in results.done})
  bad = []
  for seed in seeds:
    kinds = sorted({str(row.machine) for (_, x), row in results.done.items()
                    if x == seed})
    if len(kinds) > 1:
      bad.append(f"seed {seed}: {' and '.join(kinds)}")
  return Gate("one kind of machine within a seed", not bad,
              blocks.listed(bad, _NAMED) or f"{len(seeds)} seeds",
              "run that seed's arms again, all on one kind of machine")


def _one_digest(
    results: results_lib.Results, field: str, name: str, fix: str
) -> Gate:
  """Whether a field of all rows is the same."""
  by_digest: dict[str, list[str]] = {}
  for (arm, seed), row in results.done.items():
    by_digest.setdefault(getattr(row, field), []).append(f"{arm}/{seed}")
  found = "; ".join(f"{_short(key)}: {len(runs)} runs, {runs[0]} first"
                    for key, runs in by_digest.items())
  return Gate(name, len(by_digest) <= 1, found or "no rows", fix)


def configs(
    results: results_lib.Results, digests: Mapping[str, str]
) -> Gate:
  """Whether rows are of the configs that the study has now.

  Args:
    results: of it.
    digests: arm -> `Study.digest`.
  """
  bad = [f"{arm}, seed {seed}: {_short(row.config_digest)}, the study has "
         f"{_short(digests[arm])}"
         for (arm, seed), row in results.done.items()
         if row.config_digest != digests[arm]]
  return Gate("rows are of the study's configs", not bad,
              blocks.listed(bad, _NAMED) or f"{len(results.done)} runs",
              "run these again, or take back the change of the study file")


def _short(digest: Any) -> str:
  return "not measured" if digest is None else str(digest)[:12]


def all_pass(gates: Iterable[Gate]) -> bool:
  """Whether verdicts may be looked at."""
  return all(gate.passed for gate in gates)

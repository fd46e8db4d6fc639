"""What is shown of a study: sections of tables, notes and plots."""

import dataclasses
from typing import Sequence

from mtvit.pictures import effects
from mtvit.study import blocks
from mtvit.study import gates as gates_lib
from mtvit.study import measured
from mtvit.study import results as results_lib
from mtvit.study import verdicts as verdicts_lib

_NAMED = 20                      # Missing runs that are named, at most.


@dataclasses.dataclass(frozen=True)
class Findings:
  """All that was made of the rows.

  Attributes:
    results: of the study.
    gates: what must hold.
    verdicts: on its claims.
    comparisons: on its comparisons, if it has claims of its own beside them.
    notes: what was odd in the rows.
  """
  results: results_lib.Results
  gates: Sequence[gates_lib.Gate]
  verdicts: Sequence[verdicts_lib.Verdict]
  comparisons: Sequence[verdicts_lib.Verdict] = ()
  notes: Sequence[str] = ()


def sections(found: Findings) -> list[blocks.Section]:
  """All parts that there is something to show in, gates first."""
  results = found.results
  parts = [rows(found), gates(found), answers(found), measured.arms(results),
           comparisons(found), *measured.inside(results)]
  return [part for part in parts if part.blocks]


def rows(found: Findings) -> blocks.Section:
  """What is there and what is missing."""
  results = found.results
  total = sum(map(len, results.expected.values()))
  missing = results.missing()
  parts: list[blocks.Block] = [*found.notes]
  if missing:
    parts.append(f"Missing: {blocks.listed(missing, _NAMED)}.")
  if results.strange:
    parts.append("Rows of no run of the study: " + "; ".join(
        f"{x.arm}, seed {x.seed}" for x in results.strange) + ".")
  return blocks.Section(
      "rows", "Rows", f"{len(results.done)} of {total} runs are done.",
      parts or ["None is missing."])


def gates(found: Findings) -> blocks.Section:
  """What must hold before a verdict."""
  cells = [[x.name, f"passed: {x.found}" if x.passed
            else f"FAILED: {x.found}. What to do: {x.fix}"]
           for x in found.gates]
  return blocks.Section(
      "gates", "Gates", "What must hold before a verdict is looked at.",
      [blocks.Table(["gate", "found"], cells, True)])


def answers(found: Findings) -> blocks.Section:
  """The verdicts, if all gates are passed."""
  name, title = "verdicts", "Verdicts"
  if not gates_lib.all_pass(found.gates):
    bad = [x.name for x in found.gates if not x.passed]
    return blocks.Section(name, title, "", [
        f"No verdict: {len(bad)} of {len(found.gates)} gates failed: "
        f"{'; '.join(bad)}."])
  cells = [[f"{x.claim}: {x.says}", x.verdict, _effects(x), x.rule]
           for x in found.verdicts]
  change = [[x.claim, x.change] for x in found.verdicts
            if x.verdict != verdicts_lib.NONE]
  notes = [[x.claim if i == 0 else "", note] for x in found.verdicts
           for i, note in enumerate(x.notes)]
  return blocks.Section(
      name, title, "The first rule of a claim that holds is its verdict; the "
      "rules were fixed beforehand.",
      [blocks.Table(["claim", *header], lines, True) for header, lines in (
          (["verdict", "effect (95 % interval)", "because"], cells),
          (["another verdict would need"], change),
          (["printed apart"], notes)) if lines])


def _digits(x: verdicts_lib.Difference) -> int:
  """Behind the point: fewer for accuracies, which are in %."""
  return 2 if x.accuracy else 3


def _effects(verdict: verdicts_lib.Verdict) -> str:
  """Its differences in a line: each pair of arms with its measures.

  Arms that end in the name of their measure, alone_TASK, stand together.
  """
  by_pair: dict[str, list[str]] = {}
  for x in verdict.differences:
    if not x.by_seed:
      continue
    digits = _digits(x)
    arm = x.arm.removesuffix("_" + x.measure.rpartition("/")[2])
    by_pair.setdefault(f"{arm} − {x.against}", []).append(
        f"{x.title} {blocks.number(x.d.mean, digits, True)} "
        f"({blocks.ends((x.d.low, x.d.high), digits)})")
  return "; ".join(f"{pair}: {', '.join(each)}"
                   for pair, each in by_pair.items()) or blocks.NONE


def _differences(found: Sequence[verdicts_lib.Verdict]) -> blocks.Table:
  """A row for each difference."""
  cells = []
  for verdict in found:
    for x in verdict.differences:
      digits = _digits(x)
      per_seed = " ".join(
          blocks.number(y, digits, True) for y in x.by_seed.values())
      cells.append([
          f"{verdict.claim}: {x.arm} − {x.against}"
          if " against " not in verdict.claim else verdict.claim, x.title,
          per_seed or blocks.NONE, blocks.number(x.d.mean, digits, True),
          blocks.ends((x.d.low, x.d.high), digits),
          blocks.number(x.d.p, 4), blocks.number(verdict.p, 4),
          blocks.ends(x.images, 2)])
  return blocks.Table(
      ["comparison", "measure", "d by seed", "mean", "95 % interval", "p",
       "p, Holm", "over images"], cells)


def comparisons(found: Findings) -> blocks.Section:
  """All differences, and a picture of those in points."""
  title = "Comparisons"
  of_study = found.comparisons or found.verdicts
  drawn = [
      effects.Effect(f"{x.arm} − {x.against}", x.title, x.d.mean, x.d.low,
                     x.d.high, list(x.by_seed.values()))
      for verdict in of_study for x in verdict.differences
      if x.by_seed and x.accuracy]
  parts: list[blocks.Block] = []
  if drawn:
    parts.append(blocks.Plot(
        "effects", "Differences with their 95 % intervals over seeds",
        lambda file: effects.save(
            drawn, verdicts_lib.MARGIN, "percentage points", file)))
  for some in (found.comparisons, found.verdicts):
    if any(x.differences for x in some):
      parts.append(_differences(some))
  return blocks.Section(
      "comparisons", title, "d is the difference within a seed, in percentage "
      "points for accuracies. p is one-sided, of a paired t test; Holm's "
      "correction goes over the claims of the table. The last column draws "
      "test images again, not seeds.", parts)

"""Six claims of the report, each judged by rules that were fixed beforehand.

Of each the first rule that holds, in the order in which they stand here, is the
verdict. Where a claim names two measures, a rule needs both of them.

Holm's correction goes over six p-values, one for each claim: the largest of the
comparisons that it requires, and 1 for claims that ask for none. A rule that
requires fewer of its claim's comparisons puts the largest p of these in its
claim's place.
"""

import math
from typing import Callable, Mapping, Sequence

import numpy as np

from mtvit.study import gates as gates_lib
from mtvit.study import report_inside
from mtvit.study import results as results_lib
from mtvit.study import statistics
from mtvit.study import verdicts as verdicts_lib

PROBES = ("knn", "linear")
MARGIN = verdicts_lib.MARGIN
CHEAT = 0.8                    # Of the accuracy above chance, without contents.
STEP = 1.15                    # Of a step of `contrastive`.
CONTROLS = report_inside.CONTROLS
_TASK = "relative_position"

Differences = list[verdicts_lib.Difference]
Corrected = Callable[[int, Differences], float]
_Verdict = verdicts_lib.Verdict

gates = gates_lib.report


def verdicts(results: results_lib.Results) -> list[_Verdict]:
  """The verdict on each claim, in order; of some there are two."""
  required = [
      [x for arm in CONTROLS for x in _richer(results, arm)],
      [x for against in ("report_drop", "report_swap")
       for x in _pair(results, against, "report", ("knn",))],
      [], _pair(results, "separate_compute", "report"),
      _pair(results, "harmonised", "report"), []]

  def corrected(claim: int, differences: Differences) -> float:
    p = [verdicts_lib.largest_p(x) if x else 1.0 for x in required]
    p[claim - 1] = verdicts_lib.largest_p(differences)
    return statistics.holm(p)[claim - 1]

  return [
      *(richer(results, corrected, arm) for arm in CONTROLS),
      positions(results, corrected),
      *(report_inside.smoothing(results, arm) for arm in CONTROLS),
      one_pass(results, corrected), harmonised(results, corrected),
      report_inside.combine(results)]


def _pair(
    results: results_lib.Results, arm: str, against: str,
    measures: Sequence[str] = PROBES
) -> Differences:
  return [verdicts_lib.difference(results, arm, against, x) for x in measures]


def _richer(results: results_lib.Results, arm: str) -> Differences:
  """Against contrastive, and behind it against the control."""
  return (_pair(results, arm, "contrastive")
          + _pair(results, arm, CONTROLS[arm]))


def richer(
    results: results_lib.Results, corrected: Corrected, arm: str
) -> _Verdict:
  """Claim 1, of `report` or `all`."""
  found = _richer(results, arm)
  alone, control = found[:2], found[2:]
  p, p_alone = corrected(1, found), corrected(1, alone)
  lacking = verdicts_lib.missing(
      results, (arm, "contrastive", CONTROLS[arm]), found)
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif verdicts_lib.supported(found, MARGIN, p):
    verdict, rule = verdicts_lib.SUPPORTED, "better than both comparators"
  elif (verdicts_lib.supported(alone, MARGIN, p_alone)
        and verdicts_lib.refuted(control, MARGIN)):
    verdict = "augmentation"
    rule = f"better than contrastive, refuted against {CONTROLS[arm]}"
  elif verdicts_lib.refuted(alone, MARGIN):
    verdict, rule = verdicts_lib.REFUTED, "refuted against contrastive"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "no rule holds"
  return _Verdict(
      claim=f"1 {arm}", says="more tasks give richer features", verdict=verdict,
      rule=rule, differences=found, p=p,
      change=verdicts_lib.change(found, MARGIN, p))


def positions(
    results: results_lib.Results, corrected: Corrected
) -> _Verdict:
  """Claim 2."""
  others = [_pair(results, x, "report", ("knn",))
            for x in ("report_drop", "report_swap")]
  (knn,) = _pair(results, "report", "control", ("knn",))
  r2 = verdicts_lib.difference(results, "report", "control", "position/r2")
  found = [*others[0], *others[1], r2, knn]
  arms = ("report", "control", "report_drop", "report_swap", "report_sincos")
  lacking = verdicts_lib.missing(results, arms, found)
  p = [corrected(2, x) for x in others]
  better = [x[0].arm for x, each in zip(others, p)
            if verdicts_lib.supported(x, MARGIN, each)]
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif better:
    verdict, rule = "harms", f"{' and '.join(better)} better than keep on kNN"
  elif r2.above(0) and knn.above(-MARGIN):
    verdict, rule = "gains", "position R² rises, and kNN is not worse"
  elif r2.d.low <= 0 <= r2.d.high and (
      knn.above(-MARGIN) and knn.below(MARGIN)):
    verdict, rule = "no effect", "R²'s interval holds 0, kNN's is in the margin"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "no rule holds"
  return _Verdict(
      claim="2", says="the ViT may cheat by its position embeddings, and gains "
      "by it", verdict=verdict, rule=rule, p=min(p),
      differences=[*found, *_pair(results, "report", "report_sincos")],
      notes=[cheats(results)],
      change="harms needs a mean of 1 point and p below 0.05 of drop or swap "
      f"(means {others[0][0].d.mean:+.2f}, {others[1][0].d.mean:+.2f}); gains "
      f"needs R²'s lower end above 0 (it is {r2.d.low:.3f}) and kNN's above -1 "
      f"({knn.d.low:.2f})")


def cheats(results: results_lib.Results) -> str:
  """Whether relative position is answered without contents, by `report`.

  A head that never saw blank views understates what is there, so the better of
  it and one refitted on such views counts.
  """
  mean = {}
  for name in ("nothing/trained", "contents/trained", "contents/refitted",
               "chance"):
    found = results.values("report", f"cheat/{_TASK}/{name}")
    mean[name] = float(np.mean(list(found.values()))) if found else math.nan
  chance = mean["chance"]
  seen = mean["nothing/trained"] - chance
  blank = max(mean["contents/trained"], mean["contents/refitted"]) - chance
  if not math.isfinite(seen + blank):
    return "cheating: rows have no cheat index of report"
  if seen <= 0:
    return "no cheating: relative position is answered at chance"
  word = "cheats" if blank >= CHEAT * seen else "does not cheat"
  return (f"{word}: with blank contents {100 * blank / seen:.0f} % of the "
          f"accuracy above chance remains ({100 * blank:.1f} of "
          f"{100 * seen:.1f} points); {100 * CHEAT:.0f} % would be cheating")


def one_pass(
    results: results_lib.Results, corrected: Corrected
) -> _Verdict:
  """Claim 4."""
  better = _pair(results, "separate_compute", "report")
  ours = _pair(results, "report", "separate_compute")
  cost: Mapping[str, float] = (results.cost or {}).get("arms", {}).get(
      "report", {})
  known = (results.cost or {}).get("against") == "contrastive" and cost
  ratios = [cost["flops_ratio"], cost["ratio"]] if known else []
  p = corrected(4, better)
  lacking = verdicts_lib.missing(results, ("report", "separate_compute"), ours)
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif verdicts_lib.supported(better, MARGIN, p):
    verdict, rule = verdicts_lib.REFUTED, "separate_compute is better"
  elif not ratios:
    verdict, rule = verdicts_lib.NONE, (
        "missing: the cost of a step of report beside contrastive")
  elif max(ratios) <= STEP and all(x.above(-MARGIN) for x in ours):
    verdict, rule = verdicts_lib.SUPPORTED, "a step is cheap, and not worse"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "no rule holds"
  note = (f"a step is {ratios[0]:.3f} times contrastive's by FLOPs, "
          f"{ratios[1]:.3f} by the clock; at most {STEP:g}") if ratios else (
              "the cost of steps was not measured")
  lows = ", ".join(f"{x.title} {x.d.low:.2f}" for x in ours)
  return _Verdict(
      claim="4", says="one pass instead of k", verdict=verdict,
      rule=rule, differences=ours, p=p, notes=[note],
      change="refuted needs separate_compute better by 1 point and p below "
      f"0.05 on both; supported needs both ratios at most {STEP:g} and lower "
      f"ends above -1 ({lows})")


def harmonised(
    results: results_lib.Results, corrected: Corrected
) -> _Verdict:
  """Claim 5."""
  ours = _pair(results, "report", "harmonised")
  worse = _pair(results, "harmonised", "report")
  gray = [verdicts_lib.difference(
      results, "report", "harmonised", f"{x}_gray", x) for x in PROBES]
  p = corrected(5, worse)
  lacking = verdicts_lib.missing(
      results, ("report", "harmonised"), ours + gray)
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif all(x.above(-MARGIN) for x in ours):
    verdict, rule = verdicts_lib.SUPPORTED, "not worse on kNN and linear"
  elif verdicts_lib.supported(worse, MARGIN, p):
    verdict, rule = verdicts_lib.REFUTED, "worse by the margin on both"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "no rule holds"
  by_color = not lacking and all(x.below(0) for x in gray)
  if by_color:
    verdict += ", by colour at test"
  lows = ", ".join(f"{x.title} {x.d.low:.2f}" for x in ours)
  return _Verdict(
      claim="5", says="no harmonised inputs needed", verdict=verdict,
      rule=rule, differences=ours + gray, p=p,
      notes=["by colour at test: on gray test images report is "
             f"{'' if by_color else 'not '}worse than harmonised"],
      change=f"supported needs lower ends above -1 ({lows}); refuted needs "
      "harmonised better by 1 point and p below 0.05 on both")

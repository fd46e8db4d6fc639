"""The general rule: what a difference over seeds says against a margin."""

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple, Sequence

from mtvit.study import blocks
from mtvit.study import results as results_lib
from mtvit.study import statistics

if TYPE_CHECKING:
  from mtvit.study import arms as arms_lib

SUPPORTED, REFUTED = "supported", "refuted"
INCONCLUSIVE, NONE = "inconclusive", "no verdict yet"
MARGIN = 1.0                # Percentage points.
ALPHA = 0.05
# In the name of a measure -> as the field writes it.
TITLES = {"knn": "kNN", "position/r2": "position R²",
          "residual_share": "residual share",
          "cosine_centred": "centred cosine", "skill/": "skill of "}
_NAMED = 6                  # Missing rows that a verdict names, at most.


class Difference(NamedTuple):
  """One measure of an arm less that of its comparator, within each seed.

  Attributes:
    arm: ours.
    against: theirs.
    measure: which.
    by_seed: seed -> difference.
    d: their mean and its interval.
    images: the interval over test images, beside it; or None.
  """
  arm: str
  against: str
  measure: str
  by_seed: dict[int, float]
  d: statistics.Interval
  images: tuple[float, float] | None = None

  @property
  def title(self) -> str:
    """The measure as the field writes it."""
    text = self.measure
    for key, title in TITLES.items():
      text = text.replace(key, title)
    return text

  @property
  def accuracy(self) -> bool:
    """Whether it is one, in percentage points."""
    return self.measure.startswith(results_lib.PROBES)

  def beats(self, margin: float, p: float) -> bool:
    """Whether it is supported.

    Args:
      margin: that the mean must reach.
      p: of the claim, corrected.
    """
    return self.d.mean >= margin and p < ALPHA

  def below(self, margin: float) -> bool:
    """Whether its interval lies below the margin: it is refuted."""
    return self.d.high < margin

  def above(self, margin: float) -> bool:
    """Whether its interval lies above a number; minus the margin: not worse."""
    return self.d.low > margin


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """What was found of a claim.

  Attributes:
    claim: number and letter, or the names of the arms.
    says: the claim.
    verdict: a word or a few.
    rule: which rule held, with its numbers.
    change: what the numbers would have to be for another verdict.
    differences: that it was made of.
    notes: what is printed apart.
    p: of the claim after Holm's correction; nan if its rules ask for none.
  """
  claim: str
  says: str
  verdict: str
  rule: str
  change: str = ""
  differences: Sequence[Difference] = ()
  notes: Sequence[str] = ()
  p: float = math.nan


def difference(
    results: results_lib.Results, arm: str, against: str, measure: str,
    other: str | None = None
) -> Difference:
  """An arm against another; `other` is the other's measure if not ours."""
  by_seed = results.differences(arm, against, measure, other)
  return Difference(
      arm, against, measure if other is None else f"{measure} − {other}",
      by_seed, statistics.interval(list(by_seed.values())),
      None if other else results.over_images(arm, against, measure))


def largest_p(differences: Sequence[Difference]) -> float:
  """One p of several differences that a claim requires; nan if one has none."""
  found = [x.d.p for x in differences]
  return max(found) if all(p == p for p in found) else math.nan


def supported(
    differences: Sequence[Difference], margin: float, p: float
) -> bool:
  """The general rule, on every one of the differences.

  Args:
    differences: that the claim requires.
    margin: see `Difference.beats`.
    p: of the claim, corrected.
  """
  return all(x.beats(margin, p) for x in differences)


def refuted(differences: Sequence[Difference], margin: float) -> bool:
  """Whether every one of the differences is refuted."""
  return all(x.below(margin) for x in differences)


def of_comparisons(
    results: results_lib.Results, comparisons: "Sequence[arms_lib.Comparison]"
) -> list[Verdict]:
  """A verdict on each comparison of a study, by the general rule.

  Each is a claim, that its arm is better by the margin in all of its measures;
  Holm's correction goes over all of them.
  """
  found = [[difference(results, x.arm, x.against, name) for name in x.measures]
           for x in comparisons]
  corrected = statistics.holm([largest_p(x) for x in found])
  return [_general(results, *each)
          for each in zip(comparisons, found, corrected)]


def _general(
    results: results_lib.Results, comparison: "arms_lib.Comparison",
    differences: Sequence[Difference], p: float
) -> Verdict:
  """The verdict on one comparison; p is corrected."""
  margin = comparison.margin
  titles = [x.title for x in differences]
  lacking = missing(
      results, (comparison.arm, comparison.against), differences)
  rule = f"mean at least {margin:g} and p {p:.3g} below {ALPHA:g}"
  if lacking:
    verdict, rule = NONE, lacking
  elif supported(differences, margin, p):
    verdict = SUPPORTED
  elif refuted(differences, margin):
    verdict, rule = REFUTED, f"the interval lies below {margin:g}"
  else:
    verdict, rule = INCONCLUSIVE, f"neither; p is {p:.3g}"
  return Verdict(
      claim=f"{comparison.arm} against {comparison.against}",
      says=f"better by {margin:g} in {' and '.join(titles)}",
      verdict=verdict, rule=rule,
      change=change(differences, margin, p), differences=differences,
      p=p)


def missing(
    results: results_lib.Results, arms: Sequence[str],
    differences: Sequence[Difference]
) -> str:
  """What a verdict lacks: rows, or measures in them; "" for nothing."""
  rows = results.missing(*arms)
  if rows:
    return f"missing: {blocks.listed(rows, _NAMED)}"
  holes = sorted({x.measure for x in differences if len(x.by_seed) < len(
      results.seeds(x.arm, x.against))})
  if holes:
    return "some rows have no " + ", ".join(holes)
  if any(x.d.n < 2 for x in differences):
    return "one seed has no interval: two at least"
  return ""


def change(
    differences: Sequence[Difference], margin: float, p: float
) -> str:
  """How far the general rule is from supporting and from refuting a claim."""
  parts = []
  short = [x for x in differences if not x.d.mean >= margin]
  if short:
    parts.append("supported needs " + ", ".join(
        f"{margin - x.d.mean:+.2f}{' points' * x.accuracy} in {x.title} "
        f"against {x.against}"
        for x in short))
  if p >= ALPHA:
    parts.append(f"supported needs p below {ALPHA:g}; it is {p:.3g}")
  standing = [x for x in differences if not x.below(margin)]
  if standing:
    parts.append("refuted needs the interval's upper end below "
                 f"{margin:g}: " + ", ".join(
                     f"{x.title} against {x.against} has {x.d.high:.2f}"
                     for x in standing))
  return "; ".join(parts)

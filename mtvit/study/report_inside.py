"""The claims of the report on what is inside: smoothing, and tasks together.

See `report_claims`. That something is lower means that its interval is.
"""

import math
from typing import Sequence

import numpy as np

from mtvit.study import results as results_lib
from mtvit.study import statistics
from mtvit.study import verdicts as verdicts_lib

CONTROLS = {"report": "control", "all": "all_control"}
SHARE = 0.02                   # That the residual share must rise by.
GROUPS = ("embed", "early", "middle", "late")      # Of layers.
# A fall of skill, relative and absolute; a cosine; points of kNN.
HARM, HARMLESS = (0.25, 0.025, -0.1), (0.1, 0.01, -0.05)
ABSOLUTE = 0.1                 # Below this skill a fall is absolute.
MOVED = 5.0

_Verdict = verdicts_lib.Verdict


def last_third(layers: np.ndarray) -> float:
  """Mean over the last third of the layers, [1 + l] with their input first."""
  return float(layers[-math.ceil((len(layers) - 1) / 3):].mean())


def _by_layers(
    results: results_lib.Results, arm: str, against: str, measure: str
) -> verdicts_lib.Difference:
  """The difference of what two arms have in the last third of the layers."""
  ours, theirs = (results.layers(x, f"layers/{measure}")
                  for x in (arm, against))
  by_seed = {seed: last_third(ours[seed]) - last_third(theirs[seed])
             for seed in sorted(ours.keys() & theirs.keys())}
  return verdicts_lib.Difference(
      arm, against, f"{measure}, last third", by_seed,
      statistics.interval(list(by_seed.values())))


def smooths(results: results_lib.Results) -> statistics.Interval:
  """How much more alike patches are at the end of `contrastive`.

  The centred cosine in the last third of the layers, less that in the first.
  """
  found = results.layers("contrastive", "layers/cosine_centred").values()
  return statistics.interval([
      last_third(x) - float(x[1:1 + math.ceil((len(x) - 1) / 3)].mean())
      for x in found])


def smoothing(results: results_lib.Results, arm: str) -> _Verdict:
  """Claim 3, of `report` or `all`."""
  control = CONTROLS[arm]
  share = _by_layers(results, arm, control, "residual_share")
  cosine = _by_layers(results, arm, control, "cosine_centred")
  there = smooths(results)
  lower = cosine.below(0)
  lacking = verdicts_lib.missing(
      results, (arm, control, "contrastive"), [share, cosine])
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif not there.low > 0:
    verdict = verdicts_lib.INCONCLUSIVE
    rule = "contrastive shows no over-smoothing at this depth"
  elif share.d.mean >= SHARE and share.above(0) and lower:
    verdict, rule = verdicts_lib.SUPPORTED, "share higher, cosine lower"
  elif lower and share.below(SHARE):
    verdict = "position, not content"
    rule = "cosine lower, and the share's interval below 0.02"
  elif share.below(SHARE):
    verdict, rule = verdicts_lib.REFUTED, "the share's interval below 0.02"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "no rule holds"
  return _Verdict(
      claim=f"3 {arm}", says="tasks on patches alleviate over-smoothing",
      verdict=verdict, rule=rule, differences=[share, cosine],
      notes=[f"over-smoothing of contrastive: the centred cosine rises by "
             f"{there.mean:.3f} ({there.low:.3f} to {there.high:.3f}) from the "
             "first third of the layers to the last"],
      change=f"supported needs a share of {SHARE:g} more (it is "
      f"{share.d.mean:+.3f}, from {share.d.low:.3f} to {share.d.high:.3f}) and "
      f"the cosine's upper end below 0 ({cosine.d.high:.3f})")


def skill_falls(
    results: results_lib.Results
) -> dict[str, tuple[verdicts_lib.Difference, float, bool]]:
  """Task -> how much skill it has less in `all` than alone.

  Behind the difference, alone less all: its size, as a share of the skill alone
  or absolute, and which.
  """
  found = {}
  for arm in results.expected:
    if arm.startswith("alone_"):
      name = f"skill/{arm.removeprefix('alone_')}"
      d = verdicts_lib.difference(results, arm, "all", name)
      alone = results.values(arm, name)
      base = float(np.mean([alone[x] for x in d.by_seed])) if (
          d.by_seed) else math.nan
      relative = base >= ABSOLUTE
      found[arm] = d, d.d.mean / (base if relative else 1), relative
  return found


def cosines(results: results_lib.Results) -> dict[str, float]:
  """Mean of gradients' cosines in `all`, late; by group of layers and pair."""
  found = {}
  for name in results.names("gradients/late/"):
    if name.split("/")[2] in GROUPS:
      values = results.values("all", name).values()
      if values:
        found[name.removeprefix("gradients/late/")] = float(
            np.mean(list(values)))
  return found


def moves(results: results_lib.Results) -> dict[str, Sequence[float]]:
  """Arm of other weights -> points of kNN above `all`, by seed."""
  return {arm: list(results.differences(arm, "all", "knn").values())
          for arm in results.expected if arm.startswith("weight_")}


def combine(results: results_lib.Results) -> _Verdict:
  """Claim 6."""
  falls, late, moved = skill_falls(results), cosines(results), moves(results)
  lacking = verdicts_lib.missing(
      results, ("all", *falls, *moved), [x for x, _, _ in falls.values()])
  for what, there in (("arms alone_TASK", falls), ("arms weight_*", moved),
                      ("cosines of late gradients", late)):
    lacking = lacking or ("" if there else f"missing: {what}")
  if any(not x for x in moved.values()):
    lacking = lacking or "some rows have no knn"

  def beyond(limits: tuple[float, float, float]) -> list[str]:
    return [f"{x.title} falls by {size:.3g}"
            for x, size, relative in falls.values()
            if x.above(0) and size > limits[0 if relative else 1]] + [
                f"cosine {name} {value:.3f}" for name, value in late.items()
                if value < limits[2]]

  harm = beyond(HARM) + [f"kNN of {arm} moves by {x[0]:+.2f}"
                         for arm, x in moved.items()
                         if max(map(abs, x), default=0) > MOVED]
  little = beyond(HARMLESS)
  against = dict.fromkeys(harm + little)
  if lacking:
    verdict, rule = verdicts_lib.NONE, lacking
  elif harm:
    verdict, rule = verdicts_lib.REFUTED, "; ".join(harm)
  elif not little:
    verdict, rule = verdicts_lib.SUPPORTED, "no fall, no opposed gradients"
  else:
    verdict, rule = verdicts_lib.INCONCLUSIVE, "; ".join(little)
  return _Verdict(
      claim="6", says="tasks combine freely", verdict=verdict, rule=rule,
      differences=[x for x, _, _ in falls.values()],
      notes=[f"{x.title}: {size:.3f} less in all, "
             f"{'of its skill alone' if relative else 'absolute'}"
             for x, size, relative in falls.values() if x.by_seed]
      + [f"kNN of {arm} moves by {x[0]:+.2f} points"
         for arm, x in moved.items() if x],
      change="supported needs this gone: " + "; ".join(against)
      if against else "refuted needs one fall over 25 %, one cosine "
      "below -0.1, or kNN moved by over 5 points")

"""What rows say of a study's arms and seeds, and which of them are missing."""

import base64
import math
from typing import Any, Mapping, Sequence

import numpy as np

from mtvit.study import rows as rows_lib
from mtvit.study import statistics

PROBES = ("knn", "linear")         # What has `correct` beside it.


class Results:
  """Which runs a study has, and what was measured of those that are done.

  Attributes:
    expected: arm -> its seeds.
    done: (arm, seed) -> row; of runs that the study has.
    strange: rows of runs that it does not have.
    cost: what `cost.measure` found, or None.
  """

  def __init__(
      self, expected: Mapping[str, Sequence[int]], rows: Sequence[rows_lib.Row],
      cost: Mapping[str, Any] | None = None
  ):
    self.expected = expected
    known = [r for r in rows if r.seed in expected.get(r.arm, ())]
    self.strange = [r for r in rows if r.seed not in expected.get(r.arm, ())]
    self.done = {(r.arm, r.seed): r for r in known if r.status == rows_lib.DONE}
    self._failed = {(r.arm, r.seed): r.reason for r in known
                    if r.status != rows_lib.DONE}
    self.cost = cost

  def missing(self, *arms: str) -> list[str]:
    """Runs that have no row, or failed ones alone, as a reader is told.

    Args:
      *arms: whose; of all if there is none.
    """
    found = []
    for arm in arms or self.expected:
      if arm not in self.expected:
        found.append(f"{arm}: the study has no such arm")
      for seed in self.expected.get(arm, ()):
        if (arm, seed) not in self.done:
          why = self._failed.get((arm, seed))
          found.append(f"{arm}, seed {seed}"
                       + (f": failed ({why})" if why else ""))
    return found

  def value(self, arm: str, seed: int, measure: str) -> Any:
    """Of one run; None if it is not known."""
    row = self.done.get((arm, seed))
    return None if row is None else row.measures.get(measure)

  def names(self, start: str = "") -> list[str]:
    """Of all measures that begin so, of any run, sorted."""
    return sorted({name for row in self.done.values() for name in row.measures
                   if name.startswith(start)})

  def seeds(self, *arms: str) -> list[int]:
    """Seeds of which every one of the arms is done."""
    first, *others = (
        {seed for name, seed in self.done if name == arm} for arm in arms)
    return sorted(first.intersection(*others))

  def values(self, arm: str, measure: str) -> dict[int, float]:
    """Seed -> number, of the runs that have it."""
    found = {seed: self.value(arm, seed, measure) for seed in self.seeds(arm)}
    return {seed: float(x) for seed, x in found.items()
            if isinstance(x, (int, float)) and math.isfinite(x)}

  def layers(self, arm: str, measure: str) -> dict[int, np.ndarray]:
    """Seed -> its list by layer, [layers + 1]; first the input of the blocks.

    A seed whose list has a hole (null) is left out.
    """
    found = {seed: self.value(arm, seed, measure) for seed in self.seeds(arm)}
    return {seed: np.asarray(x, np.float64) for seed, x in found.items()
            if x and all(isinstance(y, (int, float)) for y in x)}

  def differences(
      self, arm: str, against: str, measure: str,
      other: str | None = None
  ) -> dict[int, float]:
    """Seed -> the arm's measure less the other's, of seeds that have both.

    Args:
      arm: ours.
      against: theirs.
      measure: of ours.
      other: of theirs, if it is another one.
    """
    ours = self.values(arm, measure)
    theirs = self.values(against, other or measure)
    return {seed: ours[seed] - theirs[seed] for seed in sorted(
        ours.keys() & theirs.keys())}

  def over_images(
      self, arm: str, against: str, measure: str
  ) -> tuple[float, float] | None:
    """The bootstrap interval of a probe's difference, if rows have its images.

    In percentage points; None for what is no probe.
    """
    if measure not in PROBES:
      return None
    both = [(self._correct(arm, seed, measure),
             self._correct(against, seed, measure))
            for seed in self.seeds(arm, against)]
    pairs = [(x, y) for x, y in both if x is not None and y is not None]
    if not pairs or len({len(x) for pair in pairs for x in pair}) > 1:
      return None
    ours, theirs = np.moveaxis(np.array(pairs), 1, 0)      # [seeds, images]
    return statistics.bootstrap(ours, theirs)

  def _correct(self, arm: str, seed: int, measure: str) -> np.ndarray | None:
    """Whether each test image is right, bool [n]."""
    text = self.value(arm, seed, f"{measure}/correct")
    count = self.value(arm, seed, "num_test")
    if text is None or count is None:
      return None
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return bits[:count].astype(bool)

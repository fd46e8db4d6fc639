"""What is shown of a study: sections of tables, notes and plots."""

import dataclasses
import math
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from mtvit.pictures import effects
from mtvit.pictures import plots
from mtvit.study import gates as gates_lib
from mtvit.study import results as results_lib
from mtvit.study import statistics
from mtvit.study import verdicts as verdicts_lib

NONE = "–"
# Measure -> heading and digits, of the table of arms.
ARMS = {"knn": ("kNN %", 2), "linear": ("linear %", 2), "rankme": ("RankMe", 1),
        "position/r2": ("position R²", 3), "mosaic/accuracy": ("mosaic %", 1)}
LAYERS = {"cosine_centred": "cosine, centred", "image_share": "image share",
          "position_share": "position share",
          "residual_share": "residual share"}
_LINES = 11                      # Arms in a plot, at most.
_NAMED = 20                      # Missing runs that are named, at most.


class Table(NamedTuple):
  """Cells; the first column names the rows; `wordy` ones hold sentences."""
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  wordy: bool = False


class Plot(NamedTuple):
  """A picture: its file's name, what it shows, and who draws it there."""
  name: str
  alt: str
  draw: Callable[[Any], None]


@dataclasses.dataclass(frozen=True)
class Section:
  """A part; `name` is of its link, `blocks` are tables, plots and lines."""
  name: str
  title: str
  lead: str
  blocks: Sequence[Table | Plot | str]


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


def sections(found: Findings) -> list[Section]:
  """All parts that there is something to show in, gates first."""
  results = found.results
  parts = [rows(found), gates(found), answers(found), arms(results),
           comparisons(found), skills(results), layers(results),
           cheating(results), gradients(results), costs(results)]
  return [part for part in parts if part.blocks]


def number(x: float | None, digits: int = 2, sign: bool = False) -> str:
  """With so many digits behind the point; "–" for what is not known."""
  if x is None or not math.isfinite(x):
    return NONE
  return f"{x:{'+' if sign else ''}.{digits}f}"


def _range(ends: tuple[float, float] | None, digits: int) -> str:
  """Both ends of an interval; "–" if there is none."""
  if ends is None or not all(map(math.isfinite, ends)):
    return NONE
  return f"{number(ends[0], digits)} to {number(ends[1], digits)}"


def spread(values: Sequence[float], digits: int = 2) -> str:
  """A mean ± half of its interval."""
  x = statistics.interval(values)
  if x.n < 2:
    return number(x.mean, digits)
  return f"{number(x.mean, digits)} ± {number(x.high - x.mean, digits)}"


def rows(found: Findings) -> Section:
  """What is there and what is missing."""
  results = found.results
  total = sum(map(len, results.expected.values()))
  missing = results.missing()
  blocks: list[Table | Plot | str] = [*found.notes]
  if missing:
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    blocks.append(f"Missing: {'; '.join(missing[:_NAMED])}{more}.")
  if results.strange:
    blocks.append("Rows of no run of the study: " + "; ".join(
        f"{x.arm}, seed {x.seed}" for x in results.strange) + ".")
  return Section(
      "rows", "Rows", f"{len(results.done)} of {total} runs are done.",
      blocks or ["None is missing."])


def gates(found: Findings) -> Section:
  """What must hold before a verdict."""
  cells = [[x.name, f"passed: {x.found}" if x.passed
            else f"FAILED: {x.found}. What to do: {x.fix}"]
           for x in found.gates]
  return Section(
      "gates", "Gates", "What must hold before a verdict is looked at.",
      [Table(["gate", "found"], cells, True)])


def answers(found: Findings) -> Section:
  """The verdicts, if all gates are passed."""
  name, title = "verdicts", "Verdicts"
  if not gates_lib.all_pass(found.gates):
    bad = [x.name for x in found.gates if not x.passed]
    return Section(name, title, "", [
        f"No verdict: {len(bad)} of {len(found.gates)} gates failed: "
        f"{'; '.join(bad)}."])
  cells = [[f"{x.claim}: {x.says}", x.verdict, x.rule] for x in found.verdicts]
  change = [[x.claim, x.change] for x in found.verdicts]
  notes = [f"{x.claim}: {'; '.join(x.notes)}." for x in found.verdicts
           if x.notes]
  return Section(
      name, title, "The first rule of a claim that holds is its verdict; the "
      "rules were fixed beforehand.",
      [Table(["claim", "verdict", "because"], cells, True), *notes,
       Table(["claim", "another verdict would need"], change, True)]
      if cells else [])


def arms(results: results_lib.Results) -> Section:
  """Means of what was measured, with 95 % intervals over seeds."""
  shown = {key: x for key, x in ARMS.items() if key in results.names()}
  if not shown:
    return Section("arms", "Arms", "", [])
  cells = []
  for arm in results.expected:
    of_arm = [list(results.values(arm, key).values()) for key in shown]
    cells.append([arm, str(len(results.seeds(arm))), *(
        spread(x, digits) for x, (_, digits) in zip(of_arm, shown.values()))])
  return Section(
      "arms", "Arms", "Means ± half of the 95 % interval over seeds. "
      "Accuracies are of the readout that validation chose.",
      [Table(["arm", "n", *(x for x, _ in shown.values())], cells)])


def _differences(found: Sequence[verdicts_lib.Verdict]) -> Table:
  """A row for each difference."""
  cells = []
  for verdict in found:
    for x in verdict.differences:
      digits = 3 if "/" in x.measure or "share" in x.measure or (
          "cosine" in x.measure) else 2
      per_seed = " ".join(number(y, digits, True) for y in x.by_seed.values())
      cells.append([
          f"{verdict.claim}: {x.arm} − {x.against}"
          if " against " not in verdict.claim else verdict.claim, x.measure,
          per_seed or NONE, number(x.d.mean, digits, True),
          _range((x.d.low, x.d.high), digits),
          number(x.d.p, 4), number(verdict.p, 4),
          _range(x.images, 2)])
  return Table(["comparison", "measure", "d by seed", "mean", "95 % interval",
                "p", "p, Holm", "over images"], cells)


def comparisons(found: Findings) -> Section:
  """All differences, and a picture of those in points."""
  title = "Comparisons"
  of_study = found.comparisons or found.verdicts
  drawn = [
      effects.Effect(f"{x.arm} − {x.against}, {x.measure}", x.d.mean, x.d.low,
                     x.d.high, list(x.by_seed.values()))
      for verdict in of_study for x in verdict.differences
      if x.by_seed and x.measure in results_lib.PROBES]
  blocks: list[Table | Plot | str] = []
  if drawn:
    blocks.append(Plot(
        "effects", "Differences with their 95 % intervals over seeds",
        lambda file: effects.save(
            drawn, verdicts_lib.MARGIN, "percentage points", file)))
  for some in (found.comparisons, found.verdicts):
    if any(x.differences for x in some):
      blocks.append(_differences(some))
  return Section(
      "comparisons", title, "d is the difference within a seed, in percentage "
      "points for accuracies. p is one-sided, of a paired t test; Holm's "
      "correction goes over the claims of the table. The last column draws "
      "test images again, not seeds.", blocks)


def skills(results: results_lib.Results) -> Section:
  """Skill of each task in each arm."""
  names = results.names("skill/")
  cells = [[arm, *(spread(list(results.values(arm, x).values()), 3)
                   for x in names)]
           for arm in results.expected
           if any(results.values(arm, x) for x in names)]
  return Section(
      "skills", "Skill of each task", "On corrupted views of test images: 1 is "
      "no loss, 0 is the loss of knowing nothing.",
      [Table(["arm", *(x.removeprefix("skill/") for x in names)], cells)]
      if cells else [])


def layers(results: results_lib.Results) -> Section:
  """A plot of each measure over the layers."""
  names = sorted((arm for arm in results.expected
                  if results.layers(arm, f"layers/{next(iter(LAYERS))}")),
                 key=lambda arm: -len(results.seeds(arm)))[:_LINES]
  return Section(
      "layers", "Layer by layer", "Means over seeds, of patch tokens of clean "
      "images; layer 0 is what goes into the blocks.",
      [_layer_plot(results, names, key, title)
       for key, title in LAYERS.items()] if names else [])


def _layer_plot(
    results: results_lib.Results, names: Sequence[str], key: str, title: str
) -> Plot:
  series = {}
  for i, arm in enumerate(names):
    found = results.layers(arm, f"layers/{key}")
    if found:
      mean = np.mean(list(found.values()), 0)
      series[i] = list(enumerate(map(float, mean)))
  lines = [plots.Line(arm, i) for i, arm in enumerate(names)]
  return Plot(f"layers_{key}", f"{title} by layer", lambda file:
              plots.save_lines([(title, series)], lines, "layer", file, 1))


def cheating(results: results_lib.Results) -> Section:
  """Accuracies of position tasks on views that are blank."""
  names = [x for x in results.names("cheat/") if x.count("/") == 3]
  blanks = sorted({x.split("/", 2)[2] for x in names})
  cells = []
  for arm in results.expected:
    for task in sorted({x.split("/")[1] for x in names}):
      of_task = [[100 * x for x in results.values(
          arm, f"cheat/{task}/{rest}").values()] for rest in (*blanks, "chance")
      ]
      if any(of_task):
        cells.append([arm, task, *(spread(x, 1) for x in of_task)])
  return Section(
      "cheating", "Position without contents", "Accuracy in %, with the "
      "trained head or one refitted, if nothing, the patches' contents or "
      "their position embeddings are blank.",
      [Table(["arm", "task", *blanks, "chance"], cells)] if cells else [])


def gradients(results: results_lib.Results) -> Section:
  """Cosines of the tasks' gradients by third of training and by layers."""
  names = results.names("gradients/late/")
  groups = dict.fromkeys(x.split("/")[2] for x in names)
  cells = []
  for arm in results.expected:
    for group in groups:
      late = {x: list(results.values(arm, x).values()) for x in names
              if x.split("/")[2] == group}
      late = {x: values for x, values in late.items() if values}
      if late:
        lowest = min(late, key=lambda x: np.mean(late[x]))
        cells.append([arm, group, *(
            number(_mean_cosine(results, arm, third, group), 3)
            for third in ("early", "middle", "late")),
            f"{spread(late[lowest], 3)} {lowest.split('/')[3]}"])
  return Section(
      "gradients", "Do the tasks pull the same way?", "Cosines of gradients, "
      "by group of layers, in each third of training: the mean of all pairs of "
      "tasks, and the pair whose cosine is the lowest late.",
      [Table(["arm", "layers", "early", "middle", "late", "lowest, late"],
             cells)] if cells else [])


def _mean_cosine(
    results: results_lib.Results, arm: str, third: str, group: str
) -> float:
  found = [x for name in results.names(f"gradients/{third}/{group}/")
           for x in results.values(arm, name).values()]
  return float(np.mean(found)) if found else math.nan


def costs(results: results_lib.Results) -> Section:
  """FLOPs, seconds and memory."""
  measured: Mapping[str, Any] = (results.cost or {}).get("arms", {})
  cells = []
  for arm in results.expected:
    cost = measured.get(arm, {})
    flops, seconds = (list(results.values(arm, x).values()) for x in (
        "flops_step", "seconds_step"))
    if flops or cost:
      peak = cost.get("peak_bytes")
      cells.append([
          arm, number(float(np.mean(flops)) / 1e9 if flops else None, 1),
          number(1000 * float(np.median(seconds)) if seconds else None, 0),
          number(cost.get("flops_ratio"), 3), number(cost.get("ratio"), 3),
          number(peak / 1e6 if peak else None, 0)])
  against = (results.cost or {}).get("against", NONE)
  header = ["arm", "GFLOPs a step", "ms a step, in the run",
            f"FLOPs / {against}", f"time / {against}", "peak MB"]
  return Section(
      "costs", "Costs", "The ratio of times is of steps that took turns, apart "
      "from the runs.", [Table(header, cells)] if cells else [])

"""Sections of what was measured of each arm of a study."""

import math
from typing import Any, Mapping, Sequence

import numpy as np

from mtvit.pictures import plots
from mtvit.study import blocks
from mtvit.study import results as results_lib
from mtvit.study import verdicts

# Measure -> heading and digits, of the table of arms.
ARMS = {"knn": ("kNN %", 2), "linear": ("linear %", 2), "rankme": ("RankMe", 1),
        "position/r2": ("position R²", 3), "mosaic/accuracy": ("mosaic %", 1)}
LAYERS = ("cosine_centred", "image_share", "position_share", "residual_share")
_LINES = 11                      # Arms in a plot, at most.


def inside(results: results_lib.Results) -> list[blocks.Section]:
  """All but `arms`; what there is nothing to show of has no blocks."""
  return [readouts(results), skills(results), layers(results),
          cheating(results), gradients(results), costs(results)]


def arms(results: results_lib.Results) -> blocks.Section:
  """Means of what was measured, with 95 % intervals over seeds."""
  shown = {key: x for key, x in ARMS.items() if key in results.names()}
  if not shown:
    return blocks.Section("arms", "Arms", "", [])
  cells = []
  for arm in results.expected:
    of_arm = [list(results.values(arm, key).values()) for key in shown]
    cells.append([arm, str(len(results.seeds(arm))), *(
        blocks.spread(x, digits)
        for x, (_, digits) in zip(of_arm, shown.values()))])
  return blocks.Section(
      "arms", "Arms", "Means ± half of the 95 % interval over seeds. "
      "Accuracies are of the readout that validation chose.",
      [blocks.Table(["arm", "n", *(x for x, _ in shown.values())], cells)])


def readouts(results: results_lib.Results) -> blocks.Section:
  """Accuracy of each readout on validation images."""
  columns = sorted({x.partition("/")[2] for probe in results_lib.PROBES
                    for x in results.names(f"{probe}_val/")})
  cells = []
  for arm in results.expected:
    for probe in results_lib.PROBES:
      of_arm = [list(results.values(arm, f"{probe}_val/{x}").values())
                for x in columns]
      if any(of_arm):
        cells.append([arm, verdicts.TITLES.get(probe, probe),
                      *(blocks.spread(x, 1) for x in of_arm)])
  return blocks.Section(
      "readouts", "Readouts, on validation images", "Accuracy in % on a tenth "
      "of the training images, which these probes have not seen: what settings "
      "may be chosen by while the test images are unseen.",
      [blocks.Table(["arm", "probe", *columns], cells)] if cells else [])


def skills(results: results_lib.Results) -> blocks.Section:
  """Skill of each task in each arm."""
  names = results.names("skill/")
  cells = [[arm, *(blocks.spread(list(results.values(arm, x).values()), 3)
                   for x in names)]
           for arm in results.expected
           if any(results.values(arm, x) for x in names)]
  return blocks.Section(
      "skills", "Skill of each task", "On corrupted views of test images: 1 is "
      "no loss, 0 is the loss of knowing nothing.",
      [blocks.Table(["arm", *(x.removeprefix("skill/") for x in names)], cells)]
      if cells else [])


def layers(results: results_lib.Results) -> blocks.Section:
  """A plot of each measure over the layers."""
  names = sorted((arm for arm in results.expected
                  if results.layers(arm, f"layers/{LAYERS[0]}")),
                 key=lambda arm: -len(results.seeds(arm)))[:_LINES]
  return blocks.Section(
      "layers", "Layer by layer", "Means over seeds, of patch tokens of clean "
      "images; layer 0 is what goes into the blocks.",
      [_layer_plot(results, names, key, plots.MEASURES[key])
       for key in LAYERS] if names else [])


def _layer_plot(
    results: results_lib.Results, names: Sequence[str], key: str, title: str
) -> blocks.Plot:
  series = {}
  for i, arm in enumerate(names):
    found = results.layers(arm, f"layers/{key}")
    if found:
      mean = np.mean(list(found.values()), 0)
      series[i] = list(enumerate(map(float, mean)))
  lines = [plots.Line(arm, i) for i, arm in enumerate(names)]
  return blocks.Plot(
      f"layers_{key}", f"{title} by layer", lambda file: plots.save_lines(
          [(title, series)], lines, "layer", file, 1))


def cheating(results: results_lib.Results) -> blocks.Section:
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
        cells.append([arm, task, *(blocks.spread(x, 1) for x in of_task)])
  return blocks.Section(
      "cheating", "Position without contents", "Accuracy in %, with the "
      "trained head or one refitted, if nothing, the patches' contents or "
      "their position embeddings are blank.",
      [blocks.Table(["arm", "task", *blanks, "chance"], cells)]
      if cells else [])


def gradients(results: results_lib.Results) -> blocks.Section:
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
            blocks.number(_mean_cosine(results, arm, third, group), 3)
            for third in ("early", "middle", "late")),
            f"{blocks.spread(late[lowest], 3)} {lowest.split('/')[3]}"])
  return blocks.Section(
      "gradients", "Do the tasks pull the same way?", "Cosines of gradients, "
      "by group of layers, in each third of training: the mean of all pairs of "
      "tasks, and the pair whose cosine is the lowest late.",
      [blocks.Table(
          ["arm", "layers", "early", "middle", "late", "lowest, late"], cells)]
      if cells else [])


def _mean_cosine(
    results: results_lib.Results, arm: str, third: str, group: str
) -> float:
  found = [x for name in results.names(f"gradients/{third}/{group}/")
           for x in results.values(arm, name).values()]
  return float(np.mean(found)) if found else math.nan


def costs(results: results_lib.Results) -> blocks.Section:
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
          arm, blocks.number(float(np.mean(flops)) / 1e9 if flops else None, 1),
          blocks.number(
              1000 * float(np.median(seconds)) if seconds else None, 0),
          blocks.number(cost.get("flops_ratio"), 3),
          blocks.number(cost.get("ratio"), 3),
          blocks.number(peak / 1e6 if peak else None, 0)])
  header = ["arm", "GFLOPs a step", "ms a step, in the run"]
  text = ""
  if results.cost:
    against = results.cost["against"]
    header += [f"FLOPs / {against}", f"time / {against}", "peak MB"]
    text = ("The ratio of times is of steps that took turns, apart from the "
            "runs.")
  cells = [row[:len(header)] for row in cells]
  return blocks.Section(
      "costs", "Costs", text, [blocks.Table(header, cells)] if cells else [])

"""The report's sections on how a run was trained."""

import json
from typing import Any, Mapping, Sequence

from mtvit.pictures import panels
from mtvit.pictures import plots
from mtvit.report import figures
from mtvit.report import formats
from mtvit.report import markup
from mtvit.report import page
from mtvit.report import runs as runs_lib
from mtvit.run import config_values

# What one looks at first; the full config is there too.
KEYS = ("model.variant", "model.image_size", "data.name", "input", "forward",
        "batch_size", "total_steps", "total_epochs", "optimizer.base_lr",
        "optimizer.weight_decay", "weighting.kind", "init_from", "seed")
_POINTS = 400                  # Of a curve, at most.
# What says how good the features are.
_SCORES = {"knn/accuracy": "kNN accuracy on test images",
           "retrieval/top1": "finds another view of the same image"}


def config(book: runs_lib.Book) -> page.Section:
  """The keys that matter, or in which the runs differ."""
  flat = [config_values.flatten(run.config) for run in book.runs]
  if len(book.runs) == 1:
    lead = ("How the run was set up; every task that trains adds its loss, "
            "times its weight.")
    keys = [key for key in KEYS if key in flat[0]]
    flat[0]["tasks, and their weights"] = ", ".join(
        f"{task} {flat[0].get(f'tasks.{task}.weight')}"
        for task in trained_tasks(book.runs[0])) or "none"
    keys.append("tasks, and their weights")
  else:
    lead = ("The keys in which the runs differ; all others are the same. "
            f"{formats.NONE} means that a run does not have the key.")
    keys = [key for key in sorted(set().union(*flat))
            if any(key not in f or f[key] != flat[0].get(key) for f in flat)]
  parts = [markup.missing(f"{run.name} has no config.json")
           for run in book.runs if not run.config]
  if keys:
    shown = lambda f, key: formats.setting(f[key]) if key in f else formats.NONE
    parts.append(markup.tag("div", markup.table(
        ["key", *(run.name for run in book.runs)],
        [[key, *(shown(f, key) for f in flat)] for key in keys]),
        class_="text"))
  elif len(book.runs) > 1:
    parts.append(markup.tag("p", "The configs are the same."))
  parts += [markup.fold(f"The full config of {run.name}", markup.tag(
      "pre", json.dumps(run.config, indent=2)))
      for run in book.runs if run.config]
  return page.Section(
      name="config", title="Configuration", lead=lead, body=markup.join(parts))


def trained_tasks(run: runs_lib.Run) -> list[str]:
  """The tasks whose loss the run trained on."""
  return [name for name, task in run.config.get("tasks", {}).items()
          if isinstance(task, Mapping) and task.get("mode") == "train"]


def curves(book: runs_lib.Book) -> page.Section:
  """Losses, skills and kNN over the steps, the runs on top of each other."""
  parts = [markup.missing(f"{run.name} has no reports in metrics.jsonl yet")
           for run in book.runs if not run.lines]
  panels = curve_panels([run.lines for run in book.runs])
  if panels:
    parts.append(figures.grid(
        book, "curves", panels, [run.name for run in book.runs], "step"))
  return page.Section(
      name="curves", title="Training curves", lead=(
          "A skill is 1 minus the loss divided by that of always giving the "
          "same answer: 0 knows nothing, 1 is perfect. kNN is the share of "
          "test images that the nearest training images classify right; the "
          "dashed line is random init, which has learnt nothing."),
      body=markup.join(parts))


def curve_panels(
    runs: Sequence[Sequence[Mapping[str, float]]]
) -> list[plots.Panel]:
  """The plots: title, and points (step, value); see `figures.grid`.

  No sums of losses of different tasks, which say nothing.

  Args:
    runs: lines of metrics.jsonl of each.
  """
  keys = {key for lines in runs for line in lines for key in line}
  wanted = [*_SCORES]
  wanted += sorted(key for key in keys if key.endswith("/skill"))
  wanted += sorted(key for key in keys if key.endswith("_spread"))
  wanted += ["train/learning_rate", "train/grad_norm"]
  panels: list[plots.Panel] = []
  for key in wanted:
    series = {}
    for i, lines in enumerate(runs):
      points = [(line["step"], line[key]) for line in lines if key in line]
      if points:
        series[i] = points[::-(-len(points) // _POINTS)]
        at_random = [line[f"{key}_random_init"] for line in lines
                     if f"{key}_random_init" in line]
        if at_random:
          series[i + len(runs)] = [
              (points[0][0], at_random[-1]), (points[-1][0], at_random[-1])]
    if series:
      panels.append((_SCORES.get(key, key), series))
  return panels


def tasks(book: runs_lib.Book) -> page.Section:
  """The pictures that a run leaves of each task."""
  parts = []
  for run in book.runs:
    # Of the folder's pictures only those of tasks: others are drawn anew.
    files = [file for file in runs_lib.inside(run.folder / "report")
             if file.suffix == ".png" and file.stem in trained_tasks(run)]
    if len(book.runs) > 1:
      parts.append(markup.tag("h3", run.name))
    if not files:
      parts.append(markup.missing(
          "No pictures of tasks; the end of a run makes them",
          run.command("pretrain")))
    parts += [markup.fold(file.stem, markup.picture(
        file, f"Views of the task {file.stem}: input, prediction and truth"))
        for file in files]
  return page.Section(
      name="tasks", title="What the tasks look like", lead=(
          "Some training views of each task at the end of the run: what the "
          "model sees, what it predicts, and the truth. Frames and arrows mark "
          "the patches that are asked about."),
      body=markup.join(parts))


def gradients(book: runs_lib.Book) -> page.Section:
  """How the tasks' gradients lie to each other."""
  parts = []
  for i, run in enumerate(book.runs):
    if len(book.runs) > 1:
      parts.append(markup.tag("h3", run.name))
    files = [file for group in panels.GROUPS for file in panels.save_gradients(
        run.lines, book.drawing(f"gradients_{i + 1}_{group}"), [group])]
    if files:
      parts.append(markup.tag("div", *(markup.picture(
          file, "Cosines between the gradients of the tasks, by layers")
          for file in files), class_="plots matrices"))
    else:
      parts.append(markup.missing(
          "The run did not look at its gradients; a run does with",
          "--config.diagnose_every=200"))
  return page.Section(
      name="gradients", title="Do the tasks pull the same way?", lead=(
          "Cosine between the gradients of every two tasks, averaged over the "
          "run: red tasks help each other, blue ones work against each other, "
          "white ones do not meet. The number under a name is the length of "
          "its gradient."),
      body=markup.join(parts))


def environment(book: runs_lib.Book) -> page.Section:
  """What the runs ran on, and how fast."""
  rows: dict[str, dict[str, Any]] = {}
  parts = []
  for run in book.runs:
    if not run.result:
      parts.append(markup.missing(
          f"{run.name} has not ended; to continue it",
          run.command("pretrain")))
    speed = run.score("train/images_per_second")
    found = {
        "steps": formats.number(run.score("steps"), 0),
        "training time": formats.seconds(run.score("seconds")),
        "images per second": formats.number(speed, 0)}
    for evaluation in run.evaluations:
      found[f"evaluation on {evaluation.data}"] = formats.seconds(
          evaluation.values.get("seconds"))
    versions = dict(run.result.get("versions") or {})
    for evaluation in run.evaluations:
      versions = (evaluation.values.get("versions") or {}) | versions
    for key, value in (found | versions).items():
      rows.setdefault(key, {})[run.name] = value
  parts.append(markup.table(
      ["", *(run.name for run in book.runs)],
      [[key, *(values.get(run.name, formats.NONE) for run in book.runs)]
       for key, values in rows.items()]))
  return page.Section(
      name="environment", title="Environment", lead=(
          "How long it took, and the versions of the packages."),
      body=markup.join(parts))

"""The report's study: its arms are what they are called, and all pinned."""

import collections
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.run import config_values
from mtvit.study import arms
from mtvit.study import blocks
from mtvit.study import document
from mtvit.study import gates
from mtvit.study import show
from mtvit.training import run_tasks

FILE = pathlib.Path(__file__).parents[2] / "configs" / "study_report.py"
# What no result depends on, or what the argument of the config sets.
FREE = {
    "accumulate", "checkpoint_every", "forward", "init_from", "input",
    "keep_checkpoints", "log_every", "max_skipped_steps", "profile_steps",
    "seed", "total_epochs", "views", "watchdog_seconds", "model.attention",
    "model.extra_tokens", "model.kind", "model.remat", "model.unroll",
    "model.variant",
    # Of another kind of the task or the weighting than the one that is pinned.
    "tasks.contrastive.momentum", "tasks.contrastive.queue_size",
    "tasks.jigsaw.num_permutations", "weighting.dwa_temperature",
    "weighting.dwa_window"}


@pytest.fixture(scope="module")
def studies():
  return {tier: arms.load(f"{FILE}:{tier}").study
          for tier in ("smoke", "cpu", "gpu", "imagenet")}


def test_every_tier_has_all_arms_and_fits(studies):
  names = {tuple(arm.name for arm in x.arms) for x in studies.values()}
  assert len(names) == 1 and len(names.pop()) == 30
  for tier, study in studies.items():
    for arm in study.arms:
      config = config_lib.parse(study.resolve(arm))
      run_tasks.create(config)           # Counts of patches fit the grid.
      side = run_tasks.geometry(config).grid[0]
      assert side == (14 if tier == "imagenet" else 8)
      counts = config.tasks["relative_position"]["num_pairs"] * 2 + (
          config.tasks["colorize"]["num_patches"])
      assert counts / side**2 == pytest.approx(1 / 4, abs=0.01)


def test_passes_of_their_own_get_a_third_of_the_steps(studies):
  for tier, steps in (("smoke", 2), ("cpu", 100), ("gpu", 400)):
    raw = studies[tier].resolve(studies[tier].arm("separate_compute"))
    assert (raw["forward"], raw["total_steps"]) == ("separate", steps)
    tasks = run_tasks.create(config_lib.parse(raw))
    assert {task.name for task in tasks if task.trains} == {
        "contrastive", "relative_position", "colorize"}


def test_arms_differ_in_what_they_are_called_alone(studies):
  study = studies["cpu"]
  digests = collections.defaultdict(list)
  for arm in study.arms:
    digests[study.digest(arm)].append(arm.name)
  assert [x for x in digests.values() if len(x) > 1] == [
      ["contrastive", "contrastive_again"]]
  flat = {arm.name: config_values.flatten(study.resolve(arm))
          for arm in study.arms}

  def changed(arm, other):
    return {key for key in flat[arm] if flat[arm][key] != flat[other][key]}

  assert changed("report_drop", "report") == {
      "tasks.relative_position.position"}
  assert changed("harmonised", "report") == {"input"}
  assert changed("separate_compute", "report") == {
      "forward", "total_steps", "diagnose_every"}
  assert changed("separate", "report") == {"forward"}
  assert changed("report_sincos", "report") == {
      "model.position_init", "optimizer.trainable"}
  assert changed("control", "report") == {
      "tasks.relative_position.mode", "tasks.colorize.mode"}
  assert changed("random", "contrastive") == set()
  assert flat["separate_compute"]["total_steps"] * 3 == (
      flat["report"]["total_steps"])


def test_seeds_and_order(studies):
  study = studies["cpu"]
  runs = [(run.arm.name, run.seed) for run in study.runs()]
  assert len(runs) == len(set(runs)) == 5 * 11 + 3 * 7 + 12
  assert runs[10] == ("harmonised", 0) and runs[11] == ("random", 1)
  assert {seed for _, seed in runs[:55]} == set(range(5))
  assert all(name.startswith("alone_") for name, _ in runs[55:76])


def test_no_default_of_a_config_can_change_a_result(studies):
  study = studies["cpu"]
  of_argument = {f"tasks.{x}.mode" for x in study.resolve(
      study.arms[0])["tasks"]}
  keys = {key for key in config_values.flatten(study.resolve(study.arms[0]))
          if not key.startswith(("data.", "mesh.", "knn."))}
  assert keys - set(study.changes) - of_argument == FREE


@pytest.fixture
def committed(tmp_path):
  """A copy of the study, and of the rows that stand beside it."""
  for file in (FILE, FILE.with_suffix(".cpu.jsonl")):
    shutil.copy(file, tmp_path)
  return arms.load(f"{tmp_path / FILE.name}:cpu")


def test_committed_rows_can_be_compared(committed):
  found = show.findings(committed)
  assert not found.notes and not found.results.strange
  for gate in (found.gates[0], *gates.general(found.results)):
    assert gate.passed, gate


def test_tables_are_made_of_the_committed_rows(committed):
  lines = [json.loads(x) for x in committed.rows.read_text().splitlines()]
  lines = [x for x in lines if x["kind"] == "run" and x["status"] == "done"]
  by_arm = collections.defaultdict(list)
  for line in lines:
    by_arm[line["arm"]].append(line["measures"])
  text = show.markdown("S", document.sections(show.findings(committed)))
  assert f"{len(lines)} of 88 runs are done" in text
  validation = text.split("## Readouts")[1].split("\n## ")[0].splitlines()
  _, _, *readouts = next(
      x for x in validation if x.startswith("| arm ")).strip("| ").split(" | ")
  for arm, found in by_arm.items():
    knn = np.mean([x["knn"] for x in found])
    assert f"\n| {arm} | {len(found)} | {knn:.2f}" in text
    row = next(x for x in validation if x.startswith(f"| {arm} | linear | "))
    for readout, cell in zip(readouts, row.strip("| ").split(" | ")[2:]):
      values = [x.get(f"linear_val/{readout}", np.nan) for x in found]
      assert cell.split()[0] == (
          "–" if np.isnan(values).any() else f"{np.mean(values):.1f}")


@pytest.mark.parametrize("study, places", [
    ("study_report.py:cpu", (
        ("README.md", "Is the report right?", 7),
        ("mtvit/study/README.md", "What was found", 40))),
    ("study_weights.py", (
        ("mtvit/study/README.md", "The weight of relative position", 5),))])
def test_tables_of_the_readmes_are_made_of_the_committed_rows(study, places):
  root = FILE.parents[1]
  found = show.findings(arms.load(f"{root}/configs/{study}"))
  assert not found.results.missing()
  tables = [x for part in document.sections(found) for x in part.blocks
            if isinstance(x, blocks.Table)]
  shown = {tuple(row) for x in tables for row in x.rows}
  shown |= {tuple(row[:3]) for x in document.answers(found).blocks
            for row in x.rows}
  for file, of_heading, least in places:
    section = (root / file).read_text().split(f"## {of_heading}\n")[1].split(
        "\n## ")[0]
    told = [tuple(x.strip("| ").split(" | ")) for x in re.findall(
        r"^\| (?!!).*", re.sub(r"^.*\n\|---.*", "", section, flags=re.M),
        re.M)]
    assert len(told) >= least and set(told) <= shown, set(told) - shown


def test_a_committed_row_that_is_deleted_is_noticed(committed):
  lines = committed.rows.read_text().splitlines(keepends=True)
  lost = next(x for x in lines if '"status": "done"' in x)
  lines.remove(lost)
  committed.rows.write_text("".join(lines))
  run = json.loads(lost)
  assert f"{run['arm']}, seed {run['seed']}" in show.findings(
      committed).results.missing(run["arm"])

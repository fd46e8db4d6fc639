"""The smallest tier of the report's study: its whole machinery, for real."""

import pathlib
import shutil

import pytest

from mtvit.study import arms
from mtvit.study import rows
from mtvit.study import show
from tests import commands

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
FILE = ROOT / "configs" / "study_report.py"
# Arms of more tasks are in the test of the other tier, and first parameters in
# `test_running`.
ARMS = ("contrastive", "control_nothing")
# The study of another tier at sizes of the first.
SMALL = '''\
import dataclasses
import runpy

FILE = runpy.run_path({file!r})


def get_study():
  study = FILE["get_study"]("gpu")
  return dataclasses.replace(study, measures=FILE["FEW"], changes={{
      **study.changes, "data.name": "photo_tiles", "batch_size": 16,
      "total_steps": 3, "diagnose_every": 1,
      "tasks.supervised.num_classes": 12}})
'''


def run(name, chosen, folder):
  """What `mtvit study run` printed, on one device as users have it."""
  done = commands.run(
      "mtvit.study.command", "run", name, "--seeds=0", "--workers=2",
      f"--arms={','.join(chosen)}", f"--workdir={folder / 'runs'}",
      timeout=1200, XLA_FLAGS=commands.QUICK)
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def test_smoke(tmp_path):
  name = f"{shutil.copy(FILE, tmp_path)}:smoke"
  printed = run(name, ARMS, tmp_path)
  named = arms.load(name)
  done = rows.read(named.rows).done()
  assert done.keys() == {(arm, 0) for arm in ARMS}
  for measures in (row.measures for row in done.values()):
    assert measures["num_classes"] == 12 and measures["num_test"] == 100
    assert (measures["steps"], measures["skipped"]) == (6, 0)
    assert len(measures["layers/residual_share"]) == 5
    assert {"knn", "linear", "knn_gray", "rankme"} <= measures.keys()
    assert [key for key in measures if key.startswith("skill/")] == [
        "skill/contrastive"]
  gates = {gate.name: gate.passed for gate in show.findings(named).gates}
  for gate in (
      "corruption that is none changes nothing",
      "no run skipped a step", "one kind of machine within a seed",
      "one digest of the training code", "one digest of the data",
      "rows are of the study's configs"):
    assert gates[gate], gate
  # One seed has no interval, and nothing is said of the claims.
  assert not gates["contrastive learns: kNN above random init"]
  assert "No verdict: " in printed and "2 of 38 runs are done" in printed


def test_the_tier_for_a_gpu_at_sizes_of_a_cpu(tmp_path):
  file = tmp_path / "small.py"
  file.write_text(SMALL.format(file=str(FILE)))
  run(str(file), ("all_control", "all"), tmp_path)
  named = arms.load(str(file))
  assert named.study.resolve(named.study.arm("all"))["model"][
      "dtype"] == "bfloat16"
  done = rows.read(named.rows).done()
  assert done.keys() == {("all_control", 0), ("all", 0)}
  digests = {row.measures["images_digest"] for row in done.values()}
  assert len(digests) == 1
  found = done["all", 0].measures
  assert len([key for key in found if key.startswith("skill/")]) == 7
  assert "cheat/relative_position/contents/refitted" in found
  assert any(key.startswith("gradients/late/") for key in found)

"""The table of plans, from files that are there."""

import dataclasses
import pathlib
import shlex

import pytest

from mtvit.planning import compiler
from mtvit.planning import show
from mtvit.tools import plan_table
from tests import commands
from tests.planning import test_estimate

ROOT = pathlib.Path(__file__).parents[2]


def run(*args):
  return commands.run("mtvit.tools.plan_table", *args)


def test_rows_are_what_the_readme_shows():
  rows = plan_table.rows()
  models = {(r.variant, r.topology) for r in rows if r.table == "models"}
  assert len(models) == 6 * 3
  scaling = [r.topology for r in rows if r.table == "scaling"]
  assert scaling[0] == "v5e:2x4" and scaling[-1] == "v5e:16x16"
  assert len({r.name for r in rows}) == len(rows)
  # Only rows of the same settings share a file.
  files = {}
  for row in rows:
    other = files.setdefault(
        row.file(ROOT), dataclasses.replace(row, table=""))
    assert other == dataclasses.replace(row, table="")


def test_planned_rows_become_a_table(tmp_path, monkeypatch):
  monkeypatch.setattr(compiler, "versions", lambda: {"libtpu": "1"})
  rows = [r for r in plan_table.rows() if r.table == "scaling"][:2]
  for i, row in enumerate(rows):
    show.write(row.file(tmp_path), {}, [test_estimate.made(
        topology=row.topology, chips=8 * 2**i,
        images_per_second=1000.0 * (1 + 0.9 * i))])
  done = run(f"--output={tmp_path}", "--only=scaling/.*(2x4|:4x4)")
  assert done.returncode == 0, done.stderr
  first, second = [line for line in done.stdout.splitlines()
                   if line.startswith("| S/16")]
  assert ("| v5e:2x4 | 64 | 8x1x1, remat none, unrolled | 1,000 | 100.0% |"
          in first)
  assert "| v5e:4x4 |" in second and "| 1,900 | 95.0% | 119 |" in second
  assert "estimated by the compiler, not measured" in done.stdout
  assert done.stderr == ""                    # Nothing was planned anew.


def test_what_does_not_fit_has_no_speed():
  row = plan_table.rows()[0]
  made = test_estimate.made()
  small = dataclasses.replace(made.memory, fits=False, total=99 * 2.0**30)
  lines = plan_table.markdown("models", [
      (row, dataclasses.replace(made, memory=small, time=None)),
      (row, made)]).splitlines()
  assert lines[-2].endswith("| 99.0 | no |  |  |  |  |")
  assert lines[-1].endswith("| 7.5 | yes | 125 | 25.0% | 4 | compute |")
  assert {line.count("|") for line in lines[2:]} == {12}


def test_commands_are_listed():
  done = run("--output=DIR", "--only=g/14.*v5p", "--list")
  (words,) = [shlex.split(line) for line in done.stdout.splitlines()]
  assert "--config=imagenet:variant=g/14,strategy=report" in words
  assert "--topology=v5p:8x8x16" in words


@pytest.mark.parametrize("args, said", [
    ([], "--output is missing"), (["--output=x", "--only=("], "--only")])
def test_wrong_flags(args, said):
  done = run(*args)
  assert done.returncode == 2 and said in done.stderr
  assert len(done.stderr.splitlines()) <= 5

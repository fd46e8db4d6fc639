"""`study show` from rows alone: what is printed, and the page."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from mtvit.study import arms
from mtvit.study import document
from mtvit.study import measured
from mtvit.study import rows
from mtvit.study import show
from tests import browser
from tests.study import synthetic

FILE = """
from mtvit.study import arms
def get_study():
  return arms.Study(
      config="quickstart", claims={claims!r}, arms=tuple(
          arms.Arm(name, {{"total_steps": 9}}, seeds=n)
          for name, n in {seeds!r}.items()),
      comparisons=(arms.Comparison("report", "contrastive"),
                   arms.Comparison("all", "control", ("knn",))))
"""
CLAIMS = "mtvit.study.report_claims"


def write(folder, world, claims=CLAIMS):
  """A study with the rows of a world, as `run` leaves them."""
  file = folder / "made_up.py"
  file.write_text(FILE.format(claims=claims, seeds=world.seeds))
  named = arms.load(str(file))
  digest = named.study.digest(named.study.arms[0])    # Of all of them.
  for row in world.rows():
    rows.append(named.rows, dataclasses.replace(row, config_digest=digest))
  if world.cost:
    rows.append_cost(named.rows, world.cost)
  return named


def section(text, title):
  return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def cells(text, start):
  line = next(x for x in text.splitlines() if re.match(
      rf"\| {re.escape(start)}( \||: )", x))
  return [x.strip() for x in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def effective():
  world = synthetic.World()
  world.shift("report", "probes", 3).shift("report", "position/r2", 0.2, 0.1)
  return world


@pytest.fixture(scope="module")
def shown(tmp_path_factory, effective):
  folder = tmp_path_factory.mktemp("show")
  named = write(folder, effective)
  return named, show.markdown("S", document.sections(show.findings(named)))


def test_verdicts_are_printed(shown):
  _, text = shown
  found = section(text, "Verdicts")
  assert cells(found, "1 report")[1] == "supported"
  assert cells(found, "1 all")[1] == "refuted"
  assert cells(found, "2")[1] == "gains"
  assert [cells(found, x)[1] for x in (
      "3 report", "3 all", "4", "5", "6")] == [
          "refuted", "refuted", "supported", "supported", "supported"]
  assert cells(found, "1 report")[2].startswith(
      "report − contrastive: kNN +3.00 (2.75 to 3.25), linear +3.00 (2.75 to "
      "3.25); report − control: kNN +3.00 (")
  assert "report − control: position R² +0.200 (0.175 to 0.225), kNN" in cells(
      found, "2")[2]
  assert "\n| 2 | does not cheat" in found
  assert "FAILED" not in text


def test_tables_have_means_intervals_and_each_seed(shown):
  _, text = shown
  arm = cells(section(text, "Arms"), "report")
  assert arm[:2] == ["report", "5"]
  assert arm[2].startswith("64.40 ± ")       # 60 + 3, and the seeds' own 1.4.
  row = cells(section(text, "Comparisons"), "1 report: report − contrastive")
  assert row[2:5] == [
      "+2.70 +3.10 +3.20 +2.90 +3.10", "+3.00", "2.75 to 3.25"]
  assert cells(section(text, "Costs"), "report")[3:5] == ["1.020", "1.100"]


def test_no_ratio_of_costs_stands_where_none_was_measured(tmp_path):
  world = synthetic.World()
  world.cost = None
  world.arms["report"]["flops_step"] = np.full(5, 2e9)
  world.arms["report"]["seconds_step"] = np.full(5, 0.25)
  text = section(show.markdown("S", document.sections(show.findings(
      write(tmp_path, world)))), "Costs")
  assert cells(text, "arm") == [
      "arm", "GFLOPs a step", "ms a step, in the run"]
  assert cells(text, "report") == ["report", "2.0", "250"]


def test_no_verdict_stands_behind_a_shut_gate(tmp_path):
  world = synthetic.World().shift("report", "probes", 3)
  world.arms["all"]["skipped"][2] = 1
  text = show.markdown("S", document.sections(show.findings(
      write(tmp_path, world))))
  assert "| no run skipped a step | FAILED: all, seed 2: 1.0. What" in text
  assert "No verdict: 1 of 10 gates failed" in section(text, "Verdicts")
  assert "supported" not in text


def test_deleting_a_row_is_noticed(tmp_path, effective):
  named = write(tmp_path, effective)
  lines = named.rows.read_text().splitlines(keepends=True)
  (lost,) = [x for x in lines if '"control", "seed": 3,' in x]
  named.rows.write_text("".join(x for x in lines if x != lost))
  text = show.markdown("S", document.sections(show.findings(named)))
  assert "Missing: control, seed 3." in text
  # Its images can't be compared with those of report.
  assert "No verdict: 1 of 10 gates failed" in text


def test_a_claim_without_all_its_rows_names_some_and_shows_the_others(
    tmp_path, effective):
  named = write(tmp_path, effective)
  lines = named.rows.read_text().splitlines(keepends=True)
  named.rows.write_text("".join(
      x for x in lines if '"arm": "alone_' not in x
      or '"arm": "alone_jigsaw"' in x))
  text = section(show.markdown(
      "S", document.sections(show.findings(named))), "Verdicts")
  _, verdict, effect, because = cells(text, "6")
  assert verdict == "no verdict yet" and "nan" not in text
  assert effect.startswith("alone − all: skill of jigsaw ")
  assert because.startswith("missing: alone_") and because.endswith(" more")
  assert because.count(";") == 5


def test_a_study_without_claims_has_the_general_rule(tmp_path, effective):
  named = write(tmp_path, effective, claims="")
  text = show.markdown("S", document.sections(show.findings(named)))
  assert cells(section(text, "Verdicts"), "report against contrastive")[1] == (
      "supported")
  assert cells(section(text, "Verdicts"), "all against control")[1] == "refuted"
  named.rows.unlink()
  found = section(show.markdown("S", document.sections(show.findings(
      named))), "Verdicts")
  assert cells(found, "all against control")[0] == (
      "all against control: better by 1 in kNN")
  assert cells(found, "all against control")[1] == "no verdict yet"
  assert "nan" not in found and "would need" not in found


def test_rows_of_another_config_shut_a_gate(tmp_path, effective):
  named = write(tmp_path, effective)
  file = named.file
  file.write_text(file.read_text().replace("9}", "8}"))
  text = show.markdown("S", document.sections(show.findings(
      arms.load(str(file)))))
  assert "| rows are of the study's configs | FAILED: " in text


def test_an_empty_study_says_what_is_missing(tmp_path):
  world = synthetic.World()
  world.lost = {(x.arm, x.seed) for x in world.rows()}
  world.cost = None
  text = show.markdown("S", document.sections(show.findings(
      write(tmp_path, world, claims=""))))
  assert "0 of 84 runs are done" in text
  assert "Missing: random, seed 0; random, seed 1" in text
  assert "no verdict yet" in section(text, "Verdicts")


@pytest.mark.skipif(browser.find() is None, reason="no Chromium")
def test_the_page(shown, tmp_path, capsys):
  named, _ = shown
  show.show(named, str(tmp_path / "out"))
  assert "## Verdicts" in capsys.readouterr().out
  page = tmp_path / "out" / "index.html"
  for width in (1280, 500):
    file = tmp_path / f"{width}.png"
    done = browser.screenshot(page, file, width, 2000)
    assert browser.console(done) == []
    with Image.open(file) as image:
      assert len(image.convert("RGB").getcolors(2**24)) > 100
  text = page.read_text()
  assert text.count("<img ") == 5                    # Effects, four by layer.
  assert not re.search(r"<script|https?://", text)
  assert {x.name for x in page.parent.glob("*.png")} == {
      "effects.png", *(f"layers_{x}.png" for x in measured.LAYERS)}


def test_neither_tensorflow_nor_a_device_is_needed(shown):
  named, _ = shown
  program = (
      "import sys; from mtvit.study import arms, show\n"
      f"show.show(arms.load({str(named.file)!r}))\n"
      "from jax._src import xla_bridge\n"
      "print('tensorflow' in sys.modules, xla_bridge._backends)\n")
  done = subprocess.run(
      [sys.executable, "-c", program], capture_output=True, text=True,
      timeout=120)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == "False {}"

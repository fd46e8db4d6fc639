"""The HTML report: what it says and escapes, and how a browser shows it."""

import html
import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from mtvit.probes import verdict
from mtvit.report import encoder
from mtvit.report import runs as runs_lib
from tests import browser
from tests.report import material

ROOT = pathlib.Path(__file__).parents[2]
needs_browser = pytest.mark.skipif(
    browser.find() is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """The report of a whole run, and its file."""
  folder = material.make(tmp_path_factory.mktemp("one") / "run")
  file = folder / "report" / "index.html"
  material.write(file, folder)
  return file


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
  """The report of two runs in whose files every string is hostile."""
  root = tmp_path_factory.mktemp("hostile")
  bad = "</td></script><script>console.error(1)</script>" + material.HOSTILE
  values = material.evaluation(
      name=bad, classes=[bad, "b"], readouts=(bad, "gap"))
  values["probes"]["test"][0]["probe"] = values["probes"]["layers"][0][
      "probe"] = bad
  values["versions"] = {bad: bad}
  values["diagnostics"]["rank"][0]["readout"] = bad
  a = material.make(root / material.HOSTILE, config={
      "model": {"variant": bad}, "data": {"name": bad}, bad: bad,
      "batch_size": bad, "tasks": {bad: {"mode": "train", "weight": bad}}},
      evaluations={material.HOSTILE: values})
  rows = json.loads((a / "report" / "cheat_index.json").read_text())
  rows[0].update(task=bad, position=bad, blank=bad)
  (a / "report" / "cheat_index.json").write_text(json.dumps(rows))
  (a / "result.json").write_text(json.dumps({"versions": {bad: bad}}))
  (a / "evaluation" / material.HOSTILE / "attention.png").write_text(bad)
  (a / "evaluation" / material.HOSTILE / "positions.png").unlink()
  (a / "metrics.jsonl").write_text(json.dumps(
      {"step": 1, f"{bad}/skill": 1, f"{bad}/loss": 2}) + "\n")
  b = material.make(root / "$\\frac$_b")
  material.write(root / "page.html", a, b)
  return root / "page.html"


def test_every_section_is_there_and_every_picture_inside(one):
  page = material.Page(one.read_text())
  assert page.ids == [
      "summary", "curves", "probes", "tasks", "layers", "rank", "positions",
      "attention", "neighbours", "gradients", "cheat", "config", "environment"]
  inside = [link for link in page.links if link.startswith("data:")]
  assert [link for link in page.links if link not in inside] == [
      f"#{name}" for name in page.ids]
  # Colorize, positions, attention, neighbours, and what is drawn.
  assert len(inside) == len(page.alts) == 4 + 9 and all(page.alts)
  assert "mtvit pretrain" not in page.text              # Nothing is missing.
  assert {"script", "link", "iframe", "object"}.isdisjoint(page.elements)
  assert one.read_bytes().isascii()
  drawn = {file.name for file in one.parent.glob("index_*.png")}
  assert drawn == {
      "index_curves_1.png", "index_layers_1_1.png", "index_layers_1_2.png",
      "index_layer_probes_1_1.png", *(
          f"index_gradients_1_{group}.png"
          for group in ("embed", "early", "middle", "late", "all"))}


def test_the_numbers_are_those_of_the_files(one):
  page = material.Page(one.read_text())
  # Row i, probe j: 40 + 1.3 i + 10 j, in 35 + 10 j .. 47 + 10 j.
  assert material.row_of(page, "summary", "run") == [
      "run", "40.0 %35.0 to 47.0reads cls", "51.3 %45.0 to 57.0reads gap",
      "61.3 %55.0 to 67.0reads gap"]
  assert material.row_of(
      page, "summary", "guessing among 4 classes")[1] == "25.0 %"
  assert material.row_of(page, "probes", "gap") == [
      "gap", "41.3 %35.0 to 47.0", "51.3 %45.0 to 57.0", "61.3 %55.0 to 67.0"]
  assert ["run", "gap", "2", "linear", "0.5130", "0.4500", "0.5700",
          "0.5000"] in page.tables["probes"][1]
  assert "own kNN was 45.1 %; before training 31.6 %" in page.text
  assert page.tables["positions"][0][1][1:] == [
      "0.911", "0.822", "0.733", "61.0 %", "42.0 %", "33.0 %"]
  assert material.row_of(page, "layers", "1")[1] == "1.123"
  assert material.row_of(page, "rank", "cls") == [
      "cls", "17.2", "–", "0.456", "–"]
  assert page.tables["rank"][1][1][1:] == ["52.0 %50.0 to 54.0", "–", "25.0 %"]
  assert page.tables["cheat"][0][1] == [
      "jigsaw (keep): contents", "+0.500", "+0.750", "0.125",
      "-0.025 to +0.025"]
  environment = {row[0]: row[1] for row in page.tables["environment"][0]}
  assert environment["images per second"] == "321"
  assert environment["training time"] == "2 min"
  assert environment["jax"] == "0.10.2" and environment["scipy"] == "1.0"


def test_what_validation_chose_is_marked_and_nothing_else(one):
  marked = re.findall(r'<span class="chosen">([^<]*)</span>', one.read_text())
  assert marked == ["40.0 %", "51.3 %", "61.3 %"]


def test_several_runs_show_where_they_differ(tmp_path):
  a = material.make(tmp_path / "a", seed=0)
  b = material.make(tmp_path / "b", seed=7, config={"input": "gray"},
           evaluations={"set": material.evaluation(shift=0.2),
                        "other": material.evaluation(name="other")})
  page = material.Page(material.write(tmp_path / "two.html", a, b))
  assert page.tables["config"] == [
      [["key", "a", "b"], ["input", "–", "gray"], ["seed", "0", "7"]]]
  first, second = page.tables["summary"]
  assert [row[0] for row in first[1:]] == ["a", "b", "guessing among 4 classes"]
  assert [row[0] for row in second[1:]] == ["b", "guessing among 4 classes"]
  assert [row[1][:6] for row in first[1:3]] == ["40.0 %", "60.0 %"]
  assert [row[0] for row in page.tables["probes"][0]] == [
      "readout", "a · cls", "a · gap", "b · cls", "b · gap"]
  assert [row[0] for row in page.tables["probes"][2]] == [
      "readout", "cls", "gap"]
  assert "On set, test" in page.text and "On other, test" in page.text
  assert (tmp_path / "two_layers_2_1.png").exists()


def test_runs_of_one_name_are_told_apart(tmp_path):
  a, b = (material.make(tmp_path / name / "run") for name in "xy")
  page = material.Page(material.write(tmp_path / "two.html", a, b))
  assert "The configs are the same." in page.text
  assert material.row_of(page, "summary", str(a))
  assert material.row_of(page, "summary", str(b))


def test_what_random_init_reaches_is_shown(tmp_path):
  folder = material.make(tmp_path / "run")
  (folder / "evaluation" / "set" / "evaluation_random_init.json").write_text(
      json.dumps(material.evaluation(shift=-0.2)))
  page = material.Page(material.write(tmp_path / "page.html", folder))
  row = material.row_of(page, "summary", "run, random init")
  assert row[1].startswith("20.0 %")


def test_random_init_stands_beside_every_figure(tmp_path):
  values, other = material.evaluation(), material.evaluation(shift=-0.2)
  other["diagnostics"]["rank"][0]["rankme"] = 3.5
  other["diagnostics"]["positions"]["accuracy"]["zeroed"] = 0.11
  other["diagnostics"]["dense"]["accuracy"] = 0.31
  values["random_init"] = {
      key: other[key] for key in ("probes", "diagnostics")}
  folder = material.make(tmp_path / "run", evaluations={"set": values})
  page = material.Page(material.write(tmp_path / "page.html", folder))
  assert ("linear probe 0.51 with [gap], random init 0.31 (+20 points)"
          in page.text)
  assert ("set: 90 training and 10 validation images of train, 50 test images "
          "of test; 4 classes" in page.text)
  assert "far apart" not in page.text
  assert material.row_of(page, "probes", "gap")[1] == (
      "41.3 %35.0 to 47.0random 21.3 %")
  assert page.tables["rank"][0][1][1:3] == ["17.2", "3.5"]
  assert page.tables["rank"][1][1][2].startswith("31.0 %")
  assert material.row_of(page, "positions", "random init")[-1] == "11.0 %"
  assert "lacks random init" not in page.text


def test_validation_and_test_that_are_far_apart_are_warned_of(tmp_path):
  values = material.evaluation()
  values["probes"]["test"][1]["val_accuracy"] = 0.99     # Not what was chosen.
  values["probes"]["test"][4]["val_accuracy"] = 0.75
  values["data"] |= {"num_val": 400, "num_test": 800}
  folder = material.make(tmp_path / "run", evaluations={"set": values})
  text = material.Page(material.write(tmp_path / "page.html", folder)).text
  # kNN: 0.50 and 0.40, which is more than 3 errors of 400 and 800 images.
  assert "far apart (linear probe 0.75 and 0.51, kNN 0.50 and 0.40)" in text
  values["data"] |= {"num_val": 10, "num_test": 50}
  assert verdict.warning(values) == ""     # So few images may differ by 0.24.


@pytest.mark.parametrize("gone, said", [
    (["evaluation"], ["has not been evaluated: mtvit evaluate --workdir="]),
    (["report"], ["mtvit cheat_index --workdir=", "No pictures of tasks"
                  "; the end of a run makes them: mtvit pretrain --workdir="]),
    (["result.json"], ["has not ended; to continue it"]),
    (["metrics.jsonl"], ["no reports in metrics.jsonl",
                         "--config.diagnose_every"]),
    (["config.json"], ["has no config.json"]),
    (["evaluation/set/attention.png"], ["There is no attention.png"]),
])
def test_missing_parts_name_what_makes_them(tmp_path, gone, said):
  folder = material.make(tmp_path / "it's a run")
  for name in gone:
    path = folder / name
    for file in [path, *path.rglob("*")]:
      if file.is_file():
        file.unlink()
  text = material.Page(material.write(tmp_path / "page.html", folder)).text
  assert all(line in text for line in said)
  quoted = shlex.quote(f"{tmp_path}/it's a run")
  assert text.count("--workdir=") == text.count(f"--workdir={quoted}")


def test_an_evaluation_that_was_cut_short_says_so(tmp_path):
  values = material.evaluation()
  said = []
  for more in ({}, {"unfinished": "diagnostics and pictures"}):
    folder = material.make(tmp_path / f"run{len(more)}", pictures=False,
                           evaluations={"set": values | more})
    said.append(encoder.not_evaluated(runs_lib.Book(
        runs=runs_lib.read_all([str(folder)]), output=tmp_path / "x.html")))
  whole, (cut,) = said
  assert not whole
  assert material.Page(cut).text.strip() == (
      "The evaluation of run1 on set was cut short: it lacks diagnostics and "
      f"pictures: mtvit evaluate --workdir={folder} "
      "--data=set --train_split=train --test_split=test")


def test_no_positions_is_said_and_is_not_missing(tmp_path):
  values = material.evaluation()
  values["diagnostics"]["positions"] = None
  folder = material.make(tmp_path / "run", evaluations={"set": values})
  (folder / "evaluation" / "set" / "positions.png").unlink()
  text = material.Page(material.write(tmp_path / "page.html", folder)).text
  assert "no position embeddings" in text and "positions.png" not in text


def test_numbers_that_are_none_are_dashes(tmp_path):
  values = material.evaluation()
  values["probes"]["test"][0]["accuracy"] = float("nan")
  values["diagnostics"]["rank"][0]["rankme"] = float("inf")
  folder = material.make(tmp_path / "run", evaluations={"set": values})
  page = material.Page(material.write(tmp_path / "page.html", folder))
  assert material.row_of(page, "rank", "cls")[1] == "–"
  assert material.row_of(page, "probes", "cls")[1].startswith("–")


def test_hostile_strings_are_text(hostile):
  page = material.Page(hostile.read_text())
  assert {"script", "b", "svg"}.isdisjoint(page.elements)
  assert all(link.startswith(("data:image/webp;base64,", "#"))
             for link in page.links)
  bad = "</td></script><script>console.error(1)</script>" + material.HOSTILE
  for section in ("config", "probes", "rank", "cheat", "environment"):
    cells = [cell for table in page.tables[section] for row in table
             for cell in row]
    assert any(bad in cell for cell in cells), section
  said = f"{material.HOSTILE}: ViT {bad}, trained on {bad} by {bad}"
  assert said in page.text
  assert "$\\frac$_b" in page.text
  assert any(f"({material.HOSTILE})" in alt for alt in page.alts)
  assert "is not a picture (UnidentifiedImageError)" in page.text


def test_big_pictures_become_small(tmp_path):
  folder = material.make(tmp_path / "run")
  noise = np.random.default_rng(0).integers(0, 256, (1200, 3000, 3), np.uint8)
  file = folder / "report" / "colorize.png"
  Image.fromarray(noise).save(file)                      # 10.8 MB
  assert file.stat().st_size > 9e6
  assert len(material.write(tmp_path / "page.html", folder)) < 3e6


def command(*arguments):
  program = (
      "import runpy, sys, atexit\n"
      "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
      f"sys.argv = ['report'] + {list(arguments)!r}\n"
      "runpy.run_module('mtvit.tools.report', run_name='__main__')\n")
  return subprocess.run(
      [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
      text=True, timeout=300)


def test_command(tmp_path):
  folder = material.make(tmp_path / "run")
  done = command(f"--workdir={folder}")
  assert done.returncode == 0, done.stderr
  file = folder / "report" / "index.html"
  assert re.fullmatch(rf"{file} \(\d\.\d MB\)\nFalse\n", done.stdout)
  material.Page(file.read_text())


@pytest.mark.parametrize("arguments, code, said", [
    ([], 2, "--workdir is missing"),
    (["--workdir=nowhere"], 2, "nowhere is not the work directory of a run"),
    (["--workdir=RUN,RUN"], 2, "same run twice"),
    (["--workdir=RUN", "--output=x.png"], 2, "must end in .html"),
    (["--workdir=RUN", "--output=/proc/no/x.html"], 2, "can't be written"),
    (["--workdir=BAD"], 2, "config.json is not JSON"),
])
def test_errors(tmp_path, arguments, code, said):
  run, bad = material.make(tmp_path / "run"), tmp_path / "bad"
  bad.mkdir()
  (bad / "config.json").write_text("{")
  done = command(*(a.replace("RUN", str(run)).replace("BAD", str(bad))
                   for a in arguments))
  assert done.returncode == code, done.stderr
  assert said in done.stderr and len(done.stderr.splitlines()) <= 5


@needs_browser
def test_a_browser_has_nothing_to_say(one, hostile, tmp_path):
  for page in (one, hostile):
    shot = tmp_path / f"{page.stem}.png"
    done = browser.screenshot(page, shot, 1280, 2000)
    assert browser.console(done) == []
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (2000, 1280, 3)
    # White with text all the way down, and the blue of links and curves.
    bands = pixels.reshape(10, 200, 1280, 3)
    assert all((band.min(-1) < 100).mean() > 1e-3 for band in bands)
    assert (pixels.min(-1) > 240).mean() > 0.5
    blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 60)
    assert blue.sum() > 500


@needs_browser
def test_errors_on_the_console_would_be_seen(tmp_path):
  bad = tmp_path / "bad.html"
  bad.write_text("<!DOCTYPE html><script>console.warn('w1'); fail()</script>")
  said = browser.console(browser.screenshot(bad, tmp_path / "a.png", 600, 400))
  assert len(said) == 2 and "w1" in said[0] and "fail is not" in said[1]


@needs_browser
def test_a_narrow_page_does_not_scroll_sideways(one, hostile, tmp_path):
  for page in (one, hostile):
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(
        "<!DOCTYPE html><p id=w></p><iframe width=400 height=800 srcdoc=\""
        + html.escape(page.read_text()) + "\" onload=\"document.getElementById"
        "('w').textContent = 'wide ' + contentDocument.documentElement"
        ".scrollWidth\"></iframe>")
    width = int(re.search(r"wide (\d+)", browser.dom(wrapper)).group(1))
    assert width <= 400


@needs_browser
def test_print(one, tmp_path):
  file = tmp_path / "page.pdf"
  browser.run(one, f"--print-to-pdf={file}")
  assert 3 <= len(re.findall(rb"/Type /Page\b", file.read_bytes())) <= 12


RULING = "\x1b[31m\x07\u202e\x85\x9b"      # A terminal or a page obeys these.


def test_control_characters_reach_no_page(tmp_path):
  bad = f"a{RULING}b\nc"
  values = material.evaluation(name=bad, classes=[bad, "b"],
                               readouts=(bad, "gap"))
  values["versions"] = {bad: bad}
  folder = material.make(
      tmp_path / f"x,{bad}", evaluations={bad: values}, config={
          "data": {"name": bad}, "tasks": {bad: {"mode": "train"}}})
  (folder / "metrics.jsonl").write_text("".join(json.dumps(
      {"step": i, f"{bad}/loss": 1, f"gradients/all/norm/{bad}": 1.0,
       "gradients/all/norm/$_b": 1.0, f"gradients/all/cosine/{bad}/$_b": 0.5}
  ) + "\n" for i in (1, 2)))
  text = material.write(
      tmp_path / "page.html", folder, material.make(tmp_path / "other"))
  page = material.Page(text)
  assert all(x.isprintable() or x == "\n" for x in text)
  assert all(x.isprintable() or x == "\n" for x in page.text)
  assert "a\\x1b[31m\\x07\\u202e\\x85\\x9bb" in page.text


def test_commas_and_line_ends_in_names_of_runs(tmp_path):
  odd = material.make(tmp_path / "lr,1\n2")
  plain = material.make(tmp_path / "plain")
  given = [[str(odd)], [f"{plain},{tmp_path}/other"], [str(odd), str(plain)]]
  assert [runs_lib.given(x) for x in given] == [
      [str(odd)], [str(plain), f"{tmp_path}/other"], [str(odd), str(plain)]]
  page = tmp_path / "page.html"
  done = command(f"--workdir={odd}", f"--workdir={plain}", f"--output={page}")
  assert done.returncode == 0, done.stderr
  assert "2 runs side by side" in material.Page(page.read_text()).text

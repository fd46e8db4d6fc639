"""The lines on the terminal: aligned, narrow enough, easy to search."""

import re

import pytest

from configs import common
from mtvit.run import progress

SEVEN = list(common.TASKS)


def lines(capsys, tasks, total=1000, steps=(10, 1000)):
  shown = progress.Progress(total, 64, tasks)
  shown.score("kNN", 0.7054, 0.838)
  skills = {f"{name}/skill": 0.125 * i - 0.25 for i, name in enumerate(tasks)}
  for step in steps:
    shown.show(step, 0.5, 0.25, skills)
  return capsys.readouterr().out.splitlines()


def test_a_line_says_how_far_and_how_good(capsys):
  assert lines(capsys, ["contrastive", "colorize"], 100, steps=[10]) == [
      " " * 56 + "skills (0: always the same answer, 1: perfect)",
      "              images/s        eta  wait    kNN  random  "
      "contrastive colorize",
      "step 10/100        128    0:00:45   25%  0.705   0.838  "
      "      -0.25    -0.12"]


@pytest.mark.parametrize("strategy", sorted(common.STRATEGIES))
@pytest.mark.parametrize("total", [60, 1_000_000])
def test_no_line_is_wider_than_120(strategy, total, capsys):
  found = lines(capsys, list(common.STRATEGIES[strategy]), total, (10, total))
  assert len(found) == 4
  assert max(map(len, found)) <= 120
  # Every skill has its column, and columns are under their names.
  ends = [[m.end() for m in re.finditer(r"\S+", line)][-len(
      common.STRATEGIES[strategy]):] for line in found[1:]]
  assert ends[0] == ends[1] == ends[2]


def test_many_tasks_are_cut_at_the_width(capsys):
  found = lines(capsys, [f"task_{i}" for i in range(30)])
  assert 110 < max(map(len, found)) <= 120


def test_lines_start_alike_and_names_come_again(capsys):
  found = lines(capsys, SEVEN, steps=range(1, 31))
  reports = [x for x in found if re.match(r"step \d+/1000 ", x)]
  assert len(reports) == 30 and len({len(x) for x in reports}) == 1
  assert [i for i, x in enumerate(found) if "kNN" in x] == [1, 28]


def test_what_is_not_known_is_a_dash(capsys):
  shown = progress.Progress(10, 8, ["jigsaw"])
  shown.score("retrieval", 0.5, None)
  shown.show(1, 1.0, 0.0, {})
  shown.show(2, 1.0, 0.0, {"jigsaw/skill": -123.4})
  first, second = capsys.readouterr().out.splitlines()[2:]
  assert first.split()[-3:] == ["0.500", "-", "-"]
  assert second.split()[-1] == "-9.99"


def test_names_come_again_when_there_is_a_score(capsys):
  shown = progress.Progress(10, 8, ["jigsaw"])
  shown.show(1, 1.0, 0.0, {})
  shown.score("kNN", 0.5, 0.25)
  shown.show(2, 1.0, 0.0, {})
  shown.score("kNN", 0.6, 0.25)
  shown.show(3, 1.0, 0.0, {})
  found = capsys.readouterr().out.splitlines()
  assert ["kNN" in x for x in found] == [False] * 4 + [True] + [False] * 2
  assert found[-1].split()[-3:-1] == ["0.600", "0.250"]


@pytest.mark.parametrize("seconds, text", [
    (0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"),
    (100 * 3600, "100:00:00")])
def test_duration(seconds, text):
  assert progress.duration(seconds) == text


def test_what_was_found_is_one_line(capsys):
  progress.Progress(10, 8, []).found(4, [f"score/{i} 0.5" for i in range(30)])
  line, = capsys.readouterr().out.splitlines()
  assert line.startswith("step 4 · score/0 0.5 · ") and line.endswith(" …")
  assert len(line) <= 120


def test_a_terminal_has_one_line_below_the_names(capsys, monkeypatch):
  monkeypatch.setattr(
      progress.sys.stdout, "isatty", lambda: True, raising=False)
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "40")
  shown = progress.Progress(100, 64, SEVEN)
  shown.show(1, 0.5, 0.25, {})
  shown.show(2, 0.5, 0.25, {})
  shown.note("done")
  out = capsys.readouterr().out
  assert out.count("\n") == 3         # Two of names, and the note.
  last = out.split("\r\x1b[K")[-2]
  assert last.startswith("step 2/100") and len(last) == 39

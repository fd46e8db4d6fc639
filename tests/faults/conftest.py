"""One line for each fault, and the table of them in mtvit/run/README.md."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[2] / "mtvit/run/README.md"
MARKS = ("<!-- faults: bash launch/test.sh tests/faults --write_readme -->",
         "<!-- end of faults -->")


def pytest_addoption(parser):
  parser.addoption(
      "--write_readme", action="store_true",
      help="Write the table of faults into mtvit/run/README.md.")


@pytest.fixture
def fault(record_property):
  """Call it with the fault, and with what was seen to happen."""
  return lambda what, happened: record_property("fault", (what, happened))


def pytest_terminal_summary(terminalreporter, config):
  rows = [
      (report.location[:2], *value)
      for report in terminalreporter.stats.get("passed", [])
      if report.when == "call"
      for name, value in report.user_properties if name == "fault"]
  rows.sort(key=lambda row: row[0])
  if not rows:
    return
  terminalreporter.section("faults, and what happened")
  for _, what, happened in rows:
    terminalreporter.write_line(f"{what}: {happened}")
  if config.getoption("--write_readme"):
    table = "\n".join(
        ["| fault | what happened |", "|---|---|"]
        + [f"| {what} | {happened} |" for _, what, happened in rows])
    text = README.read_text()
    pattern = re.escape(MARKS[0]) + ".*" + re.escape(MARKS[1])
    assert re.search(pattern, text, re.S), "no place for it"
    README.write_text(re.sub(
        pattern, lambda _: f"{MARKS[0]}\n{table}\n{MARKS[1]}", text,
        flags=re.S))


@pytest.fixture
def small(tiny):
  """`tiny` for 40 steps: eight epochs of 40 images, a checkpoint every four.

  Of two tasks, without evaluations: a test asks for what it is about.
  """
  tiny.total_steps = 40
  tiny.checkpoint_every = 4
  tiny.tasks.relative_position.mode = "off"
  tiny.knn.k = 0
  return tiny

"""What someone has to read who adds a part, as the README files name it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
MOST_FILES, MOST_LINES = 6, 700
PARTS = {"a task": "tasks", "a data source": "data", "an evaluator": "probes",
         "an encoder": "models"}


@pytest.mark.parametrize("part", PARTS)
def test_what_must_be_read_to_add_one_is_little(part):
  readme = ROOT / "mtvit" / PARTS[part] / "README.md"
  section = readme.read_text().partition(f"## Add {part} in four steps\n")[2]
  section = section.partition("\n## ")[0]
  assert re.findall(r"^(\d)\. ", section, re.M) == list("1234")
  named = section.partition("To read:")[2].partition("\n\n")[0]
  files = {readme} | {
      (readme.parent / link).resolve()
      for link in re.findall(r"\]\((\S+?)\)", named)}
  assert 4 <= len(files) <= MOST_FILES
  assert any(file.name.startswith("test_toy_") for file in files)
  assert sum(
      len(file.read_text().splitlines()) for file in files) <= MOST_LINES

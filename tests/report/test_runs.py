"""Files that are damaged, or not those of a run, are named."""

import os

import pytest

from mtvit import errors
from mtvit.report import runs as runs_lib
from tests.report import material


def left_out(run):
  """Without the last line of the metrics, which is torn."""
  return [text for text in run.left_out if "metrics.jsonl" not in text]


@pytest.mark.parametrize("name, text", [
    ("config.json", "{"), ("config.json", "[]"), ("result.json", "3"),
    ("config.json", '{"model": {}, "data": {}, "tasks": ' + '{"a":' * 30 + "1"
     + "}" * 31), ("metrics.jsonl", b"\xff\xfe\x00"),
    ("report/cheat_index.json", '[{"task": 1}]'),
    ("evaluation/set/evaluation.json", "[" * 100_000),
    ("evaluation/set/evaluation.json", '{"probes": {"test": []}}'),
    ("evaluation/set/evaluation_random_init.json", "null null"),
])
def test_damaged_files_are_named_and_left_out(tmp_path, name, text):
  folder = material.make(tmp_path / "run")
  (folder / name).write_bytes(text if isinstance(text, bytes)
                              else text.encode())
  run, = runs_lib.read_all([str(folder)])
  said, = left_out(run) if name != "metrics.jsonl" else run.left_out[:1]
  assert said.startswith(str(folder / name)) and len(said) < 400


def test_a_report_of_damaged_files(tmp_path):
  folder = material.make(tmp_path / "run")
  (folder / "result.json").write_text("{")
  (folder / "report" / "cheat_index.json").write_text("[" * 5000)
  file = folder / "report" / "colorize.png"
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1          # Pillow alone shows other pixels.
  file.write_bytes(data)
  place = folder / "evaluation" / "set"
  (place / "attention.png").unlink()
  os.mkfifo(place / "attention.png")
  (place / "neighbours.png").unlink()
  (place / "neighbours.png").mkdir()
  page = material.Page(material.write(tmp_path / "page.html", folder))
  assert page.text.count("Left out: ") == 3      # One of a torn line.
  for name in ("colorize", "attention", "neighbours"):
    assert f"{name}.png is not a picture" in page.text
  assert not [alt for alt in page.alts if "Views" in alt]


@pytest.mark.parametrize("path, value", [
    (("data", "classes"), "abc"), (("data", "num_test"), "9"),
    (("probes", "test", 0, "accuracy"), "<b>"),
    (("probes", "test", 0, "accuracy"), 10**400),
    (("probes", "test", 1, "layer"), None),
    (("probes", "layers", 0, "val_accuracy"), []),
    (("diagnostics", "layers", 0, "cosine"), {}),
    (("diagnostics", "positions", "r2_row"), True),
])
def test_another_schema_says_where(tmp_path, path, value):
  values = material.evaluation()
  place = values
  for key in path[:-1]:
    place = place[key]
  place[path[-1]] = value
  folder = material.make(tmp_path / "run", evaluations={"set": values})
  run, = runs_lib.read_all([str(folder)])
  said, = left_out(run)
  assert str(path[-1]) in said and not run.evaluations


def test_what_is_no_run_is_an_error(tmp_path):
  folder = tmp_path / "run"
  folder.mkdir()
  (folder / "config.json").write_text("{")
  with pytest.raises(errors.ConfigError, match="config.json is not JSON"):
    runs_lib.read_all([str(folder)])


def test_only_pictures_of_the_run_are_taken(tmp_path):
  folder = material.make(tmp_path / "run", config={"tasks": {
      "../../secret": {"mode": "train"}, "colorize": 3}})
  material.picture(tmp_path / "secret.png")
  page = material.Page(material.write(tmp_path / "page.html", folder))
  assert not [alt for alt in page.alts if "Views" in alt]

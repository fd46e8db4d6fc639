"""Files that are damaged, or not those of a run, are named."""

import pytest

from mtvit import errors
from mtvit.report import runs as runs_lib
from tests.report import material


@pytest.mark.parametrize("name, text", [
    ("config.json", "{"), ("config.json", "[]"), ("result.json", "3"),
    ("config.json", '{"model": {}, "data": {}, "tasks": ' + '{"a":' * 30 + "1"
     + "}" * 31), ("metrics.jsonl", b"\xff\xfe\x00"),
    ("report/cheat_index.json", '[{"task": 1}]'),
    ("evaluation/set/evaluation.json", "[" * 100_000),
    ("evaluation/set/evaluation.json", '{"probes": {"test": []}}'),
    ("evaluation/set/evaluation_random_init.json", "null null"),
])
def test_damaged_files_are_named(tmp_path, name, text):
  folder = material.make(tmp_path / "run")
  (folder / name).write_bytes(text if isinstance(text, bytes)
                              else text.encode())
  with pytest.raises(errors.DataError) as e:
    runs_lib.read_all([str(folder)])
  assert str(folder / name) in str(e.value)
  assert len(str(e.value).splitlines()) <= 4


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
  with pytest.raises(errors.DataError, match=str(path[-1])):
    runs_lib.read_all([str(folder)])


def test_only_pictures_of_the_run_are_taken(tmp_path):
  folder = material.make(tmp_path / "run", config={"tasks": {
      "../../secret": {"mode": "train"}, "colorize": 3}})
  material.picture(tmp_path / "secret.png")
  page = material.Page(material.write(tmp_path / "page.html", folder))
  assert not [alt for alt in page.alts if "Views" in alt]

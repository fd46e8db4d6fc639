"""The model card: what it says of a run, what it hides, and whose it is."""

import ast
import json
import re

from etils import epath
import numpy as np
import pytest
import yaml

from mtvit import errors
from mtvit.interchange import card
from mtvit.interchange import exporting
from mtvit.report import exported
from tests.interchange import helpers
from tests.report import material

SECRET = "/home/ms_private/data"
CONFIG = {
    "batch_size": 8, "views": 2, "init_from": f"{SECRET}/other.npz",
    "data": {"name": f"folder:{SECRET}/my photos", "train_split": "train",
             "cache_dir": "~/ms_private/cache", "data_dir": ""},
    "knn": {"readout": "ct"}, "optimizer": {"decay": "^a/kernel$"},
    "tasks": {"colorize": {"mode": "train", "weight": 2.0},
              "jigsaw": {"mode": "off", "weight": 1.0}}}
META = {"config": CONFIG, "data": {
    "num_examples": 3000, "classes": ["a", "b"]}}


@pytest.fixture
def run(tmp_path):
  """A run with evaluations of step 4, and a text of it at a step."""
  found = material.evaluation(name=f"folder:{SECRET}/labelled")
  folder = material.make(
      tmp_path / "run", evaluations={"set": found}, pictures=False)
  found["probes"]["test"][0] |= {"accuracy": 0.2, "low": 0.1, "high": 0.3}
  (folder / "evaluation/set/evaluation_random_init.json").write_text(
      json.dumps(found))

  def text(step):
    out = tmp_path / f"out{step}"
    exporting.export(helpers.encoder(), out, story=exported.story(
        epath.Path(folder), step, META))
    return out, (out / card.NAME).read_text()

  return folder, text


def test_what_it_says(run):
  _, text = run
  out, said = text(4)
  head = yaml.safe_load(said.split("---\n")[1])
  assert head["library_name"] == "timm" and "license" not in head
  assert "TODO" in said.split("---\n")[1] and "**TODO" in said
  for line in (
      "`folder:my photos` (3,000 images of 2 classes)",
      "| colorize | 2.0 | 0.300 | – |",   # Of step 3, the last whole line.
      "On `folder:labelled`, split `test`: 50 images of 4 classes (guessing: "
      "25.0 %), with 100 labelled images",
      "| kNN, k=20 | cls | 40.0 % (35.0 to 47.0) | 20.0 % (10.0 to 30.0) |",
      "| linear probe | gap | 51.3 % (45.0 to 57.0) | ",
      "mean 0.5 and deviation 0.5", "3,000 training images are few",
      "`hf/model.safetensors`: the tokens ct, rot are left out",
      "features = tokens[:, 1]", 'readout="ct")', "optimizer.decay="):
    assert line in said, line
  assert "jigsaw" not in said
  for file in out.rglob("*"):
    assert not file.is_file() or b"ms_private" not in file.read_bytes(), file
  with np.load(out / "mtvit.npz", allow_pickle=False) as file:
    told = json.loads(str(file["mtvit"]))["config"]
  assert told["data"]["name"] == "folder:my photos"
  assert told["optimizer"]["decay"] == "^a/kernel$"


def test_results_are_those_of_the_step(run):
  folder, text = run
  assert "None are known" in text(3)[1]
  (folder / "evaluation/set/evaluation.json").unlink()
  assert "| `knn/accuracy` | 0.451 | 0.316 |" in text(4)[1]
  (folder / "result.json").write_text("{")
  assert "None are known" in text(4)[1]
  for file in (folder / "config.json", folder / "metrics.jsonl"):
    file.unlink()
  assert "`folder:my photos`" in text(4)[1]


@pytest.mark.parametrize("value, shown", [
    ("photo_crops", "photo_crops"), ("runs/a", "runs/a"), ("S/16", "S/16"),
    ("folder:/a/b c", "folder:b c"), ("folder:a/b/", "folder:b"),
    ("list:../x/list.txt", "list:list.txt"), ("~/x/y", "y"), ("/a", "a"),
    ("gs://bucket/me/run", "run"),
    ("tar:gs://b/me/{0..3}.tar", "tar:{0..3}.tar"),
    ("./a/b", "b"), ("folder:C:\\me\\b", "folder:b"), ("", ""), (3, 3)])
def test_of_a_path_the_last_part_is_shown(value, shown):
  assert card.public({"a": [value]}) == {"a": [shown]}


def test_a_card_that_was_changed_is_kept(tmp_path):
  encoder = helpers.encoder()
  exporting.export(encoder, tmp_path)
  first = (tmp_path / card.NAME).read_text()
  notes = exporting.export(encoder, tmp_path, ["numpy"])
  assert card.NAME not in notes
  assert (tmp_path / card.NAME).read_text() != first
  mine = first.replace("# license:", "license: mit")
  assert mine != first
  (tmp_path / card.NAME).write_text(mine)
  notes = exporting.export(encoder, tmp_path)
  assert "kept" in notes[card.NAME][0]
  assert (tmp_path / card.NAME).read_text() == mine


def test_a_config_of_another_is_let_alone(tmp_path):
  encoder = helpers.encoder()
  exporting.export(encoder, tmp_path, ["numpy"])
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(errors.ConfigError, match="config.json that no export"):
    exporting.export(encoder, tmp_path)
  assert (tmp_path / "config.json").read_text() == "{}"


def test_names_with_any_letters(tmp_path):
  config = CONFIG | {"data": {"name": "folder:/a/x`\n---\n# y"}}
  out = tmp_path / 'a"b c'
  exporting.export(helpers.encoder(), out, ["safetensors"],
                   story=card.Story(config=config))
  said = (out / card.NAME).read_text()
  assert "`folder:x --- # y`" in said
  assert said.count("\n---\n") == 1
  code = re.findall("```python\n(.*?)```", said, re.S)
  for snippet in code:
    ast.parse(snippet)
  assert '"local-dir:a\\"b c"' in code[0]

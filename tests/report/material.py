"""A run's folder to make reports of, and a reader of HTML that is strict."""

import html.parser
import json
import re

import numpy as np
from PIL import Image

from mtvit.report import runs as runs_lib
from mtvit.tools import report

HOSTILE = "<script>console.error('x&1\"')<"     # A folder's name has no "/".


class Page(html.parser.HTMLParser):
  """Checks the nesting; collects elements, links, text and table cells."""

  VOID = {"img", "meta", "br"}

  def __init__(self, text):
    super().__init__()
    self.stack, self.elements, self.links, self.alts = [], [], [], []
    self.ids, self.text, self.tables, self.rows = [], "", {}, []
    self.section = None
    self.feed(text)
    self.close()
    assert not self.stack

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.elements.append(tag)
    assert set(attributes) <= {
        "alt", "charset", "class", "content", "href", "http-equiv", "id",
        "lang", "name", "scope", "src", "width"}
    self.links += [attributes[key] for key in ("src", "href", "srcset", "data",
                                               "action") if key in attributes]
    if "id" in attributes:
      self.ids.append(attributes["id"])
      self.section = attributes["id"]
    if tag == "img":
      self.alts.append(attributes.get("alt", ""))
    if tag == "table":
      self.tables.setdefault(self.section, []).append([])
    if tag == "tr":
      self.tables[self.section][-1].append([])
    if tag in ("td", "th"):
      self.tables[self.section][-1][-1].append("")
    if tag not in self.VOID:
      self.stack.append(tag)

  def handle_endtag(self, tag):
    assert self.stack.pop() == tag

  def handle_data(self, data):
    if "style" in self.stack:
      assert not re.search(r"url\(|@import", data)
      return
    self.text += data
    if {"td", "th"} & set(self.stack):
      self.tables[self.section][-1][-1][-1] += data


def evaluation(*, name="set", classes=("a", "b", "c", "d"), shift=0.0,
               readouts=("cls", "gap")):
  rows = [{"readout": readout, "layer": 2, "probe": probe,
           "accuracy": 0.4 + shift + 0.013 * i + 0.1 * j,
           "low": 0.35 + shift + 0.1 * j, "high": 0.47 + shift + 0.1 * j,
           "val_accuracy": 0.5}
          for i, readout in enumerate(readouts)
          for j, probe in enumerate(("knn_k20", "linear", "fewshot_10"))]
  return {
      "run": "r", "step": 4, "seconds": 12.0, "versions": {"scipy": "1.0"},
      "data": {"name": name, "train_split": "train", "test_split": "test",
               "num_train": 90, "num_val": 10, "num_test": 50,
               "classes": list(classes)},
      "probes": {
          "chosen": {"knn_k20": readouts[0], "linear": readouts[1],
                     "fewshot_10": readouts[1]},
          "test": rows,
          "layers": [{"layer": layer, "readout": "gap", "probe": "linear",
                      "val_accuracy": 0.3 + 0.1 * layer} for layer in (0, 1)]},
      "diagnostics": {
          "layers": [{"layer": layer, "cosine": 0.123 + layer,
                      "residual_share": 0.5, "attention_entropy": None}
                     for layer in (0, 1)],
          "positions": {"r2_row": 0.911, "r2_column": 0.822,
                        "distance_correlation": 0.733, "grid": [1, 2],
                        "similarity": [[1, 0], [0, 1]],
                        "accuracy": {"as_trained": 0.61, "shuffled": 0.42,
                                     "zeroed": 0.33}},
          "rank": [{"readout": "cls", "rankme": 17.25,
                    "spread_per_dimension": 0.456}],
          "dense": {"accuracy": 0.52, "low": 0.5, "high": 0.54, "chance": 0.25},
          "cheat": []}}


def picture(file):
  file.parent.mkdir(parents=True, exist_ok=True)
  noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
  Image.fromarray(noise).resize((400, 400), 0).save(file)


def make(folder, *, seed=0, config=None, evaluations=None, pictures=True):
  """A run's folder with everything that a report reads."""
  (folder / "report").mkdir(parents=True)
  config = {
      "seed": seed, "batch_size": 8,
      "model": {"variant": "pico/8", "image_size": 32},
      "data": {"name": "set"}, "optimizer": {"base_lr": 0.003},
      "tasks": {"colorize": {"mode": "train", "weight": 1.0},
                "jigsaw": {"mode": "off", "weight": 1.0}}} | (config or {})
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "result.json").write_text(json.dumps({
      "knn/accuracy": 0.451, "knn/accuracy_random_init": 0.316, "steps": 4,
      "seconds": 130.0, "train/images_per_second": 321.4,
      "versions": {"jax": "0.10.2"}}))
  (folder / "metrics.jsonl").write_text("".join(
      json.dumps({"step": step, "train/loss": 2 / step, "colorize/loss": 1,
                  "colorize/skill": 0.1 * step,
                  "gradients/all/norm/colorize": 1.0,
                  "gradients/all/norm/jigsaw": 2.0,
                  "gradients/all/cosine/colorize/jigsaw": 0.25}
                 | {f"gradients/{group}/norm/{task}": 1.0
                    for group in ("embed", "early", "middle", "late")
                    for task in ("colorize", "jigsaw")}) + "\n"
      for step in (1, 2, 3)) + '{"step": 4, "tr')
  (folder / "report" / "cheat_index.json").write_text(json.dumps([{
      "task": "jigsaw", "position": "keep", "chance": 0.125, "slot_bound": None,
      "chance_low": 0.1, "chance_high": 0.15, "blank": "contents",
      "trained": 0.625, "refitted": 0.875, "count": 100}]))
  for target, values in (evaluations or {"set": evaluation()}).items():
    place = folder / "evaluation" / target
    place.mkdir(parents=True)
    (place / "evaluation.json").write_text(json.dumps(values))
    if pictures:
      for name in ("positions", "attention", "neighbours"):
        picture(place / f"{name}.png")
  if pictures:
    picture(folder / "report" / "colorize.png")
    picture(folder / "report" / "curves.png")
  return folder


def write(output, *folders):
  runs = runs_lib.read_all([str(folder) for folder in folders])
  report.save(runs_lib.Book(runs=runs, output=output))
  return output.read_text()


def row_of(page, section, name, table=0):
  return next(row for row in page.tables[section][table] if row[0] == name)

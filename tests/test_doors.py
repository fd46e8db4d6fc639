"""What newcomers do, from an empty folder, with the commands that they type."""

import os
import re
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import mtvit
from mtvit.configs import common
from mtvit.data import photo_crops
from mtvit.run import metrics
from mtvit.run import reading
from tests import commands

SHORT = ("--config.total_steps=4", "--config.batch_size=16",
         "--config.log_every=2", "--config.knn.every_steps=2")


def photograph(name, number):
  """A part of a photograph, of an odd size of its own."""
  rng = np.random.default_rng([number, *name.encode()])
  photo = photo_crops.load(name)
  height, width = rng.integers(97, 240, 2)
  top, left = (int(rng.integers(0, side - part)) for side, part in zip(
      photo.shape, (height, width)))
  return Image.fromarray(photo[top:top + height, left:left + width])


@pytest.fixture
def command(tmp_path):
  """Runs `mtvit ...` from an empty folder: what it says, once it is done."""
  def run(*words, flags=commands.QUICK):
    done = commands.run(
        "mtvit", *words, cwd=tmp_path, timeout=900, XLA_FLAGS=flags,
        MTVIT_CACHE_DIR=tmp_path / "cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr
  return run


@pytest.mark.slow
def test_photographs_in_one_folder_become_an_encoder(command, tmp_path):
  """3,000 photographs in one flat folder, no labels; she wants a ViT."""
  folder = tmp_path / "photographs"
  folder.mkdir()
  for name in ("astronaut", "coffee", "china"):
    for i in range(20):
      ending = "png" if i % 5 == 0 else "jpg"
      photograph(name, i).save(folder / f"IMG_{name}_{i:04}.{ending}")
  said = command(
      "pretrain", "--config=photos:variant=pico/16",
      "--config.data.name=folder:photographs", "--workdir=runs/photos", *SHORT)
  assert "no classes" in said and "finds the other view" in said
  assert "kNN" not in said
  run = tmp_path / "runs" / "photos"
  result = reading.read_json(run / "result.json")
  tasks = ("contrastive", "relative_position", "colorize")
  for key in ("retrieval/top1", "retrieval/top1_random_init", "retrieval/gap",
              "rankme/ct", "rankme/ct_random_init",
              *(f"heldout/{task}/skill" for task in tasks)):
    assert np.isfinite(result[key]), key
  assert 0 < result["retrieval/chance"] < 0.5
  assert not [key for key in result if key.startswith("knn/")]
  lines = metrics.read(run / "metrics.jsonl")
  assert [x["step"] for x in lines if "retrieval/top1" in x] == [0, 2, 4]
  assert [x["step"] for x in lines if "heldout/colorize/skill" in x] == [2, 4]
  for name in ("curves", *tasks):
    assert (run / "report" / f"{name}.png").stat().st_size > 5000

  # It is evaluated without labels too, and reported.
  said = command("evaluate", "--workdir=runs/photos", "--cheat_steps=2")
  assert "has no labels: without probes; --data=" in said
  assert "views find the other view of their image among" in said
  file, = (run / "evaluation").glob("*/evaluation.json")
  found = reading.read_json(file)
  assert found["retrieval"][0]["readout"] == "ct"
  assert found["retrieval"][0]["share"] == pytest.approx(
      result["retrieval/top1"], abs=1 / 5)
  assert found["diagnostics"]["layers"] and not found["probes"]["test"]
  said = command("report", "--workdir=runs/photos")
  assert "left out" not in said
  page = (run / "report" / "index.html").read_text()
  assert "find the other view" in page

  # The encoder, for PyTorch and here.
  command("export", "--workdir=runs/photos", "--output=exported")
  pictures = [photograph("rocket", i) for i in range(3)]
  features = [
      mtvit.load(tmp_path / path).features(pictures, readout="cls+gap")
      for path in ("runs/photos", "exported/model.safetensors")]
  assert features[0].shape == (3, 2 * 96)
  np.testing.assert_allclose(*features, atol=1e-4)


@pytest.mark.slow
def test_a_folder_of_train_and_val_is_trained_on_and_tuned(command, tmp_path):
  """An engineer with train/ and val/."""
  for split, numbers in (("train", range(12)), ("val", range(12, 17))):
    for name in ("astronaut", "coffee", "china", "rocket"):
      folder = tmp_path / "data" / split / name
      folder.mkdir(parents=True)
      for i in numbers:
        photograph(name, i).save(folder / f"{i}.jpg")
  said = command(
      "pretrain", "--config=photos:variant=pico/16",
      "--config.data.name=folder:data", "--workdir=runs/photos", *SHORT)
  assert os.path.join("data", "val") in said or "val/" in said
  run = tmp_path / "runs" / "photos"
  result = reading.read_json(run / "result.json")
  assert np.isfinite(result["knn/accuracy"])
  assert not [key for key in result if key.startswith(("retrieval", "heldout"))]
  command(
      "finetune", "--config=finetune", "--config.init_from=runs/photos",
      "--config.data.name=folder:data", "--workdir=runs/finetuned",
      "--config.total_epochs=0", *SHORT)
  tuned = reading.read_json(tmp_path / "runs" / "finetuned" / "result.json")
  assert 0 <= tuned["supervised/final_accuracy"] <= 1


@pytest.mark.slow
def test_the_quickstart_says_that_it_works(command, tmp_path):
  """Someone who runs it and asks: does it work? After 200 of its steps."""
  said = command(
      "pretrain", "--config=quickstart", "--workdir=runs/quickstart",
      "--config.total_steps=200", "--config.knn.every_steps=200",
      "--config.diagnose_every=0", flags="")
  result = reading.read_json(tmp_path / "runs/quickstart/result.json")
  # The others are slow to start, and are learnt in tests/training.
  skills = {name: result[f"{name}/skill"] for name in common.TASKS
            if name not in ("rotation", "jigsaw")}
  assert min(skills.values()) > 0, skills
  gain = result["knn/accuracy"] - result["knn/accuracy_random_init"]
  assert gain > 0.1 and "random init" in said
  # On the curve too, from the first step on, on the same images.
  lines = metrics.read(tmp_path / "runs/quickstart/metrics.jsonl")
  curve = [line["knn/accuracy"] for line in lines if "knn/accuracy" in line]
  assert curve[0] == result["knn/accuracy_random_init"]
  assert curve[-1] == result["knn/accuracy"]


@pytest.mark.slow
def test_the_snippet_of_the_front_door_runs(tmp_path):
  """A researcher copies ten lines."""
  blocks = re.findall(
      r"```python\n(.*?)```", (commands.ROOT / "README.md").read_text(), re.S)
  snippet, = [block for block in blocks if "mtvit.load" in block]
  assert len(snippet.splitlines()) <= 10
  script = tmp_path / "snippet.py"
  few = dict.fromkeys((
      "knn.num_train", "knn.num_test", "knn.final_num_train",
      "knn.final_num_test"), 64)
  for text, changed in (
      ('{"total_steps": 200}', f"{few | {'total_steps': 2}}"),
      ("evaluate()", "evaluate(num_train=200, num_test=100, layer_images=40, "
       "cheat_steps=2)")):
    assert text in snippet
    snippet = snippet.replace(text, changed)
  script.write_text(
      "import numpy as np\nimages = np.zeros((2, 48, 48, 3), np.uint8)\n"
      + snippet
      + "print(features.shape, 'curves' in run.pictures, len(run.metrics))\n"
      "print(run.result['steps'], sorted(evaluation)[0])\n")
  done = subprocess.run(
      [sys.executable, script], cwd=tmp_path, capture_output=True, text=True,
      timeout=900, env=commands.environment(PYTHONPATH=str(commands.ROOT)))
  assert done.returncode == 0, done.stderr
  # The front door's "2 d": [CT] beside the mean of the tokens.
  assert "(2, 192) True" in done.stdout, done.stdout
  assert re.search(r"linear probe .* random init", done.stdout), done.stdout

"""launch/colab.ipynb runs from top to bottom on the lowest versions."""

import ast
import base64
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image
import pytest

import mtvit
from mtvit.configs import common
from mtvit.run import metrics
from tests import commands
from tests.notebook import environment

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK = ROOT / "launch" / "colab.ipynb"
CELLS = {cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text())["cells"]}
TASKS = sorted(common.TASKS)
# Cell -> pictures in its output.
PICTURES = {"batch": 1, "skills": 1, "predictions": len(TASKS),
            "positions": 1, "neighbours": 1}


def source(*ids):
  return "\n".join("".join(CELLS[i]["source"]) for i in ids) + "\n"


def script(tmp_path, text, fails=False):
  """Runs cells as a script, with the tests' Python; what it printed."""
  file = tmp_path / "cells.py"
  file.write_text(text)
  environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
  done = subprocess.run(
      [sys.executable, "-P", str(file)], cwd=tmp_path, capture_output=True,
      text=True, timeout=300, env=environ)
  assert (done.returncode != 0) == fails, done.stderr
  return done.stderr if fails else done.stdout


def zipped(file, below):
  """The code as a zip of it has it, in a folder."""
  with zipfile.ZipFile(file, "w") as archive:
    for name in ("mtvit", "configs", "launch"):
      for path in (ROOT / name).rglob("*"):
        if path.suffix in (".py", ".css"):
          archive.write(path, below / path.relative_to(ROOT))
    archive.write(ROOT / "requirements.txt", below / "requirements.txt")


def test_no_outputs_are_kept():
  for name, cell in CELLS.items():
    if cell["cell_type"] == "code":
      assert cell["outputs"] == [] and cell["execution_count"] is None, name
  assert len(NOTEBOOK.read_text()) < 40_000


def test_text_stands_before_each_cell_of_code():
  kinds = [cell["cell_type"] for cell in CELLS.values()]
  assert kinds[0] == "markdown" and "code" in kinds
  for before, kind in zip(kinds, kinds[1:]):
    assert (before, kind) != ("code", "code")


def test_parameters_are_plain_values():
  tree = ast.parse(source("parameters"))
  names = [node.targets[0].id for node in tree.body
           if isinstance(node.value, ast.Constant)]
  assert len(names) == len(tree.body)
  # Each is used, and told of.
  rest = source(*(i for i, c in CELLS.items()
                  if c["cell_type"] == "code" and i != "parameters"))
  for name in names:
    assert re.search(rf"\b{name}\b", rest), name
    assert f"`{name}`" in source("parameters-text"), name


def test_the_code_is_found_around_an_opened_notebook(tmp_path):
  (tmp_path / "mtvit").mkdir()
  (tmp_path / "mtvit" / "pretrain.py").touch()
  (tmp_path / "launch").mkdir()
  text = 'import os\nos.chdir("launch")\n' + source("parameters", "code")
  assert script(tmp_path, text).strip() == f"the code is in {tmp_path}"


def test_the_code_is_cloned(tmp_path):
  origin, here = tmp_path / "a fork", tmp_path / "here"
  here.mkdir()
  (origin / "mtvit").mkdir(parents=True)
  (origin / "mtvit" / "pretrain.py").touch()
  git = ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@b"]
  for arguments in (["init", "--quiet"], ["add", "."],
                    ["commit", "--quiet", "-m", "first"]):
    subprocess.run([*git, *arguments], check=True)
  text = source("parameters").replace(
      'REPOSITORY = ""', f"REPOSITORY = {'file://' + str(origin)!r}")
  found = script(here, text + source("code"))
  assert found.strip() == f"the code is in {here / 'code' / 'clone'}"


def test_without_the_code_it_says_what_to_do(tmp_path):
  with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
    archive.writestr("train/a.txt", "")
  said = script(tmp_path, source("parameters", "code"), fails=True)
  assert "set REPOSITORY above, or upload a zip" in said.splitlines()[-1]
  assert not (tmp_path / "code").exists()      # Of images, not of the code.


def test_a_zip_of_images_is_taken(tmp_path, image_folder):
  shutil.make_archive(
      tmp_path / "mine", "zip", image_folder.parent, image_folder.name)
  text = source("parameters").replace('FOLDER = ""', 'FOLDER = "mine.zip"')
  text += (f"import pathlib, shutil, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
           "steps, batch = 4, 8\n")
  text += source("config") + (
      "batch = mtvit.sample_batch(config)\nprint(batch.clean.shape)\n")
  said = script(tmp_path, text).splitlines()
  assert "(16, 48, 48, 3)" == said[-1]
  assert said[-2].endswith("folder:images/images")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
  """A Python of a fresh session, and the packages before and after."""
  folder = tmp_path_factory.mktemp("session")
  python = environment.session(folder / "python")
  before = environment.packages(python)
  # As uploaded from a forge: everything lies in one folder.
  zipped(folder / "upload.zip", pathlib.Path("mtvit-main"))
  environment.run(
      python, environment.HERE / "execute.py", NOTEBOOK,
      json.dumps(dict(STEPS=4, BATCH=16)), folder / "done.ipynb", timeout=1800,
      TFDS_DATA_DIR=str(folder / "tfds"), XLA_FLAGS=commands.QUICK)
  return folder, before, environment.packages(python)


@pytest.fixture(scope="module")
def outputs(session):
  """Cell -> its outputs."""
  cells = json.loads((session[0] / "done.ipynb").read_text())["cells"]
  return {cell["id"]: cell["outputs"] for cell in cells if "outputs" in cell}


def printed(outputs):
  return "".join("".join(o.get("text", "")) for o in outputs)


@pytest.mark.slow
def test_nothing_that_was_there_is_replaced(session, outputs):
  _, before, after = session
  assert before.items() <= after.items()
  assert "tensorflow" in before and "tensorflow-cpu" not in after
  assert {"clu", "ml-collections"} <= after.keys() - before.keys()
  assert printed(outputs["install"]) == "installing: clu, ml-collections\n"
  assert printed(outputs["device"]).startswith(f"jax {before['jax']} on 1 x ")


@pytest.mark.slow
def test_the_uploaded_code_is_used(session, outputs):
  folder = session[0]
  assert printed(outputs["code"]).strip() == (
      f"the code is in {folder / 'code' / 'mtvit-main'}")


@pytest.mark.slow
def test_every_picture_is_shown(outputs):
  for cell, count in PICTURES.items():
    shown = [o["data"]["image/png"] for o in outputs[cell]
             if "image/png" in o.get("data", {})]
    assert len(shown) == count, cell
    for data in shown:
      pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
      assert min(pixels.shape[:2]) > 150 and pixels.std() > 10, cell
  assert sorted(printed(outputs["predictions"]).split()) == TASKS
  assert "random init" in printed(outputs["positions"])


@pytest.mark.slow
def test_it_trains_all_tasks(session, outputs):
  lines = metrics.read(session[0] / "runs/colab/metrics.jsonl")
  for task in TASKS:
    assert len([x for x in lines if f"{task}/skill" in x]) == 4, task
  assert [x["step"] for x in lines if "knn/accuracy" in x] == [0, 1, 2, 3, 4]
  said = printed(outputs["train"])
  assert "1200 images (held), 12 classes" in said and "random init" in said
  assert "Traceback" not in said


@pytest.mark.slow
def test_what_it_exports_is_what_it_trained(session, outputs):
  run = session[0] / "runs/colab"
  images = np.random.default_rng(0).integers(
      0, 256, (3, 48, 48, 3), dtype=np.uint8)               # [3, s, s, 3]
  # Written by the lowest versions, read by these.
  wanted = mtvit.load(run).features(images, "ct")           # [3, d]
  assert mtvit.load(run).step == 4
  for name in ("model.safetensors", "mtvit.npz"):
    found = mtvit.load(run / "exported" / name).features(images, "ct")
    np.testing.assert_allclose(found, wanted, atol=1e-4)
  assert (run / "exported/hf/model.safetensors").is_file()
  said = printed(outputs["export"])
  differ = re.search(r"differ by at most (\S+)", said)
  assert float(differ[1]) < 1e-4

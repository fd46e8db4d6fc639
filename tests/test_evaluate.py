"""Evaluations from start to end: files, choices, targets, and errors."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest
import sklearn.linear_model
import sklearn.neighbors

import mtvit
from mtvit import errors
from mtvit import evaluate
from mtvit.data import pipeline
from mtvit.probes import tables
from mtvit.probes import target as target_lib
from mtvit.probes import verdict
from mtvit.run import reading
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import saved_runs
from mtvit.training import sharding
from mtvit.training import train_state

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def colors(tmp_path_factory):
  """Three classes that colour tells: train (20 each), test (10 each)."""
  root, rng = tmp_path_factory.mktemp("colors"), np.random.default_rng(0)
  for split, count in (("train", 20), ("test", 10)):
    for c, name in enumerate(("red", "green", "blue")):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        x = rng.integers(0, 100, (40, 40, 3), np.uint8)
        x[..., c] += 150
        Image.fromarray(x).save(folder / f"{i}.png")
  return root


def options(**kwargs):
  return evaluate.Options(**dict(
      layer_images=0, draws=2, diagnostics=False) | kwargs)


@pytest.fixture
def of_colors(run, colors, kept):
  """What was found on `colors`: all tests look at one run."""
  if not kept:
    kept.update(evaluate.evaluate(run, options(data=f"folder:{colors}")))
  return kept


def row_of(found, readout, probe):
  row, = (r for r in found["probes"]["test"]
          if (r["readout"], r["probe"]) == (readout, probe))
  return row


def test_a_run_is_evaluated(run, image_folder, capsys):
  got = evaluate.evaluate(run, options(layer_images=20))
  file, = (run / "evaluation").glob("folder_*/evaluation.json")
  assert reading.read_json(file) == json.loads(json.dumps(got))
  assert (got["run"], got["step"]) == (str(run), 2)
  assert got["data"] == {
      "name": f"folder:{image_folder}", "train_split": "train",
      "test_split": "test", "num_train": 36, "num_val": 4, "num_test": 20,
      "classes": ["astronaut", "coffee", "flower", "rocket"]}
  assert got["seconds"] > 0 and got["versions"]["jax"]
  found = got["probes"]
  readouts = {"cls", "ct", "gap", "ct+gap"}
  kinds = {"knn_k20", "knn_k200", "linear", "fewshot_1", "fewshot_5",
           "fewshot_10", "fewshot_1%", "fewshot_10%"}
  assert {(r["readout"], r["probe"], r["layer"]) for r in found["test"]} == {
      (a, b, 4) for a in readouts for b in kinds}
  for r in found["test"]:
    assert 0 <= r["accuracy"] <= 1 and r["low"] <= r["accuracy"] <= r["high"]
  assert row_of(got, "gap", "fewshot_10")["short_classes"] == 4     # 9 each.
  assert found["chosen"].keys() == kinds
  assert set(found["chosen"].values()) <= readouts
  assert {(r["layer"], r["readout"], r["probe"]) for r in found["layers"]} == {
      (layer, a, b) for layer in range(5) for a in readouts
      for b in ("knn_k20", "linear")}
  at_random = got["random_init"]["probes"]
  assert at_random["chosen"].keys() == kinds and at_random != found
  said = capsys.readouterr()
  assert said.out.startswith(verdict.headline(got) + "\nfolder:")
  assert tables.table(found, at_random) in said.out and str(file) in said.out
  assert [line.partition(",")[0] for line in said.err.splitlines()
          if line.startswith("[")] == ["[1/4", "[2/4", "[3/4", "[4/4"]
  assert "read from" not in said.err
  # Again: the same numbers from the cache, of trained and random parameters.
  again = evaluate.evaluate(run, options(layer_images=20))
  assert capsys.readouterr().err.count("read from") == 6
  assert again["probes"] == found


def test_scikit_learn_finds_the_same_in_features_of_the_api(
    run, colors, of_colors):
  got = of_colors
  encoder, sets = mtvit.load(run), {}
  for split in ("train", "test"):
    files = sorted((colors / split).rglob("*.png"), key=lambda f: (
        f.parent.name, f.name))
    sets[split] = (
        encoder.features([Image.open(f) for f in files], "ct+gap"),
        np.array([f.parent.name for f in files]))
  (x, y), (x_test, test) = sets["train"], sets["test"]
  knn = sklearn.neighbors.KNeighborsClassifier(
      20, metric="cosine", algorithm="brute",
      weights=lambda distance: np.exp(-distance / 0.07)).fit(x, y)
  row = row_of(got, "ct+gap", "knn_k20")
  assert row["accuracy"] == pytest.approx(knn.score(x_test, test), abs=0.04)
  row = row_of(got, "ct+gap", "linear")
  mean, scale = x.mean(0), x.std(0)
  linear = sklearn.linear_model.LogisticRegression(
      C=1 / (len(x) * row["l2"]), max_iter=5000).fit((x - mean) / scale, y)
  assert row["accuracy"] == pytest.approx(
      linear.score((x_test - mean) / scale, test), abs=0.04)
  assert row["accuracy"] > 0.9


def test_a_checkpoint_and_a_layer_have_files_of_their_own(run):
  a = evaluate.evaluate(run / "checkpoints" / "1", options())
  b = evaluate.evaluate(run, options(step=1))
  assert a["step"] == b["step"] == 1 and a["probes"] == b["probes"]
  last = evaluate.evaluate(run, options())
  assert last["step"] == 2 and last["probes"] != a["probes"]
  assert last["probes"]["layers"] == []
  second = evaluate.evaluate(run, options(layer=2))
  assert {r["layer"] for r in second["probes"]["test"]} == {2}
  by_number = evaluate.evaluate(run, options(layer=4))
  assert by_number["probes"] == last["probes"]
  folder, = (run / "evaluation").glob("folder_*")
  assert {f.name for f in folder.iterdir()} == {
      "evaluation_step1.json", "evaluation.json", "evaluation_layer2.json",
      "evaluation_layer4.json"}


def test_shuffled_labels(run, colors, of_colors):
  shuffled = evaluate.evaluate(
      run, options(shuffle_labels=True, data=f"folder:{colors}"))
  for probe in ("knn_k20", "linear", "fewshot_10"):
    assert row_of(of_colors, "gap", probe)["accuracy"] > 0.9
    # Chance, but of three heaps of images alike.
    assert row_of(shuffled, "gap", probe)["accuracy"] < 0.9
  # It does not take the place of a true one.
  folder, = (run / "evaluation").glob("folder_*")
  names = {f.name for f in folder.iterdir()} - {"evaluation.json"}
  assert names == {"evaluation_shuffled.json"}


def test_random_init_is_what_the_run_began_with(run, parsed):
  """Not the architecture with any seed: the parameters that it trained."""
  config = dataclasses.replace(saved_runs.load(run).config, data=parsed.data)
  mesh = sharding.create_mesh(config.mesh)
  parts = assembly.create(
      config, mesh, inputs.sources(config)[0], total_steps=2)
  want = parts.first_state().params["encoder"]
  got = target_lib.open_target(run).random_init()
  jax.tree.map(np.testing.assert_array_equal, got.params, want)
  assert got.step == 0
  other = train_state.first_encoder(got.module, got.model, config.seed + 1)
  assert (other["embed"]["kernel"] != got.params["embed"]["kernel"]).any()


def test_the_test_split_decides_nothing(run, colors, of_colors, tmp_path):
  other = tmp_path / "colors"      # The test images have each other's labels.
  shutil.copytree(colors, other)
  (other / "test" / "red").rename(other / "test" / "old")
  (other / "test" / "blue").rename(other / "test" / "red")
  (other / "test" / "old").rename(other / "test" / "blue")
  a = of_colors
  b = evaluate.evaluate(run, options(data=f"folder:{other}"))
  assert a["probes"]["chosen"] == b["probes"]["chosen"]
  for x, y in zip(a["probes"]["test"], b["probes"]["test"], strict=True):
    assert [x.get(k) for k in ("val_accuracy", "l2", "penalty")] == [
        y.get(k) for k in ("val_accuracy", "l2", "penalty")]
  assert row_of(a, "gap", "linear")["accuracy"] > 0.9
  assert row_of(b, "gap", "linear")["accuracy"] < 0.5


def test_the_checkpoint_may_go_and_nothing_is_written_where_it_says(
    run, colors, tmp_path, monkeypatch, caplog):
  """A run that goes on removes it; a stranger's names folders to write to."""
  mine = tmp_path / "mine"
  monkeypatch.setenv("MTVIT_CACHE_DIR", str(mine))
  theirs = pathlib.Path(saved_runs.load(run).config.data.cache_dir)
  everything = lambda: sorted(theirs.rglob("*"))
  before = everything()
  target = target_lib.open_target(
      run / "checkpoints" / "2",
      target_lib.Choice(data=f"folder:{colors}"))
  shutil.rmtree(run / "checkpoints")
  evaluate.evaluate_target(target, options())
  assert [f.name for f in (run / "evaluation").glob("folder_*/*.json")] == [
      "evaluation_step2.json"]
  assert before and everything() == before
  assert list(mine.rglob("*.mtvit"))
  given = target_lib.loading.with_own_folders(
      target.data, cache_dir="given", data_dir="there")
  assert (given.cache_dir, given.data_dir) == ("given", "there")


def test_limits(run):
  got = evaluate.evaluate(run, options(num_train=20, num_test=8))
  # It does not take the place of a whole one.
  assert [f.name for f in (run / "evaluation").glob("folder_*/*.json")] == [
      "evaluation_num_train20_num_test8.json"]
  assert (got["data"]["num_train"], got["data"]["num_val"],
          got["data"]["num_test"]) == (16, 4, 8)


@pytest.mark.slow
def test_a_gray_run_sees_gray_images(gray_run, monkeypatch):
  seen, make = [], pipeline.eval_batches

  def watched(*args, **kwargs):
    for batch in make(*args, **kwargs):
      seen.append(batch["image"])
      yield batch

  monkeypatch.setattr(pipeline, "eval_batches", watched)
  evaluate.evaluate(gray_run, options())
  images = np.concatenate(seen)
  assert len(images) >= 60 and (images == images[..., :1]).all()


def add_class(root, name, count):
  for split in ("train", "test"):
    (root / split / name).mkdir(parents=True)
    for i in range(count):
      Image.new("RGB", (32, 32), (i, 0, 0)).save(
          root / split / name / f"{i}.png")


def test_errors(run, tmp_path, colors):
  add_class(tmp_path / "few", "a", 1)
  add_class(tmp_path / "few", "b", 1)
  with pytest.raises(errors.DataError, match="no class has two"):
    evaluate.evaluate(run, options(data=f"folder:{tmp_path / 'few'}"))
  with pytest.raises(errors.ConfigError, match=(
      "no folder 'validation'; folders there: test, train\n.*test_split=test")):
    evaluate.evaluate(run, options(
        data=f"folder:{colors}", test_split="validation"))
  with pytest.raises(errors.ConfigError, match="to 4"):
    evaluate.evaluate(run, options(layer=5))
  with pytest.raises(errors.CheckpointError, match="step 7"):
    evaluate.evaluate(run, options(step=7))
  with pytest.raises(errors.CheckpointError, match="does not exist"):
    evaluate.evaluate(tmp_path / "nothing", options())
  shutil.rmtree(run / "evaluation")
  (run / "evaluation").write_text("")
  with pytest.raises(errors.ConfigError, match="can't be written"):
    evaluate.evaluate(run, options())


@pytest.mark.parametrize("arguments, code, text", [
    (["--help"], 1, "shuffle_labels"),      # absl's exit code for --help.
    ([], 2, "--workdir is missing"),
    (["--workdir=x", "--draws=1"], 2, "draws"),
    (["--workdir=/nothing"], 5, "does not exist"),
])
def test_the_command_line_without_tensorflow(arguments, code, text):
  program = (
      "import runpy, sys, atexit\n"
      "atexit.register(lambda: print('tensorflow' in sys.modules))\n"
      f"sys.argv = ['evaluate'] + {arguments!r}\n"
      "runpy.run_module('mtvit.evaluate', run_name='__main__')\n")
  done = subprocess.run(
      [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
      text=True, timeout=300)
  assert done.returncode == code, done.stderr
  assert done.stdout.splitlines()[-1] == "False"
  assert text in done.stdout + done.stderr
  assert len(done.stderr.splitlines()) <= 5

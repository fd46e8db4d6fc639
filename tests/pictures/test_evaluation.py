"""The diagnostics, pictures and TensorBoard events of a whole evaluation."""

import json
import shutil
import types

import numpy as np
from PIL import Image
import pytest
from tensorboard.backend.event_processing import event_accumulator

from mtvit import encoder as encoder_lib
from mtvit import evaluate
from mtvit.pictures import evaluation as evaluation_pictures
from mtvit.pictures import plots
from mtvit.probes import frozen
from mtvit.probes import target as target_lib
from mtvit.run import reading
from mtvit.training import inputs
from mtvit.training import saved_runs


@pytest.mark.slow
def test_an_evaluation_leaves_its_insides(run, image_folder, capsys):
  target = target_lib.open_target(run)
  # As a run does that goes on meanwhile.
  shutil.rmtree(run / "checkpoints")
  found = evaluate.evaluate_target(target, evaluate.Options(
      layer_images=20, draws=2, cheat_steps=6))
  folder = next((run / "evaluation").glob("*/evaluation.json")).parent
  saved = reading.read_json(folder / "evaluation.json")
  assert saved["diagnostics"] == json.loads(json.dumps(found["diagnostics"]))
  section = saved["diagnostics"]
  assert [row["layer"] for row in section["layers"]] == [0, 1, 2, 3, 4]
  assert {row["blank"] for row in section["cheat"]} == {
      "nothing", "queried", "contents", "positions", "both"}
  assert {row["task"] for row in section["cheat"]} == {"relative_position"}
  assert section["dense"]["chance"] == pytest.approx(0.25, abs=0.1)
  text = capsys.readouterr().out
  for words in ("residual", "position embeddings: R²", "RankMe", "dense probe",
                "relative_position, position=keep"):
    assert words in text
  for name in ("layers", "positions", "attention", "neighbours"):
    with Image.open(folder / f"{name}.png") as image:
      assert np.asarray(image).std() > 1, name
  events = event_accumulator.EventAccumulator(
      str(run), size_guidance={"images": 0, "scalars": 0})
  events.Reload()
  tags = events.Tags()
  place = f"evaluation/{folder.name}"
  # clu writes tensors; TensorBoard shows them by their plugin.
  # The pictures of the training are there since it ended.
  assert {"report/curves", "report/colorize",
          f"{place}/layers", f"{place}/attention", f"{place}/knn_k20/gap/"
          f"layer_4"} <= {*tags["tensors"], *tags["images"], *tags["scalars"]}


@pytest.mark.slow
def test_one_part_alone(run, capsys):
  found = evaluate.evaluate(run, evaluate.Options(
      layer_images=0, draws=2, diagnostics=False))
  assert "diagnostics" not in found
  assert not list((run / "evaluation").glob("*/*.png"))


def test_neighbours_are_the_images_that_they_stand_for(
    run, monkeypatch):
  """The test split searched in itself: each image is its own nearest."""
  shown = {}
  monkeypatch.setattr(
      plots, "save_neighbours",
      lambda queries, found, labels, found_labels, classes, file, cosines:
      shown.update(queries=queries, found=found, cosines=cosines,
                   labels=labels, found_labels=found_labels))
  monkeypatch.setattr(plots, "save_layers", lambda *unused: None)
  encoder = encoder_lib.load(run)
  _, test = inputs.sources(saved_runs.load(run).config)
  # Every second image, so that rows are not ids.
  split = frozen.Split(
      {"ct+gap": encoder.features(_centred(test, encoder), "ct+gap")[::2]},
      test.labels[::2])
  diagnostics = {"layers": [], "positions": None}
  evaluation_pictures.save_pictures(
      types.SimpleNamespace(
          encoder=encoder, train=test, test=test, train_features=split,
          test_features=split), {
              "probes": {"chosen": {"knn_k20": "ct+gap"}},
              "diagnostics": diagnostics,
              "random_init": {"diagnostics": diagnostics}},
      run / "pictures")
  assert shown["found"].shape == (6, 7, 32, 32, 3)
  np.testing.assert_array_equal(shown["found"][:, 0], shown["queries"])
  np.testing.assert_array_equal(shown["found_labels"][:, 0], shown["labels"])
  np.testing.assert_allclose(shown["cosines"][:, 0], 1, atol=1e-5)
  assert (shown["queries"][0] != shown["queries"][1]).any()


def _centred(source, encoder):
  return evaluation_pictures._images(
      encoder, source, np.arange(source.num_examples))


def test_images_by_id(run):
  encoder = encoder_lib.load(run)
  _, test = inputs.sources(saved_runs.load(run).config)
  every = _centred(test, encoder)
  ids = np.array([[5, 0], [5, 17]])
  np.testing.assert_array_equal(
      evaluation_pictures._images(encoder, test, ids), every[ids])

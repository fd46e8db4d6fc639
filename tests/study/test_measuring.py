"""What is measured of a run, each figure beside another way to it."""

import base64
import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.checkpoints import loading
from mtvit.data import pipeline
from mtvit.diagnostics import positions
from mtvit.diagnostics import rank
from mtvit.probes import frozen
from mtvit.probes import knn
from mtvit.probes import linear
from mtvit.probes import target
from mtvit.run import paths
from mtvit.run import reading
from mtvit.study import measuring
from mtvit.study.measures import inside
from mtvit.study.measures import probes
from mtvit.study.measures import training
from mtvit.training import cost
from mtvit.training import inputs
from mtvit.training import run_tasks

SIZES = measuring.Measures(
    num_train=30, num_test=16, layers=8, mosaics=(4, 3), heldout=8,
    cheat_steps=3, permutations=2)


@pytest.fixture
def raw(run):
  return reading.read_json(run / "config.json")


@pytest.fixture
def found(run, raw, kept):
  if not kept:
    kept.update(measuring.measure(raw, run, SIZES))
  return kept


def images(raw, split, limit, gray=False):
  """(images, labels) as the encoder sees them."""
  config = config_lib.parse(raw)
  source = dict(zip(("train", "test"), inputs.sources(config)))[split]
  batch, = pipeline.eval_batches(
      source, config.model.image_size, limit, limit, gray)
  return batch["image"], batch["label"]


@pytest.mark.slow
def test_probes_are_those_of_the_readout_that_validation_chose(
    run, raw, found):
  encoder = encoder_lib.load(run)
  (x, y), (x_test, y_test) = images(raw, "train", 30), images(raw, "test", 16)
  val = frozen.validation(y)
  for probe in ("knn", "linear"):
    chosen = found[f"{probe}/readout"]
    best = max(found[f"{probe}_val/{name}"] for name in encoder.readouts)
    assert found[f"{probe}_val/{chosen}"] == best
    assert found[probe] == found[f"{probe}/{chosen}"]
    right = np.unpackbits(np.frombuffer(
        base64.b64decode(found[f"{probe}/correct"]), np.uint8), count=16)
    assert 100 * right.mean() == found[probe]
  for name in encoder.readouts:
    a, b = (encoder.features(z, name) for z in (x, x_test))
    assert found[f"knn/{name}"] == pytest.approx(100 * knn.accuracy(
        a, y, b, y_test, k=20, temperature=0.07))
    best = linear.select(a[~val], y[~val], a[val], y[val], 4)
    assert found[f"linear_val/{name}"] == pytest.approx(100 * best.accuracy)
    assert found[f"linear/{name}"] == pytest.approx(100 * np.mean(linear.fit(
        a, y, 4, best.l2, best.probe).predict(b) == y_test))
    assert found[f"rankme/{name}"] == pytest.approx(rank.rankme(b), rel=1e-4)
  assert found["rankme"] == found[f"rankme/{found['knn/readout']}"]
  assert (found["num_train"], found["num_test"]) == (30, 16)


def test_bits_are_packed_eight_in_a_byte_the_first_one_highest():
  bits = np.array([1, 0, 0, 0, 0, 0, 0, 1, 1], bool)
  assert base64.b64decode(probes.packed(bits)) == bytes([129, 128])


@pytest.mark.slow
def test_the_same_probes_see_images_without_colour(run, raw, found):
  encoder = encoder_lib.load(run)
  x, y = images(raw, "train", 30)
  gray, y_test = images(raw, "test", 16, gray=True)
  assert (gray[..., 0] == gray[..., 1]).all()
  name = found["knn/readout"]
  assert found["knn_gray"] == pytest.approx(100 * knn.accuracy(
      encoder.features(x, name), y, encoder.features(gray, name), y_test,
      k=20, temperature=0.07))


def test_shuffled_labels_leave_chance_of_features_that_tell_all():
  def split(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 400)
    x = np.eye(4)[labels] + 0.1 * rng.standard_normal((400, 4))
    return frozen.Split({"gap": x.astype(np.float32)}, labels)

  # Each of the four clusters gets one class, right or wrong.
  found = probes.shuffled_labels(split(0), split(1), 0, 50)
  assert abs(found - 25) < 10
  assert found == probes.shuffled_labels(split(0), split(1), 0, 50)
  assert found != probes.shuffled_labels(split(0), split(1), 1, 50)


@pytest.mark.slow
def test_losses_skills_and_the_cheat_index(found):
  tasks = ("relative_position", "contrastive", "colorize")
  for task in tasks:
    assert found[f"loss/{task}"] > 0 and found[f"skill/{task}"] <= 1
  assert {key for key in found if key.startswith("skill/")} == {
      f"skill/{task}" for task in tasks}
  assert {key.split("/")[2] for key in found if key.endswith("/refitted")} == {
      "nothing", "contents", "positions"}
  assert found["cheat/relative_position/chance"] == 1 / 8
  # One batch of the run's eight images, two views each, one pair both ways.
  assert found["cheat/relative_position/count"] == 8 * 2 * 1
  assert 0 <= found["cheat/relative_position/contents/trained"] <= 1


@pytest.mark.slow
def test_layers_and_positions(run, raw, found):
  depth = encoder_lib.load(run).module.depth
  for name in inside.LAYERS:
    assert len(found[f"layers/{name}"]) == depth + 1
  shares = [found[f"layers/{x}_share"] for x in (
      "image", "position", "residual")]
  np.testing.assert_allclose(np.sum(shares, axis=0), 1, atol=1e-4)
  want = positions.describe(
      loading.load_checkpoint(run).state["encoder"]["position"], (4, 4))
  assert found["position/r2"] == pytest.approx(
      (want["r2_row"] + want["r2_column"]) / 2)
  assert found["position/distance_correlation"] == want["distance_correlation"]
  assert 0 <= found["mosaic/low"] <= found["mosaic/accuracy"] <= 100


@pytest.mark.slow
def test_what_the_run_wrote_and_what_a_step_takes(raw, found):
  assert (found["steps"], found["skipped"]) == (2, 0)
  assert found["seconds_step"] > 0
  assert found["flops_step"] == cost.flops(config_lib.parse(raw))
  json.dumps(found, allow_nan=False)


def test_cosines_by_third_of_training():
  line = lambda step, value: {
      "step": step, "gradients/late/cosine/a/b": value,
      "gradients/late/norm/a": 9.0}
  found = training.cosines([
      line(10, 0.5), line(11, 0.1), line(20, 0.3), line(21, -0.2),
      line(30, -0.4), {"step": 30, "train/loss": 1.0}], 30)
  assert found == pytest.approx({
      "gradients/early/late/a~b": 0.5, "gradients/middle/late/a~b": 0.2,
      "gradients/late/late/a~b": -0.3})


@pytest.mark.slow
def test_digests(run, raw, found):
  params = loading.load_checkpoint(run).state
  total = hashlib.sha256()
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    name = "/".join(key.key for key in path)
    total.update(f"{name} {x.dtype} {x.shape}".encode() + x.tobytes())
  assert found["digest"] == total.hexdigest()
  config = config_lib.parse(raw)
  source, _ = inputs.sources(config)

  def pixels(mode, **changes):
    tasks = dict(config.tasks) | {
        "colorize": dict(config.tasks["colorize"], mode=mode)}
    changed = dataclasses.replace(config, tasks=tasks, **changes)
    return training.images_digest(
        changed, run_tasks.create(changed), source, config.total_steps)

  # A task that no longer learns still corrupts, one that is off does not.
  assert found["images_digest"] == pixels("corrupt")
  assert found["images_digest"] not in (pixels("off"), pixels("train", seed=1))


@pytest.mark.slow
def test_first_parameters_are_measured_without_a_run(run, raw):
  first = target.open_target(paths.parse(run)).random_init()
  found = measuring.measure(raw, None, SIZES)
  x, _ = images(raw, "test", 16)
  assert found["rankme/gap"] == pytest.approx(
      rank.rankme(first.features(x, "gap")), rel=1e-4)
  assert found["steps"] == 0 and "skill/contrastive" in found
  assert "seconds_step" not in found
  assert not [key for key in found if key.startswith("gradients/")]


def test_a_run_that_has_not_ended(run, raw):
  with pytest.raises(errors.CheckpointError, match="is of step 2.*has 5"):
    measuring.measure(raw | {"total_steps": 5}, run, SIZES)

"""All diagnostics of an encoder, against plain numpy on its tokens."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import sklearn.neighbors

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit.data import pipeline
from mtvit.diagnostics import measures
from mtvit.diagnostics import positions
from mtvit.diagnostics import tables
from mtvit.probes import options as options_lib
from mtvit.probes import subject as subject_lib
from mtvit.training import inputs
from mtvit.training import sharding

CHEAT = [dict(
    task="jigsaw", position="keep", chance=0.1, slot_bound=None,
    chance_low=0.05, chance_high=0.15, blank="nothing", trained=0.2,
    refitted=0.3, count=100)]
NAMES = ("cls", "ct", "gap", "ct+gap")


@pytest.fixture(scope="module")
def mesh():
  return sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))


def random_encoder(model, policy="drop", gray=False):
  module = model.encoder(("cls", "ct"), policy)
  size = model.image_size
  params = module.init(
      jax.random.key(0), np.zeros((1, size, size, 3), np.uint8))["params"]
  params = jax.tree.map(np.asarray, params)
  if "position" in params:
    params["position"] = 10 * params["position"]    # So that they count.
  return encoder_lib.Encoder(
      name="random", model=model, module=module, params=params, gray=gray,
      step=0)


@pytest.fixture
def measure(mesh, tmp_path):
  """All of it, of an encoder and of some training and test images."""

  def measured(encoder, train, test, **sizes):
    subject = subject_lib.Subject(
        encoder=encoder, mesh=mesh, train=train, test=test, folder=tmp_path,
        options=options_lib.Options(num_train=30))
    sizes = measures.Sizes(**dict(
        layers=13, train=30, test=20, mosaics=(10, 3)) | sizes)
    return {"layers": measures.layers(subject, sizes),
            "positions": measures.places(subject, sizes),
            "rank": measures.ranks(subject),
            "dense": measures.mosaics(subject, sizes), "cheat": CHEAT}

  return measured


def images_of(source, limit, gray=False):
  batches = list(pipeline.eval_batches(source, 32, 8, limit, gray))
  return tuple(np.concatenate([b[key][b["valid"]] for b in batches])
               for key in ("image", "label"))


def outputs(encoder, image):
  """Without jit, mesh or batches: patch tokens of all layers, attention."""
  found = encoder.module.apply(
      {"params": encoder.params}, image, layers=True, attention=True)
  special = len(encoder.token_names)
  return (np.asarray(found.layers[:, :, special:], np.float64),
          np.asarray(found.attention[..., special:, :], np.float64))


def test_everything_of_a_random_encoder(parsed, mesh, measure):
  encoder = random_encoder(parsed.model)
  train, test = inputs.sources(parsed)
  with jax.set_mesh(mesh):      # As `mtvit.evaluate` has it.
    found = measure(encoder, train, test)
  json.dumps(found, allow_nan=False)
  assert set(found) == {"layers", "positions", "rank", "dense", "cheat"}
  depth = encoder.module.depth
  assert [row["layer"] for row in found["layers"]] == list(range(depth + 1))
  assert set(found["layers"][0]) == {
      "layer", "cosine", "cosine_centred", "effective_rank", "image_share",
      "position_share", "residual_share", "attention_entropy",
      "attention_distance"}
  assert set(found["positions"]) == {
      "r2_row", "r2_column", "distance_correlation", "grid", "similarity",
      "accuracy"}
  assert np.shape(found["positions"]["similarity"]) == (16, 16)
  assert set(found["dense"]) == {"accuracy", "low", "high", "chance"}
  assert found["cheat"] == CHEAT
  text = tables.table(found, found)
  assert "jigsaw" in text and "RankMe" in text and "mosaics" in text
  assert "R² of row" in text and "zeroed" in text
  assert max(map(len, text.splitlines())) <= 100


def test_layers_equal_numpy_on_all_tokens(parsed, measure, monkeypatch):
  encoder = random_encoder(parsed.model)
  _, test = inputs.sources(parsed)
  # The least batch of 8 devices, so that there are several and one is padded.
  monkeypatch.setattr(measures, "LAYERS_BYTES", 1)
  rows = measure(encoder, test, test)["layers"]
  image, _ = images_of(test, 13)
  tokens, attention = outputs(encoder, image)
  far = np.linalg.norm(
      np.indices((4, 4)).reshape(2, 16, 1) - np.indices((4, 4)).reshape(
          2, 1, 16), axis=0)
  for layer, x in enumerate(tokens):                        # [m, n, d]
    centred = x - x.mean((0, 1))
    parts = [
        np.broadcast_to(centred.mean(1, keepdims=True), x.shape),
        np.broadcast_to(centred.mean(0, keepdims=True), x.shape)]
    parts.append(centred - sum(parts))
    want = [np.square(p).sum() / np.square(centred).sum() for p in parts]
    row = rows[layer]
    assert [row[f"{name}_share"] for name in (
        "image", "position", "residual")] == pytest.approx(want, rel=1e-3)
    for name, y in (("cosine", x), ("cosine_centred", centred)):
      unit = y / np.linalg.norm(y, axis=-1, keepdims=True)
      cosines = unit @ unit.swapaxes(1, 2)
      want = (cosines.sum() - 13 * 16) / (13 * 16 * 15)
      assert row[name] == pytest.approx(want, abs=1e-5)
    values = np.linalg.svd(centred.reshape(-1, x.shape[-1]))[1]
    share = values / values.sum()
    assert row["effective_rank"] == pytest.approx(
        np.exp(-(share * np.log(share)).sum()), rel=1e-3)
    if layer:
      w = attention[layer - 1]                              # [m, h, n, t+n]
      entropy = -(w * np.log(w)).sum(-1).mean() / np.log(18)
      assert row["attention_entropy"] == pytest.approx(entropy, abs=1e-5)
      w = w[..., 2:] / w[..., 2:].sum(-1, keepdims=True)
      assert row["attention_distance"] == pytest.approx(
          (w * far).sum(-1).mean(), abs=1e-4)
  assert rows[0]["attention_entropy"] is None


def test_accuracy_and_rank_equal_scikit_learn_on_features(parsed, measure):
  encoder = random_encoder(parsed.model)
  train, test = inputs.sources(parsed)
  found = measure(encoder, train, test)
  (x, y), (x_test, y_test) = images_of(train, 30), images_of(test, 20)
  embedding = encoder.params["position"]
  embeddings = positions.changed(embedding) | {"as_trained": embedding}
  assert found["positions"]["accuracy"].keys() == embeddings.keys()
  for name, other in embeddings.items():
    changed = dataclasses.replace(
        encoder, params=encoder.params | {"position": other})
    oracle = sklearn.neighbors.KNeighborsClassifier(
        20, metric="cosine", algorithm="brute",
        weights=lambda distance: np.exp(-distance / 0.07))
    want = oracle.fit(changed.features(x), y).score(
        changed.features(x_test), y_test)
    assert found["positions"]["accuracy"][name] == pytest.approx(want)
  assert [row["readout"] for row in found["rank"]] == list(NAMES)
  for row in found["rank"]:
    values = np.linalg.svd(encoder.features(x, row["readout"]))[1]
    share = values / values.sum()
    assert row["rankme"] == pytest.approx(
        np.exp(-(share * np.log(share)).sum()), rel=1e-3)


def test_without_embeddings_or_quadrants(parsed, measure):
  model = dataclasses.replace(parsed.model, variant="pico/32")
  encoder = random_encoder(model, "drop_all")
  train, test = inputs.sources(parsed)
  found = measure(encoder, train, test)
  assert found["positions"] is None and found["dense"] is None
  json.dumps(found, allow_nan=False)
  assert "R²" not in tables.table(found, found)


def test_without_labels(parsed, measure):
  encoder = random_encoder(parsed.model)
  train, test = (
      dataclasses.replace(s, labels=np.full_like(s.labels, -1))
      for s in inputs.sources(parsed))
  found = measure(encoder, train, test)
  assert found["dense"] is None and found["positions"]["accuracy"] is None
  tables.table(found, found)


def test_the_dense_probe_finds_colours(parsed, measure, monkeypatch):
  # Every image has the colour of its class; shuffled labels leave chance.
  monkeypatch.setattr(measures, "DENSE_PATCHES", 8)      # Of 16.
  monkeypatch.setattr(measures, "BATCH", 64)    # The last is padded.
  encoder = random_encoder(parsed.model)
  rng = np.random.default_rng(0)

  def painted(source, count, shuffle):
    labels = rng.integers(0, 4, count).astype(np.int32)
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [200] * 3])
    image = colours[labels][:, None, None] + rng.integers(
        0, 50, (count, 32, 32, 3))
    if shuffle:
      labels = rng.permutation(labels)
    return dataclasses.replace(
        source, images=image.astype(np.uint8), labels=labels,
        num_examples=count)

  train, test = inputs.sources(parsed)
  for shuffle in (False, True):
    found = measure(encoder, painted(train, 400, shuffle),
        painted(test, 200, shuffle), mosaics=(100, 60))["dense"]
    assert 0.25 <= found["chance"] < 0.35
    assert found["low"] <= found["accuracy"] <= found["high"]
    if shuffle:
      assert abs(found["accuracy"] - 0.25) < 0.1
    else:
      assert found["accuracy"] > 0.95


def test_a_gray_run_sees_gray(parsed, measure):
  train, test = inputs.sources(parsed)
  gray = random_encoder(parsed.model, gray=True)
  rows = measure(gray, train, test)["layers"]
  tokens, _ = outputs(gray, images_of(test, 13, gray=True)[0])
  centred = tokens[-1] - tokens[-1].mean((0, 1))
  want = np.square(centred.mean(1)).sum() * 16 / np.square(centred).sum()
  assert rows[-1]["image_share"] == pytest.approx(want, rel=1e-3)

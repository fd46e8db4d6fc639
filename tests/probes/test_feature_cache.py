"""The cache of features: when it is used, and when it must not be."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.data import cache_files
from mtvit.data import pipeline
from mtvit.probes import feature_cache
from mtvit.training import inputs
from mtvit.training import sharding


@pytest.fixture
def train(parsed):
  return inputs.sources(parsed)[0]


@pytest.fixture
def encoder(parsed):
  module = parsed.model.encoder(("cls", "ct"))
  params = module.init(
      jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))["params"]
  return encoder_lib.Encoder(
      name="run", model=parsed.model, module=module,
      params=jax.device_get(params), gray=False, step=2)


@pytest.fixture
def read(monkeypatch):
  """How many images the pipeline gave so far."""
  given, make = [], pipeline.eval_batches

  def counted(*args, **kwargs):
    for batch in make(*args, **kwargs):
      given.append(batch["valid"].sum())
      yield batch

  monkeypatch.setattr(pipeline, "eval_batches", counted)
  return lambda: int(sum(given))


def extractor(encoder, folder, said=None):
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  return feature_cache.Extractor(
      encoder, encoder.params, mesh, folder, (lambda text: None) if said is None
      else said.append)


def test_the_second_time_nothing_is_extracted(encoder, train, tmp_path, read):
  said = []
  first = extractor(encoder, tmp_path, said)(train, 0)
  assert read() == 40
  again = extractor(encoder, tmp_path, said)(train, 0)
  assert read() == 40
  assert len(said) == 1 and "read from" in said[0]
  np.testing.assert_array_equal(first.labels, train.labels)
  np.testing.assert_array_equal(again.labels, train.labels)
  assert list(first.features) == list(again.features) == ["cls", "ct", "gap"]
  for name, x in first.features.items():
    assert x.shape == (40, 96)
    np.testing.assert_array_equal(again.features[name], x)


def test_images_are_evenly_spaced(encoder, train, tmp_path):
  extract = extractor(encoder, tmp_path)
  everything, some = extract(train, 0), extract(train, 10)
  np.testing.assert_allclose(
      some.features["ct"], everything.features["ct"][::4], atol=1e-5)
  np.testing.assert_array_equal(some.labels, train.labels[::4])


def test_everything_that_matters_is_in_the_key(encoder, train, tmp_path, read):
  params = jax.tree.map(np.copy, encoder.params)
  params["blocks"]["fc1"]["bias"][1, 3] += 1e-3
  other_model = dataclasses.replace(encoder.model, activation="gelu")
  cases = [
      (encoder, train, 0, None),
      (dataclasses.replace(encoder, params=params), train, 0, None),
      (dataclasses.replace(encoder, gray=True), train, 0, None),
      (dataclasses.replace(encoder, step=3), train, 0, None),
      (dataclasses.replace(
          encoder, model=other_model, module=encoder.module.clone(
              activation="gelu")), train, 0, None),
      (encoder, dataclasses.replace(train, fingerprint="other"), 0, None),
      (encoder, train, 24, None), (encoder, train, 0, [1]),
      (encoder, train, 0, [2])]
  before = 0
  for case, (model, *rest) in enumerate(cases):
    extractor(model, tmp_path)(*rest)
    assert read() > before, case
    before = read()
  assert len(list(tmp_path.glob("*.mtvit"))) == len(cases)
  for model, *rest in cases:
    extractor(model, tmp_path)(*rest)
  assert read() == before


@pytest.mark.parametrize("harm", [
    "truncated", "flipped", "empty", "shape", "bytes", "missing"])
def test_a_damaged_file_is_made_anew(
    encoder, train, tmp_path, read, harm, capsys):
  want = extractor(encoder, tmp_path)(train, 0)
  file, = tmp_path.glob("*.mtvit")
  data = bytearray(file.read_bytes())
  arrays = {f"feature_{name}": x for name, x in want.features.items()} | {
      "labels": want.labels}
  if harm == "truncated":
    file.write_bytes(data[:len(data) // 2])
  elif harm == "flipped":
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
  elif harm == "empty":
    file.write_bytes(b"")
  else:
    x = arrays.pop("feature_ct")
    if harm != "missing":
      arrays["feature_ct"] = {
          "shape": x[:-1], "bytes": x.astype(np.uint8)}[harm]
    cache_files.save(file, arrays)
  got = extractor(encoder, tmp_path)(train, 0)
  assert read() == 80 and "made anew" in capsys.readouterr().err
  for name, x in want.features.items():
    np.testing.assert_allclose(got.features[name], x, atol=1e-6)
  extractor(encoder, tmp_path)(train, 0)
  assert read() == 80


def test_features_with_stand_ins_are_not_kept(encoder, train, tmp_path):
  train.bad.reasons[3] = "broken"
  got = extractor(encoder, tmp_path)(train, 0)
  assert not list(tmp_path.glob("*.mtvit"))
  np.testing.assert_allclose(
      got.features["ct"][3], got.features["ct"][4], atol=1e-5)


def test_features_that_are_not_finite(encoder, train, tmp_path):
  params = jax.tree.map(np.copy, encoder.params)
  params["norm"]["bias"][0] = np.nan
  broken = dataclasses.replace(encoder, params=params)
  with pytest.raises(errors.NonFiniteError, match="not finite"):
    extractor(broken, tmp_path)(train, 0)
  assert not list(tmp_path.glob("*.mtvit"))


def test_the_cache_does_not_grow_for_ever(encoder, train, tmp_path):
  other = tmp_path / "notes.mtvit"
  other.touch()
  for i in range(feature_cache._MOST + 3):
    name = f"{i:024x}.mtvit"
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (1e9 + i,) * 2)
  extractor(encoder, tmp_path)(train, 10)
  kept = sorted(file.name for file in tmp_path.glob("*.mtvit"))
  assert len(kept) == feature_cache._MOST + 1 and other.name in kept
  assert f"{3:024x}.mtvit" not in kept and f"{4:024x}.mtvit" in kept

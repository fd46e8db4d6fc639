"""Feature extraction: all valid rows, in order, from the right outputs."""

import jax
import numpy as np

from mtvit import config as config_lib
from mtvit.data import pipeline
from mtvit.models import pretrainer
from mtvit.probes import features
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding


def test_features_are_those_of_the_clean_images(parsed):
  tasks = run_tasks.create(parsed)
  model = pretrainer.Pretrainer(parsed.model, tasks)
  train, _ = inputs.sources(parsed)
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  encoder = parsed.model.encoder(model.token_names)
  images = np.concatenate(
      [b["image"][b["valid"]] for b in pipeline.eval_batches(train, 32, 16)])
  assert len(images) == 40
  params = {"encoder": encoder.init(jax.random.key(0), images[:2])["params"]}
  got, labels = features.extract(
      params, pipeline.eval_batches(train, 32, 16),
      features.extractor(model, mesh), mesh)
  want = encoder.apply({"params": params["encoder"]}, images)
  assert set(got) == {"cls", "ct", "gap"}
  np.testing.assert_allclose(got["ct"], want.tokens["ct"], atol=1e-5)
  np.testing.assert_allclose(got["gap"], want.patches.mean(1), atol=1e-5)
  np.testing.assert_array_equal(labels, train.labels)


def test_every_layer_is_read_under_the_final_norm(parsed):
  module = parsed.model.encoder(("cls", "ct"))
  train, _ = inputs.sources(parsed)
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  images = next(pipeline.eval_batches(train, 32, 40))["image"]
  params = module.init(jax.random.key(0), images[:2])["params"]
  # Batches of 16: the last of three holds eight images.
  got, _ = features.extract(
      params, pipeline.eval_batches(train, 32, 16),
      features.encoder_extractor(module, mesh, (0, 3, 4)), mesh)
  out = module.apply({"params": params}, images, layers=True)
  x = np.asarray(out.layers[3], np.float64)                 # [b, t+n, d]
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-6)      # The initial scale is 1, bias 0.
  for name, want in (("ct", x[:, 1]), ("gap", x[:, 2:].mean(1))):
    assert got[name].shape == (3, 40, 96) and got[name].dtype == np.float32
    np.testing.assert_allclose(got[name][1], want, atol=1e-4)
  last, _ = features.extract(
      params, pipeline.eval_batches(train, 32, 16),
      features.encoder_extractor(module, mesh), mesh)
  for name in ("cls", "ct", "gap"):
    np.testing.assert_allclose(got[name][2], last[name], atol=1e-5)


def test_it_can_be_told_to_stop(parsed):
  tasks = run_tasks.create(parsed)
  model = pretrainer.Pretrainer(parsed.model, tasks)
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))

  answers = iter([True])
  got, labels = features.extract(
      {}, iter([{"image": np.zeros((8, 32, 32, 3), np.uint8)}]),
      features.extractor(model, mesh), mesh, lambda: next(answers))
  assert got == {} and len(labels) == 0

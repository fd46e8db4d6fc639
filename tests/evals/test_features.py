"""Feature extraction: all valid rows, in order, from the right outputs."""

import jax
import numpy as np

from mtvit import build
from mtvit import config as config_lib
from mtvit import sharding
from mtvit.data import pipeline
from mtvit.evals import features
from mtvit.models import pretrainer


def test_features_are_those_of_the_clean_images(parsed):
  tasks = build.tasks(parsed)
  model = pretrainer.Pretrainer(parsed.model, tasks)
  train, _ = build.sources(parsed)
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


def test_it_can_be_told_to_stop(parsed):
  tasks = build.tasks(parsed)
  model = pretrainer.Pretrainer(parsed.model, tasks)
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))

  answers = iter([True])
  got, labels = features.extract(
      {}, iter([{"image": np.zeros((8, 32, 32, 3), np.uint8)}]),
      features.extractor(model, mesh), mesh, lambda: next(answers))
  assert got == {} and len(labels) == 0

"""What is looked at without labels: retrieval, and skills on other images."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.models import pretrainer
from mtvit.probes import features
from mtvit.probes import retrieval
from mtvit.probes import run_heldout
from mtvit.probes import run_knn
from mtvit.probes import run_retrieval
from mtvit.probes import without_labels as without_labels_lib
from mtvit.training import assembly
from mtvit.training import evaluation
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding


def without_labels(source):
  return dataclasses.replace(
      source, classes=(), labels=np.full(source.num_examples, -1, np.int32))


@pytest.fixture(scope="module")
def one_device():
  return jax.sharding.Mesh(
      np.array(jax.devices()[:1]).reshape(1, 1, 1), ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)


@pytest.fixture
def context_of(tiny, one_device):
  """Makes what an evaluator of a tiny run knows, on images without labels."""
  def make(mesh=None, whole=True, **sections):
    tiny.evaluators = {name: dict(found) for name, found in sections.items()}
    config, mesh = config_lib.parse(tiny), mesh or one_device
    train, test = map(without_labels, inputs.sources(config))
    parts = assembly.create(
        config, mesh, train, total_steps=100) if whole else (
            types.SimpleNamespace(
                config=config, mesh=mesh, model=pretrainer.Pretrainer(
                    config.model, run_tasks.create(config))))
    return evaluation.Context(
        parts=parts, train=train, test=test, workdir=None,
        should_stop=lambda: False)
  return make


def look(context, state):
  read = features.RunImages(context)
  return evaluation.Look(
      step=1, state=state,
      features=lambda split, limit: read(state.params, split, limit))


def test_the_other_view_is_counted_both_ways():
  a = np.eye(3, dtype=np.float32)
  assert retrieval.top1(a, 5 * a) == 1
  assert retrieval.top1(a, a[[1, 2, 0]]) == 0
  # Rows of `a` find theirs in `b`; the last of `b` is nearer to another of `a`.
  b = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0.9]], np.float32)
  assert retrieval.top1(a, b) == pytest.approx((3 + 2) / 6)
  # Features that have collapsed are as good as guessing.
  same = np.ones((50, 4), np.float32)
  assert retrieval.top1(same, same) == 1 / 50


def test_each_image_is_seen_once_in_two_views(
    parsed, one_device, monkeypatch):
  _, test = inputs.sources(parsed)
  monkeypatch.setattr(features, "BATCH", 4)
  views = retrieval.Views(parsed, test, one_device, 13)
  batches = list(views.batches())             # The last of four is not full.
  assert len(batches) == 4 and views.count == 13
  taken = np.concatenate([x["index"][x["valid"]] for x in batches])
  assert len(taken) == 26 and len(set(taken[::2])) == 13
  np.testing.assert_array_equal(taken[::2], taken[1::2])
  one, other = (batch["image"] for batch in batches[:2])
  assert (one[0] != one[1]).any() and (one[0] != other[0]).any()
  # They are the same in every look.
  for batch, again in zip(batches, views.batches()):
    np.testing.assert_array_equal(batch["image"], again["image"])
  assert retrieval.Views(parsed, test, one_device).count == 20      # Of all.


@pytest.mark.slow
def test_a_run_without_labels_is_looked_at(context_of, tiny):
  tiny.tasks.contrastive.update(kind="moco", queue_size=64)
  context = context_of()
  state = context.parts.first_state()
  before = jax.device_get(state.task_state)
  found = run_retrieval.Retrieval(context).run(look(context, state)).scalars
  assert found.keys() == {
      "retrieval/top1", "retrieval/chance", "retrieval/cls", "retrieval/ct",
      "retrieval/gap"}
  assert found["retrieval/chance"] == 1 / 20          # Of all there are.
  assert found["retrieval/top1"] == found["retrieval/ct"] > 1 / 20
  assert run_knn.Knn(context).run(look(context, state)).scalars == {}
  scalars = run_heldout.HeldOut(context).run(look(context, state)).scalars
  # The queue, which the loss reads, is as it was.
  jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(
      state.task_state))
  # Two batches of eight of the test images, as training would see them.
  batches = list(inputs.global_batches(
      context.config, context.parts.tasks, context.test, 0, 2))
  skills = []
  for batch in batches:
    _, (metrics, _) = context.parts.objective.losses(
        state.params, state, sharding.global_batch(batch, context.parts.mesh),
        train=False)
    skills.append([metrics[f"{task.name}/skill"]
                   for task in context.parts.tasks])
  names = [f"heldout/{task.name}/skill" for task in context.parts.tasks]
  assert list(scalars) == names and len(names) == 3
  np.testing.assert_allclose(
      list(scalars.values()), np.mean(skills, axis=0), atol=1e-5)


@pytest.mark.slow
def test_retrieval_is_the_same_on_every_mesh(context_of):
  mesh = sharding.create_mesh(config_lib.Mesh(data=2, fsdp=4, tensor=1))
  found = []
  for on in (None, mesh):
    context = context_of(on)
    with jax.set_mesh(context.parts.mesh):
      found.append(run_retrieval.Retrieval(context).run(
          look(context, context.parts.first_state())).scalars)
  assert found[0] == pytest.approx(found[1], abs=1 / 20)


class Looks(without_labels_lib.WithoutLabels):
  name, at_end = "looks", "run"


@pytest.mark.parametrize("when, classes, looks", [
    ("unlabelled", 0, True), ("unlabelled", 1, True), ("unlabelled", 2, False),
    ("always", 2, True), ("never", 0, False)])
def test_when_it_looks(when, classes, looks, parsed):
  config = dataclasses.replace(
      parsed, evaluators={"looks": {"when": when}},
      knn=dataclasses.replace(parsed.knn, every_steps=2))
  source = types.SimpleNamespace(classes=("a", "b")[:classes])
  evaluator = Looks(evaluation.Context(
      parts=types.SimpleNamespace(config=config), train=source, test=source,
      workdir=None, should_stop=lambda: False))
  assert evaluator.every == (2 if looks else 0)
  assert evaluator.at_end == ("run" if looks else "nothing")


@pytest.mark.parametrize("images, size", [
    (20, 8), (8, 8), (7, 4), (3, 2), (1, 0)])
def test_few_images_make_smaller_batches(images, size, one_device, parsed):
  parts = types.SimpleNamespace(config=parsed, mesh=one_device)
  assert run_heldout._batch_size(parts, images) == size


def test_too_few_images_for_the_devices_are_said(on_all, context_of, capsys):
  context = context_of(sharding.create_mesh(config_lib.Mesh()), whole=False)
  few = dataclasses.replace(context.test, num_examples=3)
  evaluator = run_heldout.HeldOut(dataclasses.replace(context, test=few))
  assert (evaluator.every, evaluator.at_end) == (0, "nothing")
  assert "3 images make no batch" in capsys.readouterr().err


@pytest.mark.parametrize("section, message", [
    (dict(when="sometimes"), "evaluators.retrieval.when is 'sometimes'"),
    (dict(num_image=2), "evaluators.retrieval.num_image: no such key")])
def test_wrong_keys_are_named(section, message, parsed):
  config = dataclasses.replace(parsed, evaluators={"retrieval": section})
  with pytest.raises(errors.ConfigError, match=message):
    evaluation.section(run_retrieval.Retrieval, config)

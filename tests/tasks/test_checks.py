"""Every task does what a task must, and a wrong one is told what to write."""

import dataclasses

import pytest
import tensorflow as tf

from mtvit.configs import quickstart
from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.tasks import base
from mtvit.tasks import checks
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import sharding
from tests import test_toy_task

STATE = dict(kind="moco", queue_size=256)


@pytest.mark.parametrize("strategy, changes", [
    ("patch_level", {"contrastive": STATE, "colorize": {"target": "bins"}}),
    ("sit", {"contrastive": {"kind": "byol"}}), ("supervised", {})])
def test_every_task_behaves(strategy, changes):
  config = quickstart.get_config(f"strategy={strategy}")
  for name, fields in changes.items():
    config.tasks[name].update(fields)
  config = config_lib.parse(config)
  parts = assembly.create(
      config, sharding.create_mesh(config.mesh), inputs.noise(config),
      total_steps=1)
  for task in parts.tasks:
    checks.behaviour(task, parts.model.encoder())


def toy(**changes):
  """The toy task with other methods, decorated anew."""
  return dataclasses.dataclass(frozen=True, kw_only=True, eq=False)(
      type("Toy", (test_toy_task.Negative,), {"name": "toy", **changes}))


@pytest.mark.parametrize("kind, message", [
    (toy(name=""), "Toy has no name\n.*name = "),
    (toy(name="my-toy"), "'my-toy', which can't be a config key"),
    (toy(name="inpaint"), "the name 'inpaint' of Inpaint"),
    (toy(name="other"), r"'other' and is listed as 'toy'\n.*TASKS\[.other.\]"),
    (type("Toy", (test_toy_task.Negative,), {"name": "toy"}),
     r"(?s)no dataclass.*@dataclasses.dataclass\(frozen=True"),
    (toy(token="ct"), "token 'ct' of contrastive"),
    (toy(trivial_loss=base.Task.trivial_loss), "has no trivial_loss"),
    (toy(head=base.Task.head, loss=base.Task.loss), "no head and no loss")])
def test_a_wrong_declaration_is_refused_where_it_is_listed(
    kind, message, monkeypatch):
  key = kind.name if kind.name in ("my-toy", "inpaint") else "toy"
  with pytest.raises(errors.ConfigError, match=message):
    monkeypatch.setitem(tasks_lib.TASKS, key, kind)
  assert tasks_lib.TASKS.get(key) is not kind


def after(method, change):
  """The toy's method, and then a change to what it gives."""
  real = getattr(test_toy_task.Negative, method)
  return {method: lambda self, *args: change(real(self, *args))}


def named(head):
  return head.clone(name="head_toy")


@pytest.mark.parametrize("changes, message", [
    (after("claim", lambda ids: tf.cast(ids, tf.int64)),
     r"claim gives int64 \(4, 3\)\n.*int32 \[4, 3\]"),
    (after("claim", lambda ids: ids[:, :2]), r"claim gives int32 \(4, 2\)"),
    (after("claim", lambda ids: ids + 16), "beyond the 16 patches"),
    (after("claim", lambda ids: ids * 0), "a patch twice"),
    (after("claim", lambda ids: None), "claim gives nothing"),
    (after("corrupt", lambda x: x._replace(pixels=x.pixels[:, :2])),
     r"pixels uint8 \(4, 2, 8, 8, 3\)\n.*uint8 \(4, 3, 8, 8, 3\)"),
    (after("corrupt", lambda x: x._replace(pixels=None)), "no pixels"),
    (after("corrupt", lambda x: x._replace(
        pixels=tf.cast(x.pixels, tf.float32))), "pixels float32 "),
    (after("corrupt", lambda x: x.pixels), "(?s)corrupt gives .*Corrupted"),
    (after("corrupt", lambda x: x._replace(queries={})),
     r"(?s)head reads queries\['ids'\]; there are: none.*queries of corrupt"),
    (after("corrupt", lambda x: x._replace(answers={"labels": [0] * 4})),
     r"loss reads answers\['label'\]; there are: labels"),
    (after("corrupt", lambda x: x._replace(answers={"label": [0] * 3})),
     r"'label' of corrupt has the shape \(3,\)"),
    (after("head", named), "(?s)'head_toy'.*without name="),
    ({"trivial_loss": 0.0}, "trivial_loss is 0.0"),
    (after("loss", lambda x: x[0]), "return loss, {metric: scalar}"),
    (after("loss", lambda x: (x[0][None], x[1])),
     r"the loss has the shape \(1,\)"),
    (after("loss", lambda x: (x[0], {"accuracy": x[1]["accuracy"]})),
     "no metric skill")])
def test_a_wrong_task_is_refused_before_anything_compiles(
    changes, message, parsed, monkeypatch):
  monkeypatch.setitem(tasks_lib.TASKS, "toy", toy(**changes))
  config = dataclasses.replace(parsed, tasks={"toy": dict(
      mode="train", num_patches=3)}, knn=dataclasses.replace(
          parsed.knn, readout="gap"))
  with pytest.raises(errors.ConfigError, match=message):
    assembly.create(
        config, sharding.create_mesh(config.mesh), inputs.noise(config),
        total_steps=1)


def test_the_framework_names_the_heads(parsed):
  parts = assembly.create(
      parsed, sharding.create_mesh(parsed.mesh), inputs.noise(parsed),
      total_steps=1)
  assert {"encoder"} | {f"head_{task.name}" for task in parts.tasks} == set(
      parts.shapes.params)

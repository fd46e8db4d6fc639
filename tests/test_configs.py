"""Every shipped config, at every size that it names."""

import dataclasses
import importlib
import math
import pathlib

import jax
import pytest

from configs import common
from mtvit import config as config_lib
from mtvit import tasks as tasks_lib
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding

VARIANTS = ("Ti/16", "S/16", "B/16", "L/16", "H/14", "g/14")
ARGUMENTS = {
    "quickstart": [f"strategy={s}" for s in common.STRATEGIES],
    "cifar10": [f"strategy={s},variant=nano/{p}"
                for s in common.STRATEGIES for p in (8, 4)],
    "imagenet": [f"variant={v},strategy=patch_level" for v in VARIANTS],
}
CASES = [(name, arg) for name, args in ARGUMENTS.items() for arg in args]
SHARDED = [
    ("quickstart", ""),
    pytest.param("cifar10", "strategy=separate", marks=pytest.mark.slow),
    ("imagenet", "variant=S/16,strategy=patch_level"),
    *(pytest.param(name, arg, marks=pytest.mark.slow) for name, arg in CASES
      if name == "imagenet" and "S/16" not in arg)]


def load(name, arg):
  return importlib.import_module(f"configs.{name}").get_config(arg)


def test_every_config_file_is_here_and_short():
  files = pathlib.Path(__file__).parents[1].glob("configs/*.py")
  found = {f.stem: len(f.read_text().splitlines()) for f in files}
  assert set(found) == set(ARGUMENTS) | {"common", "finetune"}
  assert max(found.values()) <= 110


@pytest.mark.parametrize("name, arg", CASES)
def test_every_strategy_of_every_config_fits(name, arg):
  config = config_lib.parse(load(name, arg))
  tasks = run_tasks.create(config)
  options = common.parse(arg, strategy="", variant="")
  trained = {task.name for task in tasks if task.trains}
  assert trained == set(common.STRATEGIES[options["strategy"]])
  # Every config lists every task.
  assert set(config.tasks) == set(tasks_lib.TASKS)


def shape(strategy):
  config = config_lib.parse(load(
      "cifar10", f"strategy={strategy},variant=nano/4"))
  tasks = {task.name: task for task in run_tasks.create(config)}
  return config, tasks, run_tasks.passes(config, tuple(tasks.values()))


def counts(task):
  return task.num_blocks, task.num_neighbours, task.num_patches


def test_strategies_are_what_the_method_says():
  patch_level, tasks, passes = shape("patch_level")
  assert set(passes) == {"shared"} and len(passes["shared"]) == 7
  few = {name: counts(task)
         for name, task in tasks.items()}
  _, tasks, passes = shape("separate")
  assert set(passes) == set(tasks) and all(
      [t.name for t in group] == [name] for name, group in passes.items())
  assert tasks["colorize"].num_patches == 64
  assert tasks["jigsaw"].num_patches == 64
  assert tasks["inpaint"].num_patches == 48
  assert tasks["relative_position"].num_neighbours == 32
  _, tasks, passes = shape("matched")
  assert len(passes) == 7 and few == {
      name: counts(task)
      for name, task in tasks.items()}
  harmonised, _, passes = shape("harmonised")
  assert harmonised.input == "gray" and set(passes) == {"shared"}
  assert patch_level.input == "rgb"
  _, tasks, passes = shape("control")
  assert [t.name for t in tasks.values() if t.trains] == ["contrastive"]
  assert {n: counts(t) for n, t in tasks.items()} == {
      n: few[n] for n in tasks}
  assert set(tasks) == {"contrastive", *common.PATCH_TASKS}
  _, tasks, _ = shape("report")
  assert (tasks["relative_position"].num_neighbours,
          tasks["colorize"].num_patches) == (4, 8)      # A quarter of 64.
  few = {n: counts(t) for n, t in tasks.items()}
  _, tasks, _ = shape("report_control")
  assert few == {
      n: counts(t) for n, t in tasks.items()}
  assert [n for n, t in tasks.items() if t.trains] == ["contrastive"]
  sit, tasks, _ = shape("sit")
  assert sit.weighting.kind == "uncertainty"
  assert (tasks["inpaint"].shape, tasks["inpaint"].scope) == ("blocks", "all")
  _, tasks, _ = shape("jigsaw")
  assert list(tasks) == ["jigsaw"]


@pytest.mark.parametrize("arg, message", [
    ("strategy=everything", "strategy=everything is none of report"),
    ("variants=nano/4", "no option 'variants=nano/4'; there are strategy="),
    ("variant=nano", "must be NAME/PATCH"),
    ("variant=nano/0", "must be NAME/PATCH"),
    ("nano/4", "no option")])
def test_wrong_arguments_are_named(arg, message):
  with pytest.raises(ValueError, match=message):
    load("cifar10", arg)


@pytest.mark.parametrize("name, arg", SHARDED)
def test_state_is_sharded_on_purpose(name, arg):
  config = load(name, arg)
  if name == "imagenet":
    config.tasks.contrastive.kind = "moco"
    config.weighting.kind = "uncertainty"
  config = config_lib.parse(config)
  config = dataclasses.replace(
      config, mesh=config_lib.Mesh(data=-1, fsdp=4, tensor=1))
  mesh = sharding.create_mesh(config.mesh)
  state = assembly.create(
      config, mesh, inputs.noise(config), total_steps=100).shapes
  # What is not split over fsdp is small; the queue is kept whole on purpose.
  whole = [x.shape for x in jax.tree.leaves(state) if not any(x.sharding.spec)]
  queue = sum(math.prod(x.shape) for x in jax.tree.leaves(state.task_state))
  assert sum(map(math.prod, whole)) - queue < 0.1 * sum(
      math.prod(x.shape) for x in jax.tree.leaves(state))

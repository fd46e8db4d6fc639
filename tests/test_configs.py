"""Every shipped config, at every size that it names."""

import dataclasses
import importlib
import math
import pathlib

from absl import flags
import jax
from ml_collections import config_flags
import pytest

from mtvit.configs import common
from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.models import parameter_names
from mtvit.run import config_values
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import sharding
from tests import test_toy_task

VARIANTS = ("Ti/16", "S/16", "B/16", "L/16", "H/14", "g/14")
ARGUMENTS = {
    "quickstart": [f"strategy={s}" for s in common.STRATEGIES],
    "cifar10": [f"strategy={s},variant=nano/{p}"
                for s in common.STRATEGIES for p in (8, 4)],
    "imagenet": [f"variant={v},strategy=patch_level" for v in VARIANTS],
    "photos": [f"variant={v},strategy={s}"
               for v in ("S/16", "Ti/16", "nano/16")
               for s in ("report", "patch_level", "separate")],
}
CASES = [(name, arg) for name, args in ARGUMENTS.items() for arg in args]
SHARDED = [
    ("quickstart", ""),
    pytest.param("cifar10", "strategy=separate", marks=pytest.mark.slow),
    ("imagenet", "variant=S/16,strategy=patch_level"),
    pytest.param("photos", "", marks=pytest.mark.slow),
    # The smallest, whose heads are three, and the largest.
    *(pytest.param("imagenet", f"variant={variant},strategy=patch_level",
                   marks=pytest.mark.slow) for variant in ("Ti/16", "g/14"))]


def load(name, arg):
  return importlib.import_module(f"mtvit.configs.{name}").get_config(arg)


def test_every_config_file_is_here_and_short():
  files = pathlib.Path(__file__).parents[1].glob("configs/[a-z]*.py")
  found = {f.stem: len(f.read_text().splitlines()) for f in files}
  studies = {"study_report", "study_weights"}             # See tests/study.
  assert set(found) == set(ARGUMENTS) | studies | {"common", "finetune"}
  del found["study_report"]              # It pins all.
  assert found.pop("common") <= 220
  assert max(found.values()) <= 50       # They state what differs.


@pytest.mark.parametrize("name, arg", CASES)
def test_every_strategy_of_every_config_fits(name, arg):
  config = config_lib.parse(load(name, arg))
  tasks = run_tasks.create(config)
  options = common.parse(arg, strategy="", variant="")
  trained = {task.name for task in tasks if task.trains}
  assert trained == set(common.STRATEGIES[options["strategy"]])


def shape(strategy):
  config = config_lib.parse(load(
      "cifar10", f"strategy={strategy},variant=nano/4"))
  tasks = {task.name: task for task in run_tasks.create(config)}
  return config, tasks, run_tasks.passes(config, tuple(tasks.values()))


def counts(task):
  return task.num_blocks, task.num_neighbours, task.num_patches


def test_strategies_are_what_the_method_says():
  patch_level, tasks, passes = shape("patch_level")
  assert set(passes) == {"shared"} and set(tasks) == set(common.TASKS)
  assert len(passes["shared"]) == len(common.TASKS)
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
  assert set(passes) == set(common.TASKS) and few == {
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
    ("strategy=everything", "there is no strategy everything"),
    ("variants=nano/4", "no option variants=nano/4 .did you mean variant="),
    ("variant=nano", "must be NAME/PATCH"),
    ("variant=nano/0", "must be NAME/PATCH"),
    ("nano/4", "no option")])
def test_wrong_arguments_are_named(arg, message):
  with pytest.raises(ValueError, match=message):
    load("cifar10", arg)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outside(test_toy_task.Negative):
  """A task of another package; its num_patches has no default."""

  name = "outside"

  size: float = 0.5


def trains(config):
  return [task.name for task in run_tasks.create(config_lib.parse(config))
          if task.trains]


def test_a_task_from_outside_is_as_the_file_has_it(monkeypatch):
  monkeypatch.setitem(tasks_lib.TASKS, "outside", Outside)
  # The shipped configs have its section, and do not train it.
  config = load("quickstart", "strategy=report")
  assert trains(config) == ["relative_position", "contrastive", "colorize"]
  # A file trains it, whatever the strategy says of the tasks that it knows.
  own = lambda arg, **fields: common.config(
      common.parse(arg, strategy="report"), total_steps=9,
      model=dict(image_size=64), tasks=dict(outside=dict(fields)))
  for strategy in ("report", "separate", "sit", "supervised"):
    config = own(f"strategy={strategy}", mode="train", num_patches=2, size=1)
    if strategy == "sit":
      config.tasks.inpaint.num_patches -= 2      # Which takes half of the grid.
    assert set(trains(config)) == {
        "outside", *common.STRATEGIES[strategy]}
  # The user does, on the command line, where keys have their types.
  argv = ["", "--config.tasks.outside.mode=train",
          "--config.tasks.outside.num_patches=1"]
  own_flags = flags.FlagValues()
  config_flags.DEFINE_config_dict(
      "config", config := load("quickstart", "strategy=report"),
      flag_values=own_flags, sys_argv=argv)
  own_flags(argv)
  assert "outside" in trains(config)
  config = own("", mode="train")
  with pytest.raises(errors.ConfigError, match="outside.num_patches is miss"):
    trains(config)
  with pytest.raises(TypeError):
    config.tasks.outside.num_patches = "many"
  config.tasks.outside.num_patches = 3
  assert "outside" in trains(config)
  assert trains(own("strategy=outside", num_patches=3)) == ["outside"]


@pytest.mark.parametrize("strategy, section, key", [
    ("report", dict(tasks=dict(rotation=dict(mode="train"))),
     "tasks.rotation.mode"),
    ("report", dict(tasks=dict(colorize=dict(mode="off"))),
     "tasks.colorize.mode"),
    ("patch_level", dict(tasks=dict(colorize=dict(num_patches=9))),
     "tasks.colorize.num_patches"),
    ("separate", dict(forward="shared"), "forward"),
    ("harmonised", dict(input="rgb"), "input"),
    ("sit", dict(weighting=dict(kind="fixed")), "weighting.kind"),
    ("rotation", dict(knn=dict(readout="ct")), "knn.readout")])
def test_a_strategy_undoes_nothing_that_a_file_sets(strategy, section, key):
  with pytest.raises(errors.ConfigError) as e:
    common.config({"strategy": strategy}, total_steps=9, **section)
  what, fix = str(e.value).splitlines()
  assert f"strategy={strategy} sets {key} to " in what
  assert f"not in the file but --config.{key}=" in fix
  # Without a strategy it is as the file says.
  value = config_values.flatten(section)[key]
  config = common.config({}, total_steps=9, **section)
  assert config_values.flatten(config.to_dict())[key] == value


def test_what_a_file_can_not_set_is_named():
  with pytest.raises(errors.ConfigError, match="variant=Ti/16 sets model.vari"):
    common.config({"variant": "Ti/16"}, model=dict(variant="S/16"))
  with pytest.raises(errors.ConfigError, match="no such key .did you mean opt"):
    common.config({}, optimizer=dict(base_rl=1.0))
  with pytest.raises(errors.ConfigError, match="tasks.colourise.mode: no such"):
    common.config({}, tasks=dict(colourise=dict(mode="off")))
  # Whose sections are known to no config file.
  config = common.config({}, evaluators=dict(shades=dict(every=2)))
  assert config.evaluators.shades.every == 2


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
  for path, x in jax.tree_util.tree_leaves_with_path(state):
    path = parameter_names.path_name(path)
    assert sharding.rule(path, len(x.shape)) is not None, path
  # What is not split over fsdp is small; the queue is kept whole on purpose.
  whole = [x.shape for x in jax.tree.leaves(state) if not any(x.sharding.spec)]
  queue = sum(math.prod(x.shape) for x in jax.tree.leaves(state.task_state))
  assert sum(map(math.prod, whole)) - queue < 0.1 * sum(
      math.prod(x.shape) for x in jax.tree.leaves(state))

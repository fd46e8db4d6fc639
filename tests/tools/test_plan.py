"""The cost of a config, without data."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from configs import cifar10
from configs import imagenet
from mtvit import config as config_lib
from mtvit import cost

ROOT = pathlib.Path(__file__).parents[2]


def flops(module, arg, **changes):
  config = module.get_config(arg)
  config.update_from_flattened_dict(changes)
  config.batch_size = 16
  return cost.flops(config_lib.parse(config))


def test_three_tasks_cost_at_most_a_tenth_more_than_one():
  size = {"model.dtype": "float32"}
  one = flops(imagenet, "variant=S/16,strategy=contrastive", **size)
  three = flops(imagenet, "variant=S/16", **size)
  # 32 views of S/16: 3 · 4.6 GMACs each, so the layers have been counted.
  assert 0.8 < one / (32 * 3 * 2 * 4.6e9) < 1.4
  assert 1.0 < three / one <= 1.1


def test_separate_passes_cost_one_pass_for_each_task():
  shared = flops(cifar10, "strategy=patch_level")
  separate = flops(cifar10, "strategy=separate")
  alone = flops(cifar10, "strategy=contrastive")
  assert shared / alone < 1.5
  assert 5 < separate / alone < 9                       # Seven tasks.


def test_the_number_of_layers_that_are_unrolled_does_not_matter():
  config = config_lib.parse(cifar10.get_config())
  rolled = dataclasses.replace(
      config, model=dataclasses.replace(config.model, unroll=1))
  assert cost.flops(rolled) == cost.flops(config)


def test_command():
  done = subprocess.run(
      [sys.executable, "-m", "mtvit.tools.plan",
       "--config=configs/cifar10.py:strategy=matched",
       "--config.batch_size=8"], cwd=ROOT, capture_output=True, text=True,
      timeout=300)
  assert done.returncode == 0, done.stderr
  assert "grid 4x4, 1 blocks of 3x3; 7 forward pass(es) of 16 views" in (
      done.stdout)
  row = next(line for line in done.stdout.splitlines()
             if line.startswith("relative_position"))
  assert row.split() == [
      "relative_position", "train", "relative_position", "1", "0", "1"]
  assert "GFLOPs a step" in done.stdout


def test_impossible_configs_are_refused_with_numbers():
  done = subprocess.run(
      [sys.executable, "-m", "mtvit.tools.plan",
       "--config=configs/cifar10.py:strategy=patch_level",
       "--config.tasks.colorize.num_patches=9"], cwd=ROOT,
      capture_output=True, text=True, timeout=300)
  assert done.returncode == 2
  assert ("relative_position + jigsaw + inpaint + colorize need 22 patches; "
          "the 4x4 grid has 16") in done.stderr


@pytest.mark.parametrize("arg", ["strategy=none", "wrong=1"])
def test_a_wrong_argument_is_a_config_error(arg):
  done = subprocess.run(
      [sys.executable, "-m", "mtvit.tools.plan",
       f"--config=configs/cifar10.py:{arg}"], cwd=ROOT,
      capture_output=True, text=True, timeout=300)
  assert done.returncode == 2
  assert "there are" in done.stderr or "is none of" in done.stderr
  assert len(done.stderr.splitlines()) <= 5

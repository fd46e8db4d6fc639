"""--config.KEY=VALUE before --config=FILE, and without it."""

import json
import os

import pytest

from mtvit.configs import quickstart
from mtvit import errors
from mtvit.run import command_line
from mtvit.run import config_values
from tests import commands

F, G = "configs/quickstart.py", "configs/cifar10.py"
ONE, TWO = "--config.seed=1", "--config.tasks.colorize.mode=off"


@pytest.mark.parametrize("given, words, overrides", [
    ([ONE, "--workdir=a", f"--config={F}"],
     [f"--config={F}", ONE, "--workdir=a"], []),
    ([ONE, "-config", f"{F}:x", TWO, f"--config={G}"],
     ["-config", f"{F}:x", f"--config={G}", ONE, TWO], []),
    (["--workdir=a", ONE, TWO], ["--workdir=a"], [ONE, TWO]),
    (["--config.seed", "1", "--noconfig.a", "--workdir", "a"],
     ["--workdir", "a"], ["--config.seed", "1", "--noconfig.a"]),
    (["stray", "--configure=1"], ["stray", "--configure=1"], [])])
def test_the_file_comes_first(given, words, overrides, monkeypatch):
  monkeypatch.chdir(commands.ROOT)
  assert command_line.in_order(given) == (words, overrides)


def test_which_keys_are_changed():
  assert command_line.keys(
      ["--config.a.b=c=d", "-config.e", "off", "--noconfig.f"]) == {
          "a.b", "e", "f"}


@pytest.mark.parametrize("module", ["evaluate", "tools.export"])
def test_commands_without_a_config_refuse_to_change_it(module):
  done = commands.run(f"mtvit.{module}", "--workdir=x", ONE)
  assert done.returncode == 2
  assert "--config.seed: this command has no --config" in done.stderr


def test_a_config_of_a_checkpoint_is_changed():
  # Some types: int, float, bool, tuple, str.
  before = config_values.to_plain(quickstart.get_config())
  after = command_line.overridden(before, [
      "--config.total_steps=7", "--config.optimizer.base_lr=1",
      "--config.model.freeze_patch_embed", "--config.augment.blur=(0.5, 0.1)",
      "--config.tasks.colorize.mode", "off", "--config.init_from=a=b"])
  changed = {key: value for key, value in config_values.flatten(after).items()
             if config_values.flatten(before)[key] != value}
  assert changed == {
      "total_steps": 7, "optimizer.base_lr": 1.0,
      "model.freeze_patch_embed": True, "augment.blur": [0.5, 0.1],
      "tasks.colorize.mode": "off", "init_from": "a=b"}
  assert before == config_values.to_plain(quickstart.get_config())
  assert after == json.loads(json.dumps(after))


@pytest.mark.parametrize("override, message", [
    ("--config.total_stops=7", "total_stops.*did you mean total_steps"),
    ("--config.total_steps=many", "total_steps"),
    ("--config.total_steps", "total_steps"),
    ("--config.model=3", "model"), ("--config.=3", "config")])
def test_what_can_not_be_changed_is_named(override, message):
  with pytest.raises(errors.ConfigError, match=message):
    command_line.overridden(
        config_values.to_plain(quickstart.get_config()), [override])


def test_a_config_that_is_a_pipe(tmp_path):
  os.mkfifo(tmp_path / "config.py")
  with pytest.raises(errors.ConfigError, match="is a pipe, a socket"):
    command_line.in_order([f"--config={tmp_path}/config.py:a=b"])

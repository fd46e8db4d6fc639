"""Wrong configuration: exit 2 in seconds, at most five lines."""

import json
import pathlib
import signal
import subprocess
import sys

import pytest

from mtvit import config as config_lib
from mtvit.run import metrics
from mtvit.training import optimizer
from tests.faults import harness

CASES = [
    ("an unknown key", ["--config.batch_sise=8"], "did you mean"),
    ("an unknown task's key", ["--config.tasks.colorize.num_patch=8"],
     "did you mean"),
    ("a wrong type", ["--config.batch_size=many"], "batch_size"),
    ("nan", ["--config.optimizer.base_lr=nan"], "optimizer.base_lr is nan"),
    ("infinity", ["--config.optimizer.base_lr=inf"], "base_lr=inf"),
    ("a negative size", ["--config.batch_size=-8"], "batch_size=-8 must lie"),
    ("a negative image size", ["--config.model.image_size=-48"], "image_size"),
    ("a stray positional", ["train"], "stray argument 'train'"),
    ("a misspelt flag", ["--wrokdir=x"], "wrokdir"),
    ("a batch that 8 devices don't divide", ["--config.batch_size=30"],
     "--config.batch_size=28 or 32"),
    ("a mesh that does not fit", ["--config.mesh.fsdp=3"], "8 devices"),
    ("more patches than the grid has",
     ["--config.tasks.colorize.num_patches=36"], "the 6x6 grid has 36"),
    ("more pairs than fit",
     ["--config.tasks.relative_position.num_pairs=19"], "6x6 grid has 36"),
    ("a patch that does not divide the image",
     ["--config.model.image_size=50"], "50"),
    ("an unknown data set", ["--config.data.name=cifar_ten"],
     "no such data set"),
    ("a missing folder", ["--config.data.name=folder:/nowhere"],
     "does not exist"),
    ("a missing config file", ["--config=configs/nothing.py"],
     "configs/nothing.py"),
    ("an unwritable work directory", ["--workdir=/proc/run"],
     "can't be written"),
    ("no config and no run", None, "holds no checkpoint"),
    ("--process_id without --coordinator", ["--process_id=1"],
     "--coordinator"),
]


def start(flags, workdir):
  flags = [] if flags is None else [f"--config={harness.CONFIG}", *flags]
  return harness.Run(
      None, workdir, devices=8, module="mtvit.pretrain",
      arguments=[f"--workdir={workdir}", *flags])


def test_configuration_errors(tmp_path, fault):
  longest = 0
  # Two at a time; by one thread, as `commands.start` asks.
  for i in range(0, len(CASES), 2):
    running = [(what, start(flags, tmp_path / what), message)
               for what, flags, message in CASES[i:i + 2]]
    for what, process, message in running:
      took = process.expect(2, limit=60)
      longest = max(longest, took)
      assert message.lower() in process.output.lower(), (what, process.output)
      assert process.lines[0].startswith("error: "), process.output
      assert len(process.lines) <= 5, process.output
      assert took < 30
  names = ", ".join(what for what, _, _ in CASES)
  fault(f"configuration: {names}",
        f"each exit 2 after at most {longest:.0f} s, at most five lines that "
        "name the key and the fix")


def test_a_changed_config(small, tmp_path, fault):
  first = harness.Run(small, tmp_path / "run")
  first.wait_for("^step 2/")
  first.send(signal.SIGUSR1)           # As SLURM does.
  first.expect(75)
  small.optimizer.base_lr = 0.004
  second = harness.Run(small, tmp_path / "run")
  second.expect(2)
  assert "optimizer.base_lr (0.006 -> 0.004)" in second.output
  assert "--allow_config_change" in second.output
  third = harness.Run(small, tmp_path / "run", "--allow_config_change")
  third.expect(0)
  assert "resuming from step" in third.output
  small.total_steps = 10
  fourth = harness.Run(small, tmp_path / "run", "--allow_config_change")
  fourth.expect(2)
  assert "the run is at step 40, and the config has 10 steps" in fourth.output
  # On for longer: nobody reads it, and it has no stderr.
  done = subprocess.run(
      ["bash", "-c", 'set -o pipefail; "$@" 2>&- | true', "bash",
       sys.executable, "-m", "mtvit.pretrain", "--config.total_steps=44",
       f"--workdir={tmp_path / 'run'}"], cwd=harness.ROOT, timeout=240)
  assert done.returncode == 0
  whole = tmp_path / "run" / "result.json"
  assert json.loads(whole.read_text())["steps"] == 44
  lines = metrics.read(whole.with_name("metrics.jsonl"))
  rates = {x["step"]: x["train/learning_rate"] for x in lines
           if "train/learning_rate" in x}
  assert sorted(rates) == list(range(1, 45))
  section = config_lib.parse(small).optimizer
  for step, steps in ((39, 40), (40, 40), (41, 44), (44, 44)):
    want = optimizer.schedule(section, small.batch_size, steps)(step - 1)
    assert rates[step] == pytest.approx(float(want), rel=1e-4), step
  fault("training a finished run on for longer, nobody reading it",
        "goes on from its last step with the learning rate of the new length")
  fault("resuming with a changed config",
        "exit 2, names the keys and both values; goes on with "
        "`--allow_config_change`")


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
def test_help(flag, tmp_path):
  process = harness.Run(None, tmp_path, module="mtvit.pretrain",
                        arguments=[flag])
  process.expect(1)                # absl's exit code for help.
  assert any("--workdir" in line for line in process.lines)
  assert not list(pathlib.Path(tmp_path).iterdir())

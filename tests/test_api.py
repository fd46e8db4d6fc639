"""What `import mtvit` offers to a program of one's own."""

import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import mtvit
from mtvit import errors
from tests import commands


def test_a_config_by_name_with_overrides():
  config = mtvit.load_config(
      "quickstart:strategy=report",
      {"total_steps": 7, "tasks.colorize.mode": "off"})
  assert config.total_steps == 7 and config.tasks.colorize.mode == "off"
  assert config.tasks.contrastive.mode == "train"
  assert config.tasks.rotation.mode == "off"           # Of the argument.


def test_a_config_of_ones_own_may_import_the_shipped_ones(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
      "from mtvit.configs import quickstart\n"
      "def get_config(arg=''):\n"
      "  config = quickstart.get_config(arg)\n"
      "  config.batch_size = 24\n"
      "  return config\n")
  assert mtvit.load_config(f"{file}:strategy=sit").batch_size == 24


@pytest.mark.parametrize("name, overrides, said", [
    ("quickstrat", {}, "did you mean quickstart"),
    ("quickstart:strategie=report", {}, "no option strategie=report"),
    ("nowhere/mine.py", {}, "nowhere/mine.py"),
    ("quickstart", {"batchsize": 3}, "did you mean batch_size"),
    ("quickstart", {"batch_size": "many"}, "batch_size"),
    ("quickstart", {"batch_size": 1}, "batch_size"),
    ("quickstart", {"tasks.colorize.mode": "of"}, "mode"),
])
def test_mistakes_are_config_errors(name, overrides, said):
  with pytest.raises(errors.ConfigError, match=said):
    mtvit.load_config(name, overrides)


def test_a_batch_and_its_picture(tiny, tmp_path):
  batch = mtvit.sample_batch(tiny)
  shape = (2 * tiny.batch_size, 32, 32, 3)
  corrupted = batch.corrupted["shared"]
  assert batch.clean.shape == corrupted.shape == shape
  assert np.array_equal(batch.index[::2], batch.index[1::2])
  # Some patches are corrupted, and most are not.
  same = (batch.clean == corrupted).reshape(-1, 4, 8, 4, 8, 3).all((2, 4, 5))
  assert 0.3 < same.mean() < 1
  ids = batch.queries["colorize"]["ids"]               # [b, k]
  assert not np.take_along_axis(
      same.reshape(len(same), -1), ids, 1).all()
  batch.save(tmp_path / "batch.png", images=2)
  assert Image.open(tmp_path / "batch.png").width > 500


def test_a_run_that_is_there(run):
  there = mtvit.open_run(run)
  assert there.config["batch_size"] and there.result["steps"] > 0
  assert "curves" in there.pictures and there.metrics[-1]["step"] > 0
  assert there.encoder().readouts
  with pytest.raises(errors.ConfigError, match="not the work directory"):
    mtvit.open_run(run / "report")


def test_flags_of_a_program_do_not_clash():
  # Names that its own config flags are likely to have.
  done = subprocess.run(
      [sys.executable, "-c",
       "from absl import flags\n"
       "for name in ('config', 'workdir', 'plugin', 'traceback', 'data',\n"
       "             'step', 'output', 'coordinator'):\n"
       "  flags.DEFINE_string(name, None, '')\n"
       "import mtvit\n"
       "mtvit.train, mtvit.load, mtvit.sample_batch\n"
       "import sys\n"
       "print('tensorflow' in sys.modules)\n"],
      capture_output=True, text=True, cwd=commands.ROOT, timeout=300)
  assert done.stdout == "False\n", done.stderr

"""The package as it is installed, far from the checkout.

A researcher has the wheel, a task of her own and a config of her own.
"""

import inspect
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

import mtvit
from tests import commands
from tests import environments
from tests import test_toy_task

pytestmark = pytest.mark.slow
CONFIGS = {file.stem for file in (commands.ROOT / "configs").glob("*.py")}
# Her files.
TASK = (
    "import dataclasses\nimport numpy as np\nimport tensorflow as tf\n"
    "from mtvit import tasks\nfrom mtvit.data import patch_ops\n"
    "from mtvit.models import heads\nfrom mtvit.tasks import base\n"
    "from mtvit.tasks import losses\nfrom mtvit.tasks import picture\n\n"
    + inspect.getsource(test_toy_task.Negative)
    + "\ntasks.TASKS['negative'] = Negative\n")
CONFIG = '''
from mtvit.configs import quickstart


def get_config(arg=""):
  config = quickstart.get_config(arg or "strategy=contrastive")
  config.update(total_steps=4, batch_size=16, log_every=2, diagnose_every=0)
  config.model.update(variant="pico/8", image_size=32, unroll=1)
  config.knn.update(num_train=64, num_test=32, final_num_train=64,
                    final_num_test=32)
  return config
'''
SCRIPT = '''
import lab.tasks
import mtvit
# A shipped one by name, from any folder.
assert mtvit.load_config("quickstart").tasks
config = mtvit.load_config("mine.py", {
    "tasks.negative.mode": "train", "tasks.negative.num_patches": 4})
mtvit.sample_batch(config).save("batch.png", images=2)
run = mtvit.train(config, "runs/script")
print(mtvit.__file__)
print(run.result["negative/loss"], sorted(run.pictures))
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """The sdist, and the wheel that is made of what the sdist has."""
  folder = tmp_path_factory.mktemp("package")
  source = folder / "source"
  shutil.copytree(
      commands.ROOT, source, symlinks=True, ignore=lambda where, names: [
          name for name in names
          if name in ("runs", "build", "dist", "__pycache__")
          or name.endswith(".egg-info")
          or name.startswith(".") and pathlib.Path(where) == commands.ROOT])
  _build(source, "build_sdist", folder)
  sdist, = folder.glob("mtvit-*.tar.gz")
  with tarfile.open(sdist) as archive:
    archive.extractall(folder / "unpacked", filter="data")
  unpacked, = (folder / "unpacked").iterdir()
  _build(unpacked, "build_wheel", folder)
  wheel, = folder.glob("mtvit-*.whl")
  return sdist, wheel


def _build(source, what, folder):
  done = subprocess.run(
      [sys.executable, "-c", "from setuptools import build_meta\n"
       f"build_meta.{what}({str(folder)!r})"], cwd=source,
      capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr


def test_the_wheel_has_one_package_with_the_configs(built):
  _, wheel = built
  names = zipfile.ZipFile(wheel).namelist()
  tops = {name.partition("/")[0] for name in names}
  assert tops == {"mtvit", f"mtvit-{mtvit.__version__}.dist-info"}
  assert {f"mtvit/configs/{name}.py" for name in CONFIGS} <= set(names)
  code = {str(file.relative_to(commands.ROOT))
          for file in (commands.ROOT / "mtvit").rglob("*")
          if file.suffix in (".py", ".css", ".typed")}
  assert code <= set(names)


@pytest.fixture(scope="module")
def site(built):
  """A folder to have on the path: the wheel, and nothing of the checkout."""
  folder = built[1].parent / "site"
  zipfile.ZipFile(built[1]).extractall(folder)
  return folder


def _python(site, *arguments, cwd):
  return subprocess.run(
      [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True,
      timeout=600, env=commands.environment(PYTHONPATH=str(site)))


def test_a_researcher_in_her_own_repository(site, tmp_path):
  (tmp_path / "lab").mkdir()
  (tmp_path / "lab" / "tasks.py").write_text(TASK)
  (tmp_path / "mine.py").write_text(CONFIG)
  (tmp_path / "script.py").write_text(SCRIPT)
  train = ["-m", "mtvit", "pretrain", "--config=mine.py",
           "--config.tasks.negative.mode=train",
           "--config.tasks.negative.num_patches=4", "--workdir=runs/command"]
  # Without her module there is no such key; with it there is.
  done = _python(site, *train, cwd=tmp_path)
  assert done.returncode == 2 and "negative" in done.stderr, done.stderr
  assert len(done.stderr.splitlines()) <= 3, done.stderr
  done = _python(site, *train, "--plugin=lab.tasks", cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert "negative" in done.stdout and not list(tmp_path.glob("configs"))
  # The same by the Python API; a run of one is evaluated by the other.
  done = _python(site, "script.py", cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  where, said = done.stdout.splitlines()[-2:]
  assert pathlib.Path(where).is_relative_to(site)
  assert "'curves'" in said and (tmp_path / "batch.png").exists()
  results = [mtvit.open_run(tmp_path / "runs" / name).result
             for name in ("command", "script")]
  assert results[0]["negative/loss"] == results[1]["negative/loss"]
  done = _python(site, "-m", "mtvit", "plan", "--config=quikstart",
                 cwd=tmp_path)
  assert done.returncode == 2 and "mean quickstart?" in done.stderr


def test_inference_without_tensorflow(built, run, tmp_path):
  """The wheel and what it asks for, at the pinned versions, and no more."""
  python = environments.create(tmp_path / "environment")
  done = subprocess.run(
      [python, "-m", "pip", "install", "--quiet",
       "--disable-pip-version-check", built[1],
       f"--constraint={commands.ROOT / 'requirements.txt'}"],
      capture_output=True, text=True, timeout=1200)
  if done.returncode:
    environments.missing(f"no packages: {done.stderr[-300:]}")
  clean = {key: value for key, value in os.environ.items()
           if key not in ("PYTHONPATH", "XLA_FLAGS", "NPROC")}

  def call(*words):
    return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True,
                          timeout=300, env=clean)

  listed = call(python, "-m", "pip", "list").stdout.lower()
  assert "jax" in listed and "tensorflow" not in listed
  command = python.parent / "mtvit"
  assert call(command, "--version").stdout == f"mtvit {mtvit.__version__}\n"
  done = call(python, "-c", (
      "import mtvit, numpy as np\n"
      f"encoder = mtvit.load({str(run)!r})\n"
      "images = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3) % 256\n"
      "np.save('x.npy', encoder.features(images.astype('uint8'), 'gap'))\n"))
  assert done.returncode == 0, done.stderr
  images = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3) % 256
  expected = mtvit.load(run).features(images.astype(np.uint8), "gap")
  found = np.load(tmp_path / "x.npy", allow_pickle=False)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  done = call(command, "export", f"--workdir={run}", "--output=exported")
  assert done.returncode == 0, done.stderr
  done = call(command, "pretrain", "--config=quickstart")
  assert done.returncode == 2 and "pip install '.[train]'" in done.stderr
  assert len(done.stderr.splitlines()) == 2

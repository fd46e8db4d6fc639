"""Work directories: what is a folder, what is gs://, and what neither."""

import ast
import os
import pathlib
import subprocess
import sys
import warnings

from etils import epath
import jax
import pytest

import mtvit
from mtvit import errors
from mtvit import evaluate
from mtvit import pretrain
from mtvit.report import runs
from mtvit.run import config_values
from mtvit.run import paths
from mtvit.run import reading
from mtvit.run import workdir as workdir_lib

ROOT = pathlib.Path(__file__).parents[2]
# pathlib.Path(text) turns gs://b/r into the local folder gs:/b/r. These have
# paths that are local, or checked to be.
LOCAL = {
    "mtvit/run/paths.py", "mtvit/run/files.py", "mtvit/training/loop.py",
    "mtvit/report/page.py", "mtvit/pictures/evaluation.py",
    "mtvit/__main__.py", "mtvit/api.py", "mtvit/configs/__init__.py",
    "mtvit/run/flag_errors.py", "mtvit/run/command_line.py",
    "mtvit/interchange/__init__.py", "mtvit/run/entry.py",
    "mtvit/tools/bench.py", "mtvit/tools/gpu_check.py", "mtvit/tools/plan.py",
    "mtvit/tools/plan_table.py", "mtvit/study/arms.py",
    "mtvit/study/command.py", "mtvit/study/provenance.py",
    "mtvit/study/running.py"}


def test_what_a_user_gives():
  assert os.fspath(paths.parse("gs://b/r/x")) == "gs://b/r/x"
  assert os.fspath(paths.parse(epath.Path("gs://b/r") / "x")) == "gs://b/r/x"
  assert os.fspath(paths.parse("runs/a b")) == "runs/a b"
  assert paths.parse("~/r") == epath.Path(pathlib.Path.home() / "r")
  assert paths.is_remote(paths.parse("gs://b"))
  assert not paths.is_remote(paths.parse("gs/b"))


def test_a_home_that_nobody_knows(tmp_path):
  with pytest.raises(errors.ConfigError, match="(?s)~nobody_at_all is.*HOME"):
    paths.parse("~nobody_at_all/run")
  if os.getuid():
    pytest.skip("only root can become another user")
  # As in a container that was started with --user 12345.
  program = ("import os\n"
             "from mtvit import errors\n"
             "from mtvit.run import paths\n"
             "os.environ.pop('HOME', None); os.setuid(12345)\n"
             "try: paths.expand('~/.cache/mtvit')\n"
             "except errors.ConfigError as e: print(e)\n"
             "os.environ['HOME'] = '/'; print(paths.expand('~/a'))")
  done = subprocess.run(
      [sys.executable, "-c", program], cwd=ROOT, capture_output=True,
      text=True, timeout=300)
  what, fix, root = done.stdout.splitlines()
  assert what == "~/.cache/mtvit: nobody knows where ~ is"
  assert "HOME" in fix and "--config.data.cache_dir" in fix and root == "/a"


def test_names_that_are_no_text_or_no_file(tmp_path):
  with pytest.raises(errors.ConfigError, match="is no UTF-8"):
    paths.parse(os.fsdecode(b"runs/\xff"))
  os.mkfifo(tmp_path / "weights.npz")
  with pytest.raises(errors.ConfigError, match="is a pipe"):
    mtvit.load(tmp_path / "weights.npz")
  paths.check_file(a=tmp_path, b=tmp_path / "nothing", c=__file__, d="gs://b")
  with pytest.raises(errors.ConfigError, match="c=/dev/zero is a pipe"):
    paths.check_file(c="/dev/zero")


@pytest.mark.parametrize("given, why", [
    (pathlib.Path("gs://b/r"), "lost a slash.*\n.*gs://b/r"),
    ("gs:/b/r", "lost a slash"), ("gs:///r", "neither a folder nor"),
    ("s3://b/r", "neither a folder nor"),
    ("file:///r", "neither a folder nor")])
def test_what_is_neither_is_refused(
    given, why, tiny, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for use in (
      lambda: mtvit.load(given),
      lambda: pretrain.pretrain(config_values.to_plain(tiny), given),
      lambda: evaluate.evaluate(given, evaluate.Options()),
      lambda: runs.read_all([given])):
    with pytest.raises(errors.ConfigError, match=why):
      use()
  assert not [x for x in os.listdir(tmp_path) if ":" in x]


def test_no_path_of_a_user_goes_through_pathlib():
  found = set()
  for file in (ROOT / "mtvit").rglob("*.py"):
    name = str(file.relative_to(ROOT))
    for node in ast.walk(ast.parse(file.read_text())):
      if isinstance(node, ast.Call) and ast.unparse(node.func) in (
          "pathlib.Path", "Path"):
        found.add(name)
  on_disk = ("mtvit/data/", "mtvit/benchmarks/", "mtvit/benchmarks/peers/")
  assert {x for x in found if not x.startswith(on_disk)} <= LOCAL


@pytest.mark.parametrize("key, value", [
    ("cache_dir", "gs://b/cache"), ("name", "folder:gs://b/images"),
    ("name", "list:gs://b/train.txt")])
def test_data_must_be_on_a_disk(tiny, tmp_path, key, value):
  tiny.data[key] = value
  with pytest.raises(errors.ConfigError, match=f"data.{key}=.*must be on a di"):
    pretrain.pretrain(config_values.to_plain(tiny), tmp_path / "run")


def test_weights_must_be_on_a_disk():
  with pytest.raises(errors.ConfigError, match="weights=gs://b/.* must be on"):
    mtvit.load("gs://b/model.safetensors")


@pytest.fixture
def hits(monkeypatch):
  """Counts the programs that come from the compilation cache."""
  old = jax.config.jax_compilation_cache_dir
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
  jax.config.update("jax_compilation_cache_dir", None)
  count = []
  listen = lambda event, **unused: count.append(event) if event.endswith(
      "compilation_cache/cache_hits") else None
  jax.monitoring.register_event_listener(listen)
  yield count
  jax.monitoring.unregister_event_listener(listen)
  jax.config.update("jax_compilation_cache_dir", old)


def test_only_ones_own_run_uses_compiled_code(hits, tmp_path):
  def once(own, folder="run"):
    jax.clear_caches()
    hits.clear()
    with workdir_lib.compiled(epath.Path(tmp_path / folder), own):
      def work(x):
        for i in range(60):
          x = jax.numpy.sin(x @ x + i)
        return x
      jax.jit(work)(jax.numpy.ones((7, 7))).block_until_ready()
    return len(hits)

  shortest = workdir_lib._MIN_COMPILE
  workdir_lib._MIN_COMPILE = 0.0
  try:
    assert once(own=True) == 0
    kept = list((tmp_path / "run" / "compiled").iterdir())
    assert kept and once(own=True) > 0
    assert once(own=False) == 0                # A stranger's, perhaps.
    assert once(own=True, folder="other") == 0
    wholes = {file: file.read_bytes() for file in kept}
    others = [kept[0].with_name(name) for name in (
        "x-cache", "y.txt", f"{kept[0].name}2")]
    for file in others:
      file.touch()
    for damage in (lambda x: b"", lambda x: b"torn", lambda x: x[:-1],
                   lambda x: x[:99] + bytes([x[99] ^ 1]) + x[100:]):
      for file, whole in wholes.items():
        file.write_bytes(damage(whole))
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert once(own=True) == 0
      assert once(own=True) > 0                # It has been replaced.
    assert all(file.exists() for file in others)
  finally:
    workdir_lib._MIN_COMPILE = shortest
  assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_that_the_user_chose_stays(hits, tmp_path):
  jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
  with workdir_lib.compiled(epath.Path(tmp_path / "run"), own=True):
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_a_run_takes_its_own_only_with_its_config(run, monkeypatch):
  class Seen(Exception):
    pass

  def compiled(unused_workdir, own):
    raise Seen(own)

  monkeypatch.setattr(workdir_lib, "compiled", compiled)
  for config, own in (
      (None, False), (reading.read_json(run / "config.json"), True)):
    with pytest.raises(Seen, match=str(own)):
      pretrain.pretrain(config, run)

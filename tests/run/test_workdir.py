"""A work directory: one run at a time, which notices if it is taken away."""

import os
import shutil

from etils import epath
import pytest

from mtvit import errors
from mtvit.checkpoints import saving
from mtvit.run import metrics
from mtvit.run import workdir as workdir_lib


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path / "run")


def test_a_folder_that_is_taken_away_ends_the_run(folder):
  replace = lambda: (shutil.rmtree(folder), folder.mkdir())
  rename = lambda: folder.rename(folder.with_name("renamed"))
  for take in (lambda: shutil.rmtree(folder), rename, replace):
    with workdir_lib.claimed(folder) as check:
      check()
      lines = metrics.JsonLines(folder / "metrics.jsonl", bool)
      lines.append({"step": 1})
      take()
      with pytest.raises(errors.ConfigError, match="removed, renamed") as e:
        check()
      assert e.value.alone and str(folder) in str(e.value)
      if not folder.exists():
        with pytest.raises(errors.ConfigError, match="removed, renamed"):
          lines.append({"step": 2})
        assert not folder.exists()


def test_a_lock_that_is_taken_away_is_taken_again(folder):
  with workdir_lib.claimed(folder) as check:
    (folder / "lock").unlink()
    check()
    assert f"process {os.getpid()} on" in (folder / "lock").read_text()
    (folder / "lock").write_bytes(b"\xff" * 1000)     # Whoever wrote there.
    with pytest.raises(errors.ConfigError, match="another run is using") as e:
      with workdir_lib.claimed(folder):
        pass
    assert len(str(e.value)) < 1000
    # Another run was faster.
    (folder / "lock").unlink()
    with workdir_lib.claimed(folder):
      with pytest.raises(errors.ConfigError, match="another run is using"):
        check()
  with workdir_lib.claimed(folder):
    pass


def test_checkpoints_of_another_program_are_let_alone(folder):
  other = folder / "checkpoints" / "100"
  other.mkdir(parents=True)
  saving.Checkpointer(folder, keep=1).close(0)       # An empty one is none.
  (other / "model.pt").write_text("mine")
  with pytest.raises(errors.CheckpointError, match="100 is no checkpoint of"):
    saving.Checkpointer(folder, keep=1)
  assert [x.name for x in folder.iterdir()] == ["checkpoints"]
  assert (other / "model.pt").read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_followed(folder, tmp_path):
  folder.mkdir()
  mine = tmp_path / "mine"
  mine.write_text("mine")
  os.symlink(mine, folder / "lock")
  with pytest.raises(errors.ConfigError, match="can't be written"):
    with workdir_lib.claimed(folder):
      pass
  assert mine.read_text() == "mine"

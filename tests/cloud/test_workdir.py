"""A run whose work directory is gs://BUCKET/RUN, in this process."""

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

from etils import epath
import jax
import numpy as np
import pytest

import mtvit
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit import evaluate
from mtvit import finetune
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.report import runs as runs_lib
from mtvit.run import config_values
from mtvit.run import files
from mtvit.run import paths
from mtvit.run import workdir as workdir_lib
from mtvit.tools import report
from tests.faults import harness
from tests.faults import test_3_checkpoints as checkpoints

pytestmark = pytest.mark.slow
RUN = "gs://bucket/some folder/run"
PLACE = "some folder/run/"


def steps(bucket):
  text = bucket.objects[PLACE + "metrics.jsonl"][0].decode()
  return [json.loads(line)["step"] for line in text.splitlines()]


def test_a_run_is_made_and_read(
    bucket, tiny, tmp_path, pictures, monkeypatch):
  monkeypatch.chdir(tmp_path)
  tiny.profile_steps = (2, 3)
  raw = config_values.to_plain(tiny)
  pretrain.pretrain(raw, RUN)
  found = bucket.names(PLACE)
  for name in ("config.json", "metrics.jsonl", "result.json", "parameters.txt",
               "report/curves.png", "report/colorize.png",
               "checkpoints/4/commit_success.txt"):
    assert name in found, found
  assert any(name.startswith("events.out.tfevents") for name in found)
  assert any(re.match("train_files.*json", name) for name in found)
  assert any(re.match("profile/.*xplane.pb", name) for name in found)
  assert "lock" not in found and not [x for x in found if "trial" in x]
  # The same config in a folder makes the same parameters.
  pretrain.pretrain(raw, tmp_path / "run")
  far, near = mtvit.load(RUN), mtvit.load(tmp_path / "run")
  assert far.name == RUN and far.step == near.step == 4
  jax.tree.map(np.testing.assert_array_equal, far.params, near.params)
  one = mtvit.load(f"{RUN}/checkpoints/2")
  assert one.step == 2
  # Evaluated twice: the features are read the second time.
  options = evaluate.Options(draws=2, cheat_steps=1, layer_images=8)
  scores = evaluate.evaluate(RUN, options)
  kept = [x for x in bucket.names(PLACE) if x.endswith(".mtvit")]
  assert len(kept) == 6              # Three, and those of random init.
  before = len(bucket.written)
  again = evaluate.evaluate(RUN, options)
  assert again["probes"] == scores["probes"]
  assert not [x for x, _ in bucket.written[before:] if x.endswith(".mtvit")]
  assert [x for x in bucket.names(PLACE) if x.endswith("neighbours.png")]
  # A page from it, in it.
  monkeypatch.setattr(report.flags, "FLAGS", type("F", (), {
      "workdir": [RUN], "output": None}))
  report.main()
  page = bucket.objects[PLACE + "report/index.html"][0].decode()
  assert "missing" in page and page.count("<img") >= 8
  # Something else from it.
  section = config_values.to_plain(tiny)
  assert loading.weights(RUN)["encoder"].keys() == far.params.keys()
  filled = finetune.complete(section | {
      "init_from": RUN, "input": "", "model": section["model"] | {
          "variant": ""}})
  assert filled["model"]["variant"] == tiny.model.variant
  pretrain.pretrain(filled | {"total_steps": 2}, f"{RUN} tuned")
  assert mtvit.load(f"{RUN} tuned").step == 2
  subprocess.run(
      [sys.executable, "-m", "mtvit.tools.export", f"--workdir={RUN}",
       f"--output={tmp_path / 'exported'}"], check=True)
  np.testing.assert_array_equal(
      mtvit.load(tmp_path / "exported/mtvit.npz").params["token_cls"],
      far.params["token_cls"])
  assert not (tmp_path / "gs:").exists()


def test_a_run_goes_on(bucket, tiny):
  tiny.total_steps = 2
  pretrain.pretrain(config_values.to_plain(tiny), RUN)
  # A checkpoint that a kill left unfinished, and a line after the last.
  for name in list(bucket.objects):
    if "/checkpoints/2/" in name and not name.endswith(
        "checkpoints/2/commit_success.txt"):
      bucket.put(name.replace("/2/", "/3/"), bucket.objects[name][0])
  bucket.put(PLACE + "metrics.jsonl", bucket.objects[
      PLACE + "metrics.jsonl"][0] + b'{"step": 3, "train/loss": 1}\n')
  assert loading.load_checkpoint(RUN).step == 2
  before = len(bucket.written)
  tiny.total_steps = 4
  pretrain.pretrain(config_values.to_plain(tiny), RUN, allow_config_change=True)
  assert not [x for x in bucket.objects if "/checkpoints/3/" in x]
  assert steps(bucket) == sorted(steps(bucket))
  assert {1, 2, 3, 4} == set(steps(bucket)) and steps(bucket).count(3) == 1
  # One upload for a report, and each has all lines.
  sizes = [size for name, size in bucket.written[before:]
           if name.endswith("metrics.jsonl")]
  assert sizes == sorted(sizes) and len(sizes) == 4
  # From the work directory alone, which ends where it is.
  assert pretrain.pretrain(None, RUN)["steps"] == 4


def saved(workdir, *numbers, **arguments):
  state = checkpoints.make_state(checkpoints.mesh_of(1), 1)
  saver = saving.Checkpointer(epath.Path(workdir), 3, **arguments)
  for step in numbers:
    saver.save(step, state, {"config": {}, "statistics": {}})
  saver.close(numbers[-1])
  return state


def test_damage_is_set_aside_and_an_outage_is_not(bucket):
  state = saved(RUN, 1, 2)
  shapes = checkpoints.shapes_of(state)
  bucket.unreachable = "checkpoints/2/(meta|state)/"
  with pytest.raises(errors.CheckpointError, match="can't be read"):
    saving.Checkpointer(epath.Path(RUN), 3).newest()
  bucket.unreachable = None
  assert not [x for x in bucket.objects if "damaged" in x]
  name = PLACE + "checkpoints/2/meta/metadata"
  content = bucket.objects[name][0]
  bucket.put(name, content.replace(b"statistics", b"statistocs"))
  opened = saving.Checkpointer(epath.Path(RUN), 3)
  assert opened.restore(shapes).step == 1
  assert PLACE + "damaged_checkpoints/2/meta/metadata" in bucket.objects
  assert not [x for x in bucket.objects if "/run/checkpoints/2/" in x]


def test_a_save_that_fails_is_a_warning(bucket, caplog):
  state = checkpoints.make_state(checkpoints.mesh_of(1), 1)
  saver = saving.Checkpointer(epath.Path(RUN), 3)
  bucket.denied = "checkpoints/1/"
  saver.save(1, state, {"config": {}, "statistics": {}})
  saver._finish()
  bucket.denied = None
  assert "step 1 could not be written" in caplog.text
  saver.save(2, state, {"config": {}, "statistics": {}})
  saver.close(2)
  assert loading.load_checkpoint(RUN).step == 2
  saver = saving.Checkpointer(epath.Path(RUN), 3)
  bucket.denied = "checkpoints/3/"
  saver.save(3, state, {"config": {}, "statistics": {}})
  with pytest.raises(errors.CheckpointError, match="your rights"):
    saver.close(3)


def test_the_last_to_start_has_it(bucket, caplog):
  place = epath.Path(RUN)
  with workdir_lib.claimed(place) as first:
    first()
    with workdir_lib.claimed(place) as second:
      assert "was not left in order" in caplog.text
      second()
      with pytest.raises(errors.ConfigError, match="another run has .*process"):
        saved(RUN, 1, still_ours=first)
      assert not loading._steps(place / "checkpoints")
      bucket.unreachable = "run/lock"
      first()                        # Who knows; it goes on.
      assert "can't be read" in caplog.text
      bucket.unreachable = None
    with pytest.raises(errors.ConfigError, match="it has ended"):
      first()
  caplog.clear()
  with workdir_lib.claimed(place):
    assert not caplog.text


def outside(code):
  """Runs code in a process of its own; returns what it printed.

  TensorFlow closes a file that it couldn't write while it holds Python's lock,
  and the emulator, in this process, would wait for that.
  """
  done = subprocess.run(
      [sys.executable, "-c", textwrap.dedent(code)], capture_output=True,
      text=True, timeout=300)
  return done.stdout + done.stderr


@pytest.mark.parametrize("place", ["gs://nobody/run", RUN])
def test_where_nothing_can_be_written(bucket, place):
  bucket.denied = "run/"
  told = outside(f"""
      from etils import epath
      from mtvit import errors
      from mtvit.run import workdir
      try:
        with workdir.claimed(epath.Path({place!r})):
          print("claimed")
      except errors.ConfigError as e:
        print("refused:", e)""")
  assert re.search(
      "refused: .*can't be written.*\n.*your rights", told), told


def test_lines_that_can_not_be_written_come_with_the_next(bucket):
  told = outside(f"""
      from etils import epath
      from mtvit.run import metrics
      lines = metrics.JsonLines(
          epath.Path({RUN!r}) / "metrics.jsonl", lambda x: True)
      lines.append({{"step": 1}})
      (epath.Path({RUN!r}) / "deny").write_text("x")
      lines.append({{"step": 2}})
      (epath.Path({RUN!r}) / "allow").write_text("x")
      lines.append({{"step": 3}})""")
  assert "lacks step 2" in told and steps(bucket) == [1, 2, 3], told
  sizes = [size for name, size in bucket.written if "metrics" in name]
  assert len(sizes) == 2             # The second was refused.


def test_a_run_is_killed_and_goes_on(bucket, tiny, tmp_path):
  tiny.total_steps, tiny.checkpoint_every = 12, 3
  one = harness.Run(tiny, RUN)
  place = PLACE + "checkpoints/"
  done = lambda name: name.split("/")[0] + "/commit_success.txt"
  one.wait_until(lambda: "3/commit_success.txt" in bucket.names(place))
  one.wait_until(lambda: any(
      done(x) not in bucket.names(place) for x in bucket.names(place)
      if x.endswith("_METADATA")))
  one.kill()
  two = harness.Run(tiny, RUN)
  two.expect(0)
  assert re.search("not left in order by process", two.output), two.output
  assert "resuming from step" in two.output
  assert set(steps(bucket)) == {*range(1, 13)}
  assert steps(bucket) == sorted(steps(bucket))
  whole = harness.Run(tiny, tmp_path / "run")
  whole.expect(0)
  far, near = map(loading.load_checkpoint, (RUN, tmp_path / "run"))
  assert far.step == near.step == 12
  jax.tree.map(np.testing.assert_array_equal, far.state, near.state)


def test_a_run_whose_save_failed_exits_soon(bucket, tiny):
  tiny.total_steps, tiny.checkpoint_every = 4, 2
  bucket.denied = "checkpoints/2/"
  one = harness.Run(tiny, RUN)
  one.wait_for("could not be written")
  one.wait_for("^step 4/")
  one.expect(0, 200)                 # Not Orbax's ten minutes.
  assert loading._steps(epath.Path(RUN) / "checkpoints") == [4]


def test_an_older_run_ends(bucket, tiny):
  tiny.total_steps = 3000
  one = harness.Run(tiny, RUN)
  one.wait_for("^step 1/")
  two = harness.Run(tiny, RUN)
  one.expect(2)
  assert "another run has" in one.output
  # The step that both save is lost, and no other.
  two.wait_until(lambda: "8/commit_success.txt" in bucket.names(
      PLACE + "checkpoints/"))
  two.send(15)
  two.expect(75)


def test_a_folder_and_gs_are_told_apart(bucket, tmp_path):
  place = paths.parse(f"{RUN}/a")
  files.write(place / "b.txt", "hé")
  assert bucket.objects[PLACE + "a/b.txt"][0] == "hé".encode()
  assert paths.absolute(place) == place
  with pytest.raises(FileNotFoundError):
    with paths.os_errors(place):
      (place / "c.txt").read_text()
  with paths.on_disk(place) as folder:
    (folder / "d").mkdir()
    (folder / "d" / "e.txt").write_text("e")
  assert bucket.objects[PLACE + "a/d/e.txt"][0] == b"e"
  assert runs_lib.inside(place) == [place / "b.txt", place / "d"]
  assert runs_lib.inside(place / "nowhere") == []
  with paths.on_disk(epath.Path(tmp_path)) as folder:
    assert folder == pathlib.Path(tmp_path) and os.path.isdir(folder)
  with pytest.raises(errors.CheckpointError, match="or can't be read"):
    encoder_lib.load("gs://nobody/run")

"""Exact resume: killed runs end with the bits of one that never stopped."""

import random
import re
import shutil

from tests import states
from tests.data import test_datasets
from tests.faults import harness


def assert_epochs(steps, images, batch):
  """Every example once in each epoch, whatever was killed."""
  seen = [i for step in sorted(steps) for i in steps[step][::2]]
  assert sorted(steps) == list(range(1, len(steps) + 1))
  for start in range(0, len(steps) * batch, images):
    epoch = seen[start:start + images]
    assert len(set(epoch)) == len(epoch), f"twice in epoch at {start}"
    if len(epoch) == images:
      assert sorted(epoch) == list(range(images))


def test_kill_9(small, everything, tmp_path, fault):
  config, devices = everything, 4        # It changes what `small` is.
  config.total_steps, config.checkpoint_every = 30, 4
  config.diagnose_every = 0
  start = lambda name: harness.Run(
      config, tmp_path / name, devices=devices,
      FAULTS_IDS=tmp_path / f"{name}.ids")
  start("whole").expect(0)
  draw = random.Random(devices)
  killed, inside = [], 0
  for kill in ("save", "any time"):
    run = start("killed")
    first = int(re.search(r"step (\d+)/", run.wait_for(r"^step \d+/"))[1])
    # A save waits for the one before: nine steps on one at least is complete.
    if kill == "any time":
      run.wait_for(f"^step {first + draw.randint(9, 14)}/")
    else:
      run.wait_for(f"^step {first + 9}/")
      run.wait_until(run.is_saving)
    run.kill()
    killed.append(next(
        x for x in reversed(run.lines) if x.startswith("step ")
    ).split()[1].partition("/")[0])
    inside += run.is_saving()
  assert inside >= 1, "no kill hit a save"
  last = start("killed")
  last.expect(0)
  assert "resuming from step" in last.output
  assert not last.is_saving()
  states.assert_same(tmp_path / "whole", tmp_path / "killed")
  whole = harness.ids(tmp_path / "whole.ids")
  assert whole == harness.ids(tmp_path / "killed.ids")
  assert_epochs(whole, images=40, batch=8)
  fault(f"`kill -9` at steps {', '.join(killed)}, {inside} of them inside an "
        f"asynchronous save ({devices} devices, all tasks)",
        "finished; parameters, optimizer, momentum encoder, queue and rng "
        f"{states.digest(tmp_path / 'killed')[1]} = uninterrupted run; every "
        "image once per epoch")


def test_other_device_counts(small, tmp_path, fault):
  small.mesh.fsdp, small.mesh.data = -1, 1
  small.total_steps = 14
  whole = harness.Run(small, tmp_path / "whole", devices=8,
                      FAULTS_IDS=tmp_path / "whole.ids")
  whole.expect(0)
  run = harness.Run(small, tmp_path / "run", devices=8,
                    FAULTS_IDS=tmp_path / "run.ids")
  run.wait_for("^step 1/")
  run.send(15)
  run.expect(75)
  saved = []
  for devices in (4, 2):
    run = harness.Run(small, tmp_path / "run", devices=devices,
                      FAULTS_IDS=tmp_path / "run.ids")
    run.wait_for("^step ")
    run.send(15)
    run.expect(75)
    saved.append(states.steps(tmp_path / "run")[-1])
  run = harness.Run(small, tmp_path / "run", devices=1,
                    FAULTS_IDS=tmp_path / "run.ids")
  run.expect(0)
  assert f"resuming from step {saved[-1]} of 14" in run.output
  assert harness.ids(tmp_path / "run.ids") == harness.ids(
      tmp_path / "whole.ids")
  a, b = (states.leaves(tmp_path / name)[1] for name in ("whole", "run"))
  # The sums of another device count round otherwise; Adam amplifies that.
  key = "['params']['encoder']['embed']['kernel']"
  assert abs(a[key] - b[key]).max() < 0.02 < abs(a[key]).max()
  fault("checkpoint of 8 devices (fsdp) continued on 4, on 2 and on 1",
        "exit 0, the same images in the same order")


def test_streamed_sets(small, tmp_path, fault):
  test_datasets.Numbers(data_dir=tmp_path / "tfds", file_format="tfrecord"
                        ).download_and_prepare()
  small.data.name, small.data.test_split = "numbers", "train"
  small.data.data_dir = str(tmp_path / "tfds")
  small.data.memory_mb = 0
  small.total_steps = 16
  small.checkpoint_every = 3
  start = lambda name: harness.Run(
      small, tmp_path / name, FAULTS_IDS=tmp_path / f"{name}.ids")
  whole = start("whole")
  whole.expect(0)
  assert "(streamed)" in whole.output
  run = start("killed")
  run.wait_for("^step 7/")
  run.kill()
  refused = harness.several(small, tmp_path / "killed", devices=1)
  for process in refused:
    process.expect(2)
    assert "can be continued with 1 process(es), not with 2" in process.output
  start("killed").expect(0)
  states.assert_same(tmp_path / "whole", tmp_path / "killed")
  found = harness.ids(tmp_path / "killed.ids")
  assert found == harness.ids(tmp_path / "whole.ids")
  assert_epochs(found, images=50, batch=8)
  # The same images in another file format would come in another order.
  shutil.rmtree(tmp_path / "tfds")
  test_datasets.Numbers(data_dir=tmp_path / "tfds", file_format="array_record"
                        ).download_and_prepare()
  changed = start("killed")
  changed.expect(4)
  assert "would go on in another order" in changed.output
  fault("`kill -9` of a run on a streamed set (TFRecord)",
        "goes on at the right record, the same to the last bit; with two "
        "processes instead of one: refused, exit 2; prepared anew as "
        "ArrayRecord: refused, exit 4")

"""What is killed or has no room while it writes, and is started again."""

import contextlib
import os
import shutil
import signal
import subprocess

import pytest

from mtvit import errors
from mtvit.checkpoints import loading
from mtvit.interchange import exporting
from mtvit.run import metrics
from mtvit.run import reading
from tests import commands
from tests.faults import harness
from tests.faults import test_3_checkpoints as checkpoints
from tests.interchange import helpers


def start(code, module, *arguments, **environment):
  """Runs a command; gives what it said, and fails unless it exits with this."""
  done = commands.run(module, *arguments, XLA_FLAGS="", **environment)
  said = done.stdout + done.stderr
  assert done.returncode == code, said[-4000:]
  return said


def killed(count, name, *command, **environment):
  start(-signal.SIGKILL, "tests.faults.killed", count, name, *command,
        **environment)


def files(folder):
  return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}


def temporary(folder):
  return [name for name in files(folder) if ".tmp" in name or (
      ".mtvit" in name and not name.endswith(".mtvit"))]


def fill(disk):
  """Fills a disk, but for less than 64 kB; gives what to remove."""
  filler = disk / "filler"
  with contextlib.suppress(OSError), open(filler, "wb") as f:
    while True:
      f.write(bytes(2**16))
      f.flush()
  return filler


def grow(disk, megabytes):
  subprocess.run(["mount", "-o", f"remount,size={megabytes}m", str(disk)],
                 check=True)


def test_export(tmp_path, fault):
  exporting.export(helpers.encoder(), tmp_path / "from", ["numpy"])
  with checkpoints.small_disk(tmp_path / "disk", 4) as disk:
    folder = disk / "new"
    command = ("mtvit.tools.export",
               f"--workdir={tmp_path / 'from' / 'mtvit.npz'}",
               f"--output={folder}")
    for _ in range(2):               # It does not refuse its own advice.
      said = start(1, *command)
      assert f"error: {folder}" in said and "No space left on dev" in said
      assert "make room on the disk and run the same command again" in said
      assert not list(disk.iterdir())
    grow(disk, 60)
    for name in ("timm.json", "augreg.npz", "mtvit.npz", "export.json"):
      killed(1, name, *command)
      assert not (folder / "export.json").exists()
      assert (folder / "export.json.unfinished").exists()
      assert len(temporary(folder)) == 1
    with pytest.raises(errors.CheckpointError, match="is unfinished"):
      loading.imported(folder / "mtvit.npz")
    start(0, *command)
    assert files(folder) == {
        "README.md", "config.json", "export.json", "timm.json",
        "model.safetensors", "augreg.npz",
        "mtvit.npz", *(f"hf/{name}" for name in (
            "model.safetensors", "config.json", "preprocessor_config.json"))}
    loading.imported(folder / "model.safetensors")
  fault("an export without room, and killed in four places",
        "exit 1, naming file and disk, nothing left behind; says that it is "
        "unfinished, is not read, and the same command makes it whole")


def test_evaluate_and_report(run, tmp_path, fault):
  with checkpoints.small_disk(tmp_path / "disk", 60) as disk:
    shutil.copytree(run, disk / "run")
    place = disk / "run"
    command = ("mtvit.evaluate", f"--workdir={place}", "--layer_images=0",
               "--draws=2", "--cheat_steps=2")
    filler = fill(disk)
    with contextlib.suppress(OSError), open(disk / "rest", "wb") as f:
      f.write(bytes(2**16))          # Not one byte is left.
    said = start(1, *command)
    assert f"error: {place}/evaluation" in said
    assert "No space left on device" in said
    assert "--config.data" not in said         # It has no such flag.
    assert not temporary(place)
    filler.unlink()
    (disk / "rest").unlink()

    killed(1, "layers.png", *command)
    file, = (place / "evaluation").glob("*/evaluation.json")
    assert reading.read_json(file)["unfinished"] == "pictures"
    report = ("mtvit.tools.report", f"--workdir={place}")
    killed(1, "index.html", *report)
    start(0, *report)
    page = place / "report" / "index.html"
    assert "it lacks pictures" in page.read_text()

    start(0, *command)
    assert "unfinished" not in reading.read_json(file)
    assert files(file.parent) == {
        "evaluation.json", "layers.png", "positions.png", "attention.png",
        "neighbours.png"}
    before, filler = page.read_text(), fill(disk)
    with contextlib.suppress(OSError), open(disk / "rest", "wb") as f:
      f.write(bytes(2**16))
    said = start(1, *report)
    assert f"error: {place}/report/" in said
    assert page.read_text() == before
    filler.unlink()
    start(0, *report)
    assert "it lacks" not in page.read_text()
    assert not temporary(place)
  fault("an evaluation and a report without room, and killed",
        "exit 1, naming the file; both say what the evaluation lacks; the same "
        "commands make them whole, and no temporary file is left")


def test_finetune(run, image_folder, tmp_path, fault):
  command = (
      "mtvit.finetune", f"--workdir={tmp_path / 'tuned'}",
      "--config=configs/finetune.py", f"--config.init_from={run}",
      f"--config.data.name=folder:{image_folder}",
      f"--config.data.cache_dir={tmp_path / 'cache'}",
      "--config.tasks.supervised.num_classes=4", "--config.total_epochs=0.",
      "--config.total_steps=4", "--config.batch_size=8",
      "--config.checkpoint_every=2", "--config.model.unroll=1")
  killed(1, "config.json", *command)
  killed(1, "result.json", *command)
  assert temporary(tmp_path / "tuned")
  said = start(0, *command)
  assert "resuming from step 4 of 4" in said
  assert not temporary(tmp_path / "tuned") and not temporary(tmp_path / "cache")
  assert reading.read_json(tmp_path / "tuned" / "result.json")["steps"] == 4
  fault("`kill -9` of a fine-tuning that writes config.json, or result.json",
        "the same command goes on; no temporary file is left")


def test_the_work_directory_is_removed(small, tmp_path, fault):
  small.total_steps = 4000
  run = harness.Run(small, tmp_path / "run")
  run.wait_for("^step 6/")
  os.rename(tmp_path / "run", tmp_path / "elsewhere")
  run.expect(2)
  assert f"error: {tmp_path / 'run'} was removed, renamed" in run.output
  # Orbax may have been about to save; nothing else is made in its place.
  assert files(tmp_path / "run" / "checkpoints") == {
      name.removeprefix("checkpoints/") for name in files(tmp_path / "run")}
  assert len(metrics.read(tmp_path / "elsewhere" / "metrics.jsonl")) >= 5
  fault("the work directory is renamed or removed under a run",
        "exit 2 at the next report, naming it")

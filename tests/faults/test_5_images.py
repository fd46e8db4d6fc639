"""Folders of scraped images: bad files, bad later, odd names, odd folders."""

import os
import pathlib
import re
import shutil

from PIL import Image
import numpy as np
import pytest

from mtvit.data import photo_crops
from mtvit.run import metrics
from tests.faults import harness


@pytest.fixture
def folder(tmp_path, small):
  """train/ and test/ of two classes with 100 PNGs of 24 px each."""
  root = tmp_path / "images"
  for split, count in (("train", 100), ("test", 10)):
    for name in ("coffee", "rocket"):
      (root / split / name).mkdir(parents=True)
      for i, crop in zip(range(count), photo_crops.crops(name, split)):
        Image.fromarray(crop).resize((24, 24)).save(
            root / split / name / f"{i:03}.png")
  small.data.name = f"folder:{root}"
  small.data.memory_mb = 0                # Read anew in each step.
  small.total_steps = 50                  # Two epochs of 25 steps.
  return root


def test_bad_files_are_refused_with_reasons(folder, small, tmp_path, fault):
  train = folder / "train"
  good = (train / "coffee" / "000.png").read_bytes()
  bad = train / "coffee"
  (bad / "zero.jpg").touch()
  (bad / "half.png").write_bytes(good[:len(good) // 2])
  (bad / "page.jpg").write_text("<html>404</html>")
  (bad / "noise.jpg").write_bytes(os.urandom(500))
  Image.new("RGB", (9, 9)).save(bad / "scan.tiff")
  Image.new("1", (20000, 20000)).save(bad / "bomb.png")
  Image.new("RGB", (2, 2)).save(bad / "dot.png")
  os.mkfifo(bad / "pipe.png")
  # These are fine, whatever they are called.
  odd = [os.fsencode(train / "rocket") + b"/" + name for name in (
      "снимок 猫 🐈.png".encode(), b"new\nline.png", b"\xff\xfe.png",
      b"; rm -rf ~.png", b"no ending")]
  for name in odd:
    pathlib.Path(os.fsdecode(name)).write_bytes(good)
  small.total_steps = 26
  run = harness.Run(small, tmp_path / "run")
  run.expect(0)
  said = run.wait_for("files refused")
  assert "8 of 213 files refused" in said, said
  listed = pathlib.Path(said.partition("listed in ")[2]).read_text()
  reasons = {os.path.basename(line.split("\t")[1]): line.split("\t")[0]
             for line in listed.splitlines()}
  for name, reason in (
      ("zero.jpg", "empty file"), ("half.png", "truncated"),
      ("page.jpg", "not an image"), ("noise.jpg", "not an image"),
      ("scan.tiff", "TIFF is not supported"), ("bomb.png", "too many pixels"),
      ("dot.png", "too small"), ("pipe.png", "not a regular file")):
    assert reasons[name].startswith(reason), (name, reasons[name])
  assert "205 images (indexed)" in run.output
  fault("empty, truncated, HTML, noise, TIFF, 400-megapixel, 2-pixel files and "
        "a named pipe among 205 images, some with names like "
        "`; rm -rf ~` or no UTF-8",
        "eight refused with reasons, in a list; the 205 are trained on, exit 0")


def test_files_that_go_bad(folder, small, tmp_path, fault):
  start = lambda name: harness.Run(
      small, tmp_path / name, FAULTS_IDS=tmp_path / f"{name}.ids")
  start("whole").expect(0)
  whole = harness.ids(tmp_path / "whole.ids")
  # A file of the 2nd epoch that the 1st few steps do not prefetch.
  step, victim = next((s, i) for s in (20, 21) for i in whole[s]
                      if i not in (99, 199))
  file = sorted((folder / "train").rglob("*.png"))[victim]
  run = start("run")
  run.wait_for("^step 2/")
  good = file.read_bytes()
  file.write_bytes(good[:100])
  run.wait_for("bad image, replaced by another: .*" + re.escape(file.name))
  run.wait_for(f"^step {step + 3}/")
  run.kill()                              # It goes on the same in a new start.
  again = start("run")
  again.expect(0)
  assert "resuming from step" in again.output
  seen = harness.ids(tmp_path / "run.ids")
  for s, ids in whole.items():
    want = [victim + 1 if i == victim else i for i in ids]
    assert seen[s] in ((want,) if s >= step else (want, ids)), s
  lines = metrics.read(tmp_path / "run/metrics.jsonl")
  share = {x["step"]: x["data/replaced"] for x in lines
           if "data/replaced" in x}
  assert share[step] == pytest.approx(1 / 8) and share[1] == 0
  again.wait_for("bad image, replaced by another")
  # Restored, it is used again; two more are over one per cent.
  file.write_bytes(good)
  files = sorted((folder / "train").rglob("*.png"))
  run = start("third")
  run.wait_for("^step 2/")
  for other in files[::20]:
    other.unlink()
  run.expect(4)
  assert "went bad since they were checked, more than 1%" in run.output
  listed = re.search(r"listed in (\S+\.txt)", run.output)[1]
  names = pathlib.Path(listed).read_text().splitlines()
  assert 2 < len(names) <= 10 and "No such file" in names[0]
  fault("a file is truncated while the run reads; then 5 % are deleted",
        "replaced by the next image in every epoch and after a restart, "
        "counted in `data/replaced`; exit 4 and a list")


def test_odd_folders(folder, small, tmp_path, fault):
  small.total_steps = 2
  seen = []

  def answer(change, code, *messages):
    root = tmp_path / f"case{len(seen)}"
    shutil.copytree(folder, root)
    change(root)
    small.data.name = f"folder:{root}"
    run = harness.Run(small, tmp_path / f"run{len(seen)}")
    took = run.expect(code)
    for message in messages:
      assert message in run.output, f"{message}: {run.output}"
    errors = [x for x in run.lines if x.startswith("error")]
    assert len(errors) == (code != 0)
    seen.append(took)

  def empty(root):
    for file in (root / "train").rglob("*.png"):
      file.unlink()

  def flat(root):
    for folder in list((root / "train").iterdir()):
      for file in list(folder.iterdir()):
        file.rename(root / "train" / f"{folder.name}{file.name}")
      folder.rmdir()

  def few(root):
    for file in sorted((root / "train").rglob("*.png"))[3:]:
      file.unlink()

  def tiny(root):
    for file in (root / "train").rglob("*.png"):
      Image.fromarray(np.zeros((3, 3, 3), np.uint8)).save(file)

  answer(empty, 4, "no images in ")
  answer(flat, 0, "200 images (indexed), no classes")
  answer(few, 4, "3 training images are fewer than batch_size=8")
  answer(tiny, 4, "200 of 200 files refused: 200 too small")
  answer(lambda root: shutil.rmtree(root / "test" / "rocket"), 4,
         "the classes of the splits differ", "rocket")
  fault("empty folder, fewer images than a batch, 3-pixel images, a class that "
        "only one split has; images outside class folders",
        "exit 4 each, with the fix; these train without labels")

"""The command: small benchmarks in real processes, and its errors."""

import json
import os
import pathlib
import subprocess
import venv

from PIL import Image
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import arguments
from mtvit.benchmarks import images
from mtvit.benchmarks import input as input_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import step as step_lib
from tests import commands
from tests import environments
from tests.parity import environment as parity

from mtvit.configs import cifar10
from mtvit.configs import imagenet

ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--repeats=2", "--steps=1", "--batches=1", "--config.batch_size=4")


def run(*words):
  # One device, as a user has it.
  return commands.run(
      "mtvit.tools.bench", *words, timeout=600, XLA_FLAGS=commands.QUICK)


def table(text):
  """Name -> its cells."""
  lines = [line.strip("|").split("|") for line in text.splitlines()
           if line.startswith("|")]
  return {name.strip(): [cell.strip() for cell in cells]
          for name, *cells in lines}


@pytest.mark.slow
def test_input_on_the_built_in_photographs(tmp_path):
  file = tmp_path / "input.json"
  done = run(
      "input", f"--config={ROOT}/configs/imagenet.py:variant=Ti/16", *SMALL,
      "--config.model.image_size=96", "--config.tasks.colorize.num_patches=4",
      "--config.tasks.relative_position.num_pairs=1", "--also=",
      f"--json={file}")
  assert done.returncode == 0, done.stderr
  assert "2 views of 96 px from 64 cuts of the built-in" in done.stdout
  found, names = table(done.stdout), [
      input_lib.CEILING, input_lib.AUGMENT,
      "mtvit, colorize + contrastive + relative_position"]
  assert all(name in found for name in names)
  saved = json.loads(file.read_text())
  assert list(saved["measured"]) == names
  for one in saved["measured"].values():
    assert [x["count"] for x in one["input"]] == [4, 4]
    assert all(x["seconds"] > 0 and x["cpu_seconds"] > 0 for x in one["input"])
  assert saved["machine"]["cores"] == len(os.sched_getaffinity(0))
  assert saved["versions"]["jax"] in done.stdout
  assert not pathlib.Path(
      saved["config"]["data"]["name"].removeprefix("folder:")).exists()


@pytest.mark.slow
def test_step_of_a_small_model(tmp_path):
  file = tmp_path / "step.json"
  done = run(
      "step", f"--config={ROOT}/configs/quickstart.py:strategy=report", *SMALL,
      "--config.model.variant=pico/12", "--config.model.unroll=1",
      "--config.tasks.colorize.num_patches=2",
      "--config.tasks.relative_position.num_pairs=1", "--profile",
      f"--json={file}")
  assert done.returncode == 0, done.stderr
  own, alone = "mtvit, colorize + contrastive + relative_position", (
      "mtvit, contrastive")
  found = table(done.stdout)
  saved = json.loads(file.read_text())
  assert list(saved["measured"]) == [own, alone] and {own, alone} <= set(found)
  for name in (own, alone):
    assert len(saved["measured"][name]["step"]) == 2
    assert saved["ready"][name]["compile_seconds"] > 0.1
    assert saved["ready"][name]["flops"] > 1e7
    # It holds JAX and TensorFlow.
    assert saved["measured"][name]["step"][0]["peak_bytes"] > 2e8
  assert saved["ready"][own]["flops"] > saved["ready"][alone]["flops"]
  assert "matrix products, and what is fused with them" in found
  assert sum(saved["last"]["profile"]["shares"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_strategies_of_a_small_model():
  done = run(
      "strategies", f"--config={ROOT}/configs/cifar10.py:variant=pico/8",
      *SMALL, "--num_tasks=2", "--repeats=1",
      "--config.model.unroll=1")
  assert done.returncode == 0, done.stderr
  found = table(done.stdout)
  assert {"contrastive", "report, 3 tasks", "patch_level, 2 tasks",
          "separate, 2 tasks"} <= set(found)
  # Two passes cost about twice as much.
  assert 1.8 < float(found["separate, 2 tasks"][3]) < 2.2
  assert 1 <= float(found["patch_level, 2 tasks"][3]) < 1.3
  assert "A step of patch_level, 2 tasks takes" in done.stdout


@pytest.mark.parametrize("words, said", [
    ([], "input | step | strategies"), (["inputs"], "no benchmark 'inputs'"),
    (["input", "--images=/no/folder"], "--images=/no/folder"),
    (["step", "--peer", "--peer_python=/no/python"], "--with_peers"),
    (["strategies", "--config=configs/finetune.py"], "no option strategy="),
    (["input", "--also=none"], "there is no strategy none"),
    (["step", "--config.tasks.colorize.mode=of"], "tasks.colorize"),
    (["step", "--config.tasks.colorize.num_patches=64"], "grid has 64"),
    (["step", "--json=/proc/no/file.json"], "--json=/proc/no/file.json"),
    (["step", "--layers=folded"], "--layers=folded"),
    (["step", "--peer", "--peer_forms=fast"], "compiled,eager"),
    (["step", "--save_batch=/proc/no/x"], "--save_batch=/proc/no/x"),
    (["input", "--batch=x"], "input takes no saved batch"),
    (["step", "--steps=0"], "steps"), (["step", "more"], "stray argument")])
def test_errors_name_what_is_wrong(words, said):
  done = run(*words)
  assert done.returncode == 2, done.stderr
  assert said in done.stderr and len(done.stderr.splitlines()) <= 5


def test_a_contestant_that_fails_is_named_with_its_exit_code(tmp_path):
  for i in range(8):          # Of one size, but this is no JPEG's content.
    (tmp_path / f"{i}.jpg").write_bytes(b"no image")
  done = run("input", *SMALL, f"--images={tmp_path}")
  assert done.returncode == 1
  assert f"{input_lib.CEILING} ended with exit code 1" in done.stderr
  assert "Unknown image file format" in done.stderr


def test_defaults_give_way_to_what_is_given():
  kind, words = arguments.complete(["step", "--repeats=1"])
  assert kind == "step" and words[1:] == [
      "--repeats=1", "--config.batch_size=128"]
  assert words[0] == "--config=cifar10:variant=nano/4"
  given = ["--config=x.py", "--config.batch_size=2"]
  assert arguments.complete(["input", *given]) == ("input", given)
  # In front of its overrides, which is what the flag wants.
  _, words = arguments.complete(["input", "--config.views=2"])
  assert words[0].startswith("--config=") and words[1] == "--config.views=2"


def test_a_folder_of_images_has_the_splits_of_the_config(tmp_path):
  data = config_lib.parse(cifar10.get_config()).data
  for name in ("a/deep/1.JPEG", "b/2.png", "b/no.txt", "test/3.png"):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(
        file, format="PNG") if file.suffix != ".txt" else file.touch()
  with images.folder(str(tmp_path), data) as (folder, what):
    files = sorted((folder / "train" / "all").iterdir())
    assert [f.resolve().name for f in files] == ["1.JPEG", "2.png", "3.png"]
    assert [f.suffix for f in files] == [".jpeg", ".png", ".png"]
    assert len(list((folder / "test").rglob("*.*"))) == 1
    assert what.startswith("3 files of ")
  assert not folder.exists()
  # With a training split, only that.
  (tmp_path / "b").rename(tmp_path / "train")
  with images.folder(str(tmp_path), data) as (folder, _):
    assert [f.resolve().name for f in (folder / "train" / "all").iterdir()] == [
        "2.png"]


def test_the_photographs_differ_in_size(tmp_path):
  files = images.photographs(tmp_path / "made")
  sizes = [Image.open(file).size for file in files]
  assert len(files) == images.BUILT_IN and len(set(sizes)) > 40
  assert all(230 <= min(size) and max(size) <= 640 for size in sizes)


def test_peers_get_the_settings_of_the_config():
  config = imagenet.get_config("variant=S/16")
  config.batch_size = 8
  found = input_lib.peer_settings(config_lib.parse(config))
  assert found["gaussian_blur"] == (1.0, 0.1)
  assert found["solarization_prob"] == (0.0, 0.2)
  assert found["min_scale"] == 0.08 and found["input_size"] == 224
  found = step_lib.peer_settings(config.to_dict())
  assert (found["width"], found["depth"], found["heads"], found["mlp_dim"],
          found["views"], found["hidden_dim"]) == (384, 12, 6, 1536, 16, 4096)


@pytest.fixture(scope="module")
def peer_python():
  if processes.PEER_PYTHON.is_file():
    return processes.PEER_PYTHON
  return parity.python()


@pytest.mark.slow
def test_lightly(peer_python, tmp_path):
  images.photographs(tmp_path / "made")
  config = imagenet.get_config()
  config.batch_size = 4
  settings = input_lib.peer_settings(config_lib.parse(config)) | dict(
      folder=str(tmp_path / "made"), batches=2, warm=1)
  with processes.started([processes.peer(
      "lightly", "lightly_input.py", peer_python, settings, ["input"])]) as (
          one,):
    assert one.ready["versions"]["lightly"] == "1.6.0"
    found = one.repeat("input")
  # Its work is that of its workers, which are processes.
  assert found["count"] == 8 and found["cpu_seconds"] > 8 * 1e-3


# Shape and type, the largest value, and how far channels differ, of each view.
VIEWS = """
import json, sys
import dali_input
made = dali_input.pipeline(
    json.loads(sys.argv[1]), batch_size=4, num_threads=1, device_id=None)
views = next(dali_input.drawn(made))
print(json.dumps([dict(
    shape=x.shape, dtype=str(x.dtype), most=int(x.max()),
    colour=int((x.max(-1) - x.min(-1)).max())) for x in views]))
"""


@pytest.mark.slow
def test_dali(peer_python, tmp_path):
  if not processes.has_package(peer_python, "nvidia.dali"):
    environments.missing("no DALI for this machine")
  images.photographs(tmp_path / "made")
  settings = input_lib.peer_settings(
      config_lib.parse(imagenet.get_config())) | dict(
          folder=str(tmp_path / "made"), batch_size=4, batches=2, warm=1)
  with processes.started([processes.peer(
      "DALI", "dali_input.py", peer_python, settings, ["input"])]) as (one,):
    assert one.ready["versions"] == {"DALI": "2.4.0"}
    found = one.repeat("input")
  assert found["count"] == 8 and found["cpu_seconds"] > 8 * 1e-3
  # The last view: of gray, blurred, and solarised images none is above 127.
  settings |= dict(random_gray_scale=1.0, solarization_prob=(0.0, 1.0))
  done = subprocess.run(
      [peer_python, "-c", VIEWS, json.dumps(settings)], check=True,
      capture_output=True, text=True, cwd=ROOT / "mtvit/benchmarks/peers")
  first, second = json.loads(done.stdout)
  assert first["shape"] == second["shape"] == [4, 224, 224, 3]
  assert first["dtype"] == "uint8" and first["most"] > 127 >= second["most"]
  assert first["colour"] <= 2 and second["colour"] <= 2


def test_a_peer_that_is_not_installed_is_left_out(tmp_path, capsys):
  work = input_lib.Work({"mtvit": imagenet.get_config().to_dict()}, 1, None)
  python = tmp_path / "bin" / "python"
  venv.create(tmp_path)
  work = work._replace(peer_python=python)
  with pytest.raises(errors.ConfigError, match="has none of lightly, DALI"):
    input_lib.specs(work)
  (next(tmp_path.glob("lib/*/site-packages")) / "lightly.py").touch()
  capsys.readouterr()
  assert [spec.name for spec in input_lib.specs(work)][3:] == ["lightly"]
  assert capsys.readouterr().err == (
      f"DALI is left out: {python} has no nvidia.dali\n")


@pytest.mark.slow
@pytest.mark.parametrize("dtype, form", [
    ("float32", None), ("bfloat16", "eager")])
def test_timm(peer_python, dtype, form):
  config = cifar10.get_config("variant=pico/8").to_dict() | {"batch_size": 4}
  config["model"] |= {"dtype": dtype}
  settings = step_lib.peer_settings(config) | {
      "steps": 2, "form": form, "require_gpu": False}
  with processes.started([processes.peer(
      "timm", "timm_step.py", peer_python, settings, ["step", "matmul"])]) as (
          one,):
    assert one.repeat("step")["count"] == 2
    assert one.ready["device"]["platform"] == "cpu"
    assert one.repeat("matmul")["count"] == 2 * 2 * 2048**3
  with pytest.raises(errors.UserError, match="finds no GPU here"):
    processes.Contestant(processes.peer(
        "timm", "timm_step.py", peer_python, settings | {"require_gpu": True},
        ["step"]))
  # 8 views of 17 tokens: four layers, forward and twice backward.
  t, d, m = 17, 96, 384
  layers = 8 * 4 * t * (4 * d * d + 2 * d * m + 2 * t * d)
  assert 1 < one.ready["flops"] / (2 * 3 * layers) < 1.2

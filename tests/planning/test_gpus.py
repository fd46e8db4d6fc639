"""GPUs: their table, and plans for them where JAX's plugin for CUDA is."""

import importlib.metadata
import json

import pytest

from mtvit import errors
from mtvit.planning import compiler
from mtvit.planning import gpus
from tests import commands

INSTALLED = bool(compiler.versions().keys() & {
    "jax-cuda12-plugin", "jax-cuda13-plugin"})
SMALL = ("--config=configs/quickstart.py:strategy=contrastive",
         "--config.model.variant=pico/16", "--config.model.unroll=1",
         "--views_per_chip=8")


def plan(*words):
  return commands.run("mtvit.tools.plan", *words, timeout=600)


@pytest.mark.parametrize("kind, value", [
    ("NVIDIA H200", 989.5e12), ("NVIDIA H100 80GB HBM3", 989.5e12),
    ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12),
    ("NVIDIA L4", 121e12), ("NVIDIA L40S", 362e12), ("TPU v5 lite", 197e12),
    ("NVIDIA GeForce RTX 4090", 165.2e12), ("NVIDIA GB200", 2500e12),
    ("NVIDIA A10G", None), ("NVIDIA L40", None),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", None), ("cpu", None),
    ("Tesla T4", None)])
def test_peaks_by_the_name_of_a_device(kind, value):
  assert gpus.peak(kind) == value


def test_names_of_topologies():
  assert gpus.parse("v5e:2x4") is None
  assert gpus.parse("h100") == gpus.Node(gpus.GPUS["h100"], 1)
  assert gpus.parse("a100:8").count == 8
  for name in ("h100", "h200:4"):
    assert gpus.parse(name).name == name
  for name in ("h100:0", "h100:9", "h100:2x4", "h100:16"):
    with pytest.raises(errors.ConfigError, match="1 to 8 GPUs"):
      gpus.parse(name)


def test_all_that_can_be_planned_have_a_peak():
  assert all(gpu.peak > 3e14 for gpu in gpus.GPUS.values())


def test_a_search_is_refused():
  done = plan("--config=configs/cifar10.py", "--topology=h100", "--search")
  assert done.returncode == 2 and "gives none" in done.stderr


def test_without_the_plugin_there_is_a_line_that_installs_it(monkeypatch):
  def version(name):
    raise importlib.metadata.PackageNotFoundError(name)
  monkeypatch.setattr(importlib.metadata, "version", version)
  with pytest.raises(errors.ConfigError) as e:
    compiler.prepare(gpus.parse("h100"))
  assert "pip install 'jax[cuda12]==" in str(e.value)
  assert "--topology=h100" in str(e.value)


@pytest.mark.skipif(
    not INSTALLED, reason="JAX's plugin for CUDA is not installed")
def test_two_gpus(tmp_path):
  file = tmp_path / "plan.json"
  done = plan(*SMALL, "--topology=h100:2", f"--json={file}")
  assert done.returncode == 0, done.stderr
  found, = json.loads(file.read_text())["estimates"]
  assert found["chips"] == 2 and found["mesh"]["data"] == 2
  memory = found["memory"]
  assert memory["fits"] and found["time"] is None
  arguments = sum(memory[x] for x in (
      "parameters", "optimizer", "teacher", "task_state", "batch"))
  assert memory["total"] > arguments + memory["activations"] > arguments
  assert found["custom_calls"]["__cublas$lt$matmul"] > 10
  assert found["limit"] == "unknown"
  assert "gives no cycles" in done.stdout and "fits" in done.stdout

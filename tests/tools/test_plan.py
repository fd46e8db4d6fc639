"""The cost of a config, without data, and on a slice that isn't here."""

import dataclasses
import importlib.metadata
import importlib.util
import json

import pytest

from mtvit.configs import cifar10
from mtvit.configs import imagenet
from mtvit import config as config_lib
from mtvit import errors
from mtvit.planning import chips
from mtvit.planning import compiler
from mtvit.run import reading
from mtvit.training import cost
from tests import commands
from tests.planning import libtpu


def flops(module, arg, **changes):
  config = module.get_config(arg)
  config.update_from_flattened_dict(changes)
  config.batch_size = 16
  return cost.flops(config_lib.parse(config))


@pytest.mark.slow
def test_three_tasks_cost_at_most_a_tenth_more_than_one():
  size = {"model.dtype": "float32"}
  one = flops(imagenet, "variant=S/16,strategy=contrastive", **size)
  three = flops(imagenet, "variant=S/16", **size)
  # 32 views of S/16: 3 · 4.6 GMACs each, so the layers have been counted.
  assert 0.8 < one / (32 * 3 * 2 * 4.6e9) < 1.4
  assert 1.0 < three / one <= 1.1


def test_separate_passes_cost_one_pass_for_each_task():
  shared = flops(cifar10, "strategy=patch_level")
  separate = flops(cifar10, "strategy=separate")
  alone = flops(cifar10, "strategy=contrastive")
  assert shared / alone < 1.5
  assert 5 < separate / alone < 9                       # Seven tasks.


def test_the_number_of_layers_that_are_unrolled_does_not_matter():
  config = config_lib.parse(cifar10.get_config())
  rolled = dataclasses.replace(
      config, model=dataclasses.replace(config.model, unroll=1))
  assert cost.flops(rolled) == cost.flops(config)


def test_nothing_counts_twice_that_is_computed_twice():
  config = config_lib.parse(cifar10.get_config())
  less = dataclasses.replace(
      config, accumulate=4,
      model=dataclasses.replace(config.model, remat="full"))
  assert cost.flops(less) == cost.flops(config)


def test_flops_are_those_of_the_products():
  """Against the sizes of the layers, for a task without patches."""
  config = cifar10.get_config("strategy=contrastive,variant=nano/8")
  config.batch_size = 16
  d, m, layers, t, b = 128, 512, 6, 16 + 2, 32     # 16 patches, [CLS] and [CT].
  a_layer = b * t * (4 * d * d + 2 * d * m + 2 * t * d)
  task = config.tasks.contrastive
  widths = [d, *[task.hidden_dim] * task.num_hidden, task.out_dim]
  head = b * sum(x * y for x, y in zip(widths, widths[1:]))
  # Each product forward, and twice backward; the patches' pixels need none.
  known = 2 * 3 * (layers * a_layer + head + b * b * task.out_dim)
  embed = 2 * b * 16 * 8 * 8 * 3 * d
  assert known + embed <= cost.flops(config_lib.parse(config)) <= (
      1.02 * (known + 2 * embed))


def test_command():
  done = plan("--config=configs/cifar10.py:strategy=matched",
              "--config.batch_size=8")
  assert done.returncode == 0, done.stderr
  assert "grid 4x4, 16 patches; 7 forward pass(es) of 16 views" in (
      done.stdout)
  row = next(line for line in done.stdout.splitlines()
             if line.startswith("relative_position"))
  assert row.split() == [
      "relative_position", "train", "relative_position", "0", "2", "0", "1"]
  assert "GFLOPs a step" in done.stdout


def test_impossible_configs_are_refused_with_numbers():
  done = plan("--config=configs/cifar10.py:strategy=patch_level",
              "--config.tasks.colorize.num_patches=9")
  assert done.returncode == 2
  assert ("relative_position + jigsaw + inpaint + colorize need 17 patches; "
          "the 4x4 grid has 16") in done.stderr


@pytest.mark.parametrize("arg", ["strategy=none", "wrong=1"])
def test_a_wrong_argument_is_a_config_error(arg):
  done = plan(f"--config=configs/cifar10.py:{arg}")
  assert done.returncode == 2
  assert "there are" in done.stderr or "did you mean" in done.stderr
  assert len(done.stderr.splitlines()) <= 5


def plan(*args):
  return commands.run("mtvit.tools.plan", *args, timeout=600)


# Eight seconds to compile.
SMALL = ("--config=configs/quickstart.py:strategy=contrastive",
         "--config.model.variant=pico/16", "--config.model.unroll=1",
         "--topology=v5e:2x4", "--views_per_chip=4")


WHOLE = 2587904                                 # Bytes of its parameters.


@libtpu.needed
def test_a_slice(tmp_path):
  file = tmp_path / "plan.json"
  done = plan(*SMALL, f"--json={file}", "--config.mesh.fsdp=2")
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""                    # The compiler's noise is gone.
  assert "grid 3x3" in done.stdout
  assert "data 4 x fsdp 2 x tensor 1" in done.stdout
  assert "estimated by the compiler, not measured" in done.stdout
  saved = json.loads(file.read_text())
  (found,) = saved["estimates"]
  assert saved["note"] == "estimated by the compiler, not measured"
  assert saved["versions"]["libtpu"].startswith("0.")
  assert saved["config"]["model"]["variant"] == "pico/16"
  assert saved["best"] == found
  assert found["settings"]["batch_size"] == 16 and found["views"] == 4
  memory = found["memory"]
  assert memory["fits"]
  parts = memory["parameters"] + memory["optimizer"] + memory["batch"]
  assert parts < memory["total"] < 1.5 * parts + 20e6
  # Half of what each chip has without fsdp; a few small ones are not split.
  assert 0.5 < memory["parameters"] / WHOLE < 0.6
  assert memory["optimizer"] == pytest.approx(
      2 * memory["parameters"], rel=0.01)
  assert found["compiled_flops"] == pytest.approx(
      found["model_flops"], rel=0.1)
  assert found["unknown_loops"] == 0
  assert found["cycles"] > 0 and found["mfu"] < 0.1
  seconds = found["time"]["step"]
  assert found["images_per_second"] == pytest.approx(16 / seconds)
  # Gradients of float32 parameters, and those of the half that is elsewhere.
  assert sum(found["interconnect_bytes"].values()) > memory["parameters"]


@libtpu.needed
def test_a_search_goes_on_where_it_stopped(tmp_path):
  file = tmp_path / "plan.json"
  first = plan(*SMALL, f"--json={file}", "--search")
  assert first.returncode == 0, first.stderr
  (row,) = [x for x in first.stdout.splitlines() if x.startswith("mesh")]
  assert row.startswith("mesh 8x1x1      remat none     4 views a chip: ")
  saved = reading.read_json(file)
  saved["estimates"][0]["images_per_second"] = 123456.0
  file.write_text(json.dumps(reading.sealed(saved)))
  again = plan(*SMALL, f"--json={file}", "--search")
  assert "4 views a chip: 123,456 images/s" in again.stdout


@pytest.mark.parametrize("args, said", [
    (["--topology=v5e:8"], "v5e:2x4"), (["--topology=v7:2x4"], "v5p"),
    (["--search"], "--search needs --topology"),
    (["--json=x"], "--json needs --topology"),
    (["--views_per_chip=4"], "--views_per_chip needs --topology")])
def test_wrong_flags(args, said):
  done = plan("--config=configs/cifar10.py", *args)
  assert done.returncode == 2 and said in done.stderr
  assert len(done.stderr.splitlines()) <= 5


@libtpu.needed
@pytest.mark.parametrize("args, said", [
    (["--topology=v5e:3x3"], "v5e:2x4"),
    (["--topology=v5e:2x4", "--config.mesh.fsdp=3"], "8 devices"),
    (["--topology=v5e:2x4", "--config.batch_size=9"], "batch_size=8 or 12"),
    (["--topology=v5e:1x1", "--views_per_chip=3"], "1.5 images")])
def test_what_does_not_go_together(args, said):
  done = plan("--config=configs/cifar10.py", *args)
  assert done.returncode == 2, done.stderr
  assert said in done.stderr and len(done.stderr.splitlines()) <= 5


def test_without_the_compiler_there_is_a_line_that_installs_it(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(errors.ConfigError) as e:
    compiler.prepare(chips.parse("v5e:2x4"))
  assert f"pip install libtpu=={compiler.VERSION}" in str(e.value)


def test_the_compiler_is_the_one_of_this_jax():
  (wanted,) = {x.partition(";")[0].strip()
               for x in importlib.metadata.requires("jax")
               if x.startswith("libtpu") and 'extra == "tpu"' in x}
  assert compiler.VERSION.startswith(wanted.partition("==")[2].rstrip("*"))

"""Batches in a file: what comes back, and training on them."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import agreement_process
from mtvit.benchmarks import saved_batches
from mtvit.training import assembly
from mtvit.training import cost
from mtvit.training import inputs
from mtvit.training import sharding

from mtvit.configs import quickstart

ROOT = pathlib.Path(__file__).parents[2]


def small(strategy="report"):
  config = quickstart.get_config(f"strategy={strategy}")
  config.update_from_flattened_dict({
      "model.variant": "pico/12", "batch_size": 4, "model.unroll": 1,
      "tasks.colorize.num_patches": 2,
      "tasks.relative_position.num_pairs": 1})
  return config


def one_device():
  return sharding.create_mesh(config_lib.Mesh(data=1), jax.devices()[:1])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """The file, and the parts that it was made of."""
  file = tmp_path_factory.mktemp("saved") / "batch.safetensors"
  configs = [config_lib.parse(small(s)) for s in ("report", "contrastive")]
  saved_batches.write(file, configs, one_device())
  train, _ = inputs.sources(configs[0])
  return file, assembly.create(
      configs[0], one_device(), train, total_steps=2)


def test_a_batch_comes_back_with_what_tasks_have_learnt(saved):
  file, parts = saved
  found = saved_batches.parts(file, parts.config, one_device(), 2)
  want, batch = next(iter(parts.batches)), next(iter(found.batches))
  assert jax.tree.structure(want) == jax.tree.structure(batch)
  jax.tree.map(np.testing.assert_array_equal, want, batch)
  assert found.statistics["colorize"] == parts.statistics["colorize"] != {}
  assert jax.tree.map(
      lambda x: (x.shape, x.dtype), found.batch_shapes()) == jax.tree.map(
          lambda x: (x.shape, x.dtype), parts.batch_shapes())
  assert cost.flops_of(found) == cost.flops(parts.config)


@pytest.mark.parametrize("images", [2, 8])
def test_it_is_cut_or_repeated_to_the_size_of_the_config(saved, images):
  file, parts = saved
  config = dataclasses.replace(parts.config, batch_size=images)
  made = saved_batches.parts(file, config, one_device(), 2)
  found = next(iter(made.batches))
  want = next(iter(parts.batches))["passes"]["shared"]["image"]
  image = found["passes"]["shared"]["image"]
  assert len(image) == 2 * images == len(found["label"])
  for start in range(0, len(image), len(want)):
    np.testing.assert_array_equal(
        image[start:start + len(want)], want[:len(image)])


def test_what_does_not_fit_is_named(saved, tmp_path):
  file, parts = saved
  def refused(file, **changes):
    with pytest.raises(errors.ConfigError) as e:
      saved_batches.parts(
          file, dataclasses.replace(parts.config, **changes), one_device(), 2)
    return str(e.value)
  assert "a multiple" in refused(file, batch_size=6)
  said = refused(file, views=1)
  assert "1x48px" in said and "contrastive 2x48px 12px shared" in said
  other = tmp_path / "x"
  other.write_bytes(b"no such file")
  assert f"--batch={other} can't be read" in refused(other)
  assert "can't be read" in refused(tmp_path / "none")


SCRIPT = """
import json, sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from mtvit.benchmarks import step_process
told, does = step_process.start(json.loads(sys.argv[1]))
print(json.dumps([told, does["step"](), sorted(
    x for x in sys.modules if x.startswith("mtvit.data"))]))
"""


@pytest.mark.slow
def test_training_on_it_needs_no_tensorflow(saved):
  file, _ = saved
  settings = {"config": small("contrastive").to_dict(), "batch": str(file),
              "steps": 3}
  done = subprocess.run(
      [sys.executable, "-c", SCRIPT, json.dumps(settings)], cwd=ROOT,
      capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  told, step, data = json.loads(done.stdout)
  assert step["count"] == 3 and told["flops"] > 1e7
  assert told["device"]["platform"] == "cpu"
  assert told["memory_bytes"] > 1e6
  # What wants TensorFlow is named, and was not asked.
  assert "mtvit.data.pipeline" not in data


def computed(losses, gradients):
  return agreement_process.Computed(
      {"a": losses}, {"a": np.float32(gradients)})


def test_bounds_of_an_accelerator():
  exact, near = computed(2.0, [3, 4]), computed(2.01, [3, 4.1])
  given = {("cpu", "float32"): exact, ("cpu", "bfloat16"): near}

  def compare(found, dtype):
    made = given | {("device", dtype): found}
    return agreement_process.compare(lambda *key: made[key], dtype)["a"]

  found = compare(computed(2.0001, [3, 4.001]), "float32")
  assert found["agrees"]
  assert found["loss"] == pytest.approx(5e-5, rel=1e-3)
  assert found["gradient"] == pytest.approx(2e-4, rel=1e-3)
  assert not compare(computed(2.0003, [3, 4]), "float32")["agrees"]
  assert not compare(computed(2.0, [3, 4.01]), "float32")["agrees"]
  assert not compare(computed(float("nan"), [3, 4]), "float32")["agrees"]
  assert not compare(computed(2.0, [3, float("nan")]), "float32")["agrees"]
  # The CPU's bfloat16 is off by 0.005 and 0.02.
  assert compare(computed(2.02, [3, 4.2]), "bfloat16")["agrees"]
  assert not compare(computed(2.03, [3, 4.2]), "bfloat16")["agrees"]
  assert not compare(computed(2.02, [3, 4.3]), "bfloat16")["agrees"]

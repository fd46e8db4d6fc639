"""Plans: their arithmetic, and as files and text."""

import collections
import dataclasses
import json

import pytest

from mtvit.configs import cifar10
from mtvit import config as config_lib
from mtvit import errors
from mtvit.planning import chips
from mtvit.planning import compiler
from mtvit.planning import estimate
from mtvit.planning import plans
from mtvit.planning import show
from mtvit.planning import totals

SLICE = chips.parse("v5e:2x4")                      # 100 GB/s at its edges.


def made(**changes):
  """A plan with every field."""
  values = dict(
      topology="v5e:2x4", chips=8, mesh=dict(data=8, fsdp=1, tensor=1),
      settings=dict(remat="none"), views=64.0,
      memory=plans.Memory(
          parameters=2.0**30, optimizer=2.0**31, teacher=0.0, task_state=0.0,
          batch=2.0**20, activations=2.0**32, total=7.5 * 2**30,
          capacity=2.0**34, fits=True),
      model_flops=1e12, compiled_flops=2e12,
      interconnect_bytes={"all-reduce": 3e6, "all-gather": 1e6}, cycles=6e6,
      time=plans.Time(cores=0.004, compute=0.001, hbm=0.002,
                      interconnect=0.003, waiting=0.0025, step=0.0065),
      images_per_second=1000.0, mfu=0.25, limit="compute", compile_seconds=9.0)
  return plans.Estimate(**values | changes)


def test_a_step_takes_its_slowest_part_and_its_waiting():
  total = totals.Totals(
      cycles=1.5e9, flops=197e12 / 2, hbm_bytes=819e9 / 4,
      blocking=collections.Counter({"all-reduce": 10e9}),
      overlapped=collections.Counter({"all-gather": 30e9}))
  found = estimate._time(total, SLICE)
  assert found.cores == pytest.approx(1, rel=0.01)
  assert (found.compute, found.hbm) == (0.5, 0.25)
  assert (found.interconnect, found.waiting) == (0.4, 0.1)
  assert found.step == pytest.approx(found.cores + 0.1)
  total.overlapped["all-gather"] = 300e9
  assert estimate._time(total, SLICE).step == pytest.approx(3.1)
  total.hbm_bytes = 5 * 819e9
  assert estimate._time(total, SLICE).step == pytest.approx(5.1)
  alone = dataclasses.replace(total, blocking={}, overlapped={})
  assert estimate._time(alone, chips.parse("v5e:1x1")).waiting == 0


def test_views_of_a_chip_set_the_batch():
  config = config_lib.parse(cifar10.get_config())
  assert estimate.with_views(config, 128, 256).batch_size == 128 * 256 / 2
  with pytest.raises(errors.ConfigError, match="1.5 images of 2 views"):
    estimate.with_views(config, 1, 3)
  with pytest.raises(errors.ConfigError, match="two images or more"):
    estimate.with_views(config, 2, 1)


def test_text_has_every_part():
  text = show.text(made())
  for part in (
      "not measured", "data 8 x fsdp 1 x tensor 1", "parameters 1.00 GiB",
      "optimizer 2.00 GiB", "batch 1.00 MiB", "activations 4.00 GiB",
      "7.50 GiB of 16.00 GiB: fits", "1,000.0 G of the model, 2,000.0 G",
      "4.0 MB: all-gather 1.0, all-reduce 3.0", "6.00 M", "6.50 ms",
      "1,000, 125.0 a chip", "25.0%", "compute"):
    assert part in text, part
  assert "unknown" not in text and "teacher" not in text
  assert "2 loops of unknown length" in show.text(made(unknown_loops=2))


def test_text_of_what_does_not_fit():
  memory = dataclasses.replace(made().memory, fits=False, total=None)
  text = show.text(made(memory=memory, time=None, limit="HBM capacity"))
  assert "more of 16.00 GiB: DOES NOT FIT" in text
  assert "not measured" in text and "HBM capacity" in text
  assert "images/s" not in text


def test_text_of_a_gpu_has_no_time():
  text = show.text(made(
      topology="h100", time=None, limit="unknown", compute=0.0125,
      hbm_bytes=239e9, custom_calls={"__cublas$lt$matmul": 7}))
  assert "7 __cublas$lt$matmul" in text and "peak 12.50 ms" in text
  assert "239 GB" in text
  assert "gives no cycles" in text and "images/s" not in text


def test_plans_come_back_from_their_file(tmp_path, monkeypatch):
  # Versions are of packages that need not be installed.
  monkeypatch.setattr(compiler, "versions", lambda: {"libtpu": "1"})
  found = [made(), made(views=128.0, images_per_second=2000.0), made(
      time=None, memory=dataclasses.replace(made().memory, fits=False))]
  file, config = tmp_path / "plan.json", {"pair": (1, 2), "seed": 0}
  assert show.read(file, config) == []
  show.write(file, config, found)
  assert show.read(file, config) == found
  assert show.read(file, config | {"seed": 1}) == []
  saved = json.loads(file.read_text())
  assert saved["note"] == "estimated by the compiler, not measured"
  assert saved["best"]["views"] == 128
  monkeypatch.setattr(compiler, "versions", lambda: {"libtpu": "2"})
  assert show.read(file, config) == []
  file.write_text("[")
  assert show.read(file, config) == []

"""The search, on machines whose memory and speed are formulas."""

import dataclasses

import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.planning import plans
from mtvit.planning import search
from mtvit.planning import show

GIB = 2**30
REMAT = {"none": (1.0, 1.0), "dots": (0.5, 1.2), "full": (0.1, 1.3)}


def made(trial, a_view, state, says=True):
  """A plan: memory and seconds grow with the views; sharding splits a state."""
  memory, slower = REMAT[trial.remat]
  state /= trial.mesh.fsdp * trial.mesh.tensor
  total = state + trial.views * a_view * memory
  fits = total <= 16 * GIB
  seconds = trial.views * slower * (1 + 0.01 * trial.mesh.fsdp)
  return plans.Estimate(
      topology="v5e:2x4", chips=8, mesh=dataclasses.asdict(trial.mesh),
      settings={"remat": trial.remat}, views=float(trial.views),
      memory=plans.Memory(
          parameters=state, optimizer=0.0, teacher=0.0, task_state=0.0,
          batch=0.0, activations=total - state if fits else None,
          total=total if fits or says else None, capacity=16.0 * GIB,
          fits=fits),
      model_flops=1.0, compile_seconds=1.0,
      images_per_second=8 * trial.views / seconds if fits else None)


def searched(a_view, state=GIB, most=256, **kwargs):
  tried = []
  def run(trial):
    tried.append(trial)
    return made(trial, a_view, state, **kwargs)
  found = list(search.search(8, most, run))
  assert len(found) == len(tried) == len(set(tried))
  tried = [(t.mesh.fsdp, t.remat, t.views) for t in tried if t.mesh.tensor == 1]
  return tried, search.best(found)


def test_what_fits_at_once_needs_no_search():
  tried, best = searched(GIB / 100)
  assert tried == [(1, "none", 256)]
  assert best.views == 256


def test_a_batch_that_does_not_fit_is_halved_to_one_that_may():
  tried, best = searched(GIB / 4)              # 60 views without remat.
  assert tried[:2] == [(1, "none", 256), (1, "none", 32)]
  assert (1, "full", 256) in tried
  # More sharding with as much remat can't be better.
  assert not [t for t in tried if t[0] > 1 and t[1] == "full"]
  assert best.settings["remat"] == "none" and best.mesh["fsdp"] == 1


def test_without_the_compilers_number_every_half_is_tried():
  tried, _ = searched(GIB / 4, says=False)
  assert tried[:4] == [(1, "none", v) for v in (256, 128, 64, 32)]


def test_a_state_that_does_not_fit_is_sharded():
  tried, best = searched(GIB / 32, state=40 * GIB)
  assert tried[:2] == [(1, "none", 256), (4, "none", 256)]
  assert best.mesh["fsdp"] == 4


def test_nothing_fits():
  tried, best = searched(GIB, state=999 * GIB)
  assert best is None
  assert tried == [(1, "none", 256), (4, "none", 256)]


def test_a_mesh_that_can_not_be_is_left_out():
  def run(trial):
    if trial.mesh.fsdp > 1 or trial.mesh.tensor > 1:
      raise errors.ConfigError("can't be split")
    return made(trial, GIB, GIB)
  found = list(search.search(8, 16, run))
  assert {x.mesh["fsdp"] for x in found} == {1}


def test_a_config_that_can_not_be_is_an_error():
  def run(trial):
    raise errors.ConfigError("needs more patches")
  with pytest.raises(errors.ConfigError, match="more patches"):
    list(search.search(8, 16, run))


@pytest.mark.parametrize("chips", [1, 8, 256, 1024])
def test_meshes_use_every_chip_once(chips):
  shapes = [dataclasses.astuple(mesh) for mesh in search.meshes(chips)]
  assert len(set(shapes)) == len(shapes)
  assert all(data * fsdp * tensor == chips for data, fsdp, tensor in shapes)
  assert shapes[0] == (chips, 1, 1)


def test_a_trial_finds_itself_again():
  trial = search.Trial(config_lib.Mesh(data=2, fsdp=4, tensor=1), "dots", 64)
  found = made(trial, GIB / 100, GIB)
  assert trial.made(found)
  for other in (dict(views=32), dict(remat="none"), dict(
      mesh=config_lib.Mesh(data=8, fsdp=1, tensor=1))):
    assert not dataclasses.replace(trial, **other).made(found)


def test_a_line_says_it_all():
  trial = search.Trial(config_lib.Mesh(data=2, fsdp=4, tensor=1), "dots", 64)
  assert "does not fit, needs 65.00 GiB" in show.line(
      made(trial, 2 * GIB, 4 * GIB))
  assert "does not fit" == show.line(
      made(trial, 2 * GIB, GIB, says=False)).split(": ")[1]

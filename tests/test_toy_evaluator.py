"""An evaluator from outside the package, as mtvit/probes/README.md has it."""

import dataclasses
import types

import numpy as np
from PIL import Image
import pytest

from mtvit import errors
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.run import metrics
from mtvit.run import reading
from mtvit.training import evaluation
from mtvit.training import evaluators


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  every: int = 0
  num_test: int = 0


class Shades(evaluation.Evaluator):
  """How large the patch projection is, and of how many images it knows."""

  name = "shades"
  settings = Settings
  at_end = "run"

  def __init__(self, context):
    super().__init__(context)
    self.every = self.section.every

  def run(self, look):
    kernel = np.asarray(look.state.params["encoder"]["embed"]["kernel"])
    labels = look.features("test", self.section.num_test).labels

    def draw(folder):
      file = folder / f"shades_{look.step}.png"
      gray = 255 * (kernel - kernel.min()) / np.ptp(kernel)
      Image.fromarray(gray.astype(np.uint8)).save(file)
      return [file]

    return evaluation.Found(
        {"shades/largest": float(np.abs(kernel).max()),
         "shades/images": len(labels)}, draw)


@pytest.fixture
def listed(monkeypatch):
  monkeypatch.setattr(
      pretrain, "EVALUATORS", (*pretrain.EVALUATORS, Shades))


@pytest.mark.slow
def test_an_evaluator_from_outside_looks_at_a_run(run, listed):
  config = reading.read_json(run / "config.json")
  config["total_steps"], config["checkpoint_every"] = 5, 1
  config["keep_checkpoints"] = 5
  config["evaluators"] = {"shades": {"every": 2, "num_test": 7}}
  result = pretrain.pretrain(config, run, allow_config_change=True)
  lines = {line["step"]: line for line in metrics.read(run / "metrics.jsonl")
           if "shades/largest" in line}
  assert list(lines) == [4, 5]           # Every second, and at the end.
  for step, line in lines.items():
    kernel = loading.load_checkpoint(str(run), step).state[
        "encoder"]["embed"]["kernel"]
    assert line["shades/largest"] == np.abs(kernel).max()
    assert line["shades/images"] == 7
    with Image.open(run / "report" / f"shades_{step}.png") as picture:
      assert picture.size == kernel.shape[::-1]
  assert result["shades/largest"] == lines[5]["shades/largest"]
  assert "knn/accuracy" in lines[5]      # One report of all evaluators.


@pytest.mark.parametrize("sections, message", [
    ({"shade": {}}, r"evaluators\.shade: .*did you mean shades"),
    ({"shades": {"evry": 2}}, r"evaluators\.shades\.evry: no such key")])
def test_a_wrong_section_is_named(sections, message, run, listed):
  config = reading.read_json(run / "config.json")
  config["evaluators"] = sections
  with pytest.raises(errors.ConfigError, match=message):
    pretrain.pretrain(config, run)


def test_a_scalar_needs_the_name_of_its_evaluator():
  class Nameless(evaluation.Evaluator):
    name, at_end = "mean", "run"

    def __init__(self):
      """Needs no run."""

    def run(self, look):
      return evaluation.Found({"largest": 1.0})

  all_of_them = evaluators.Evaluators(
      members=[Nameless()], features=print, writer=None, progress=None,
      stop=None, workdir=None)
  with pytest.raises(ValueError, match="'largest'; call it mean/largest"):
    all_of_them.end(1, types.SimpleNamespace(params={}), None)

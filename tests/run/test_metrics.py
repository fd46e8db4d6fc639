"""What a run writes down."""

import numpy as np
import pytest

from mtvit import errors
from mtvit.probes import run_knn
from mtvit.run import metrics
from mtvit.run import reading
from mtvit.training import evaluators


def test_mean_of_steps():
  step = lambda a, finite, skipped: {
      "a": np.float32(a), "train/finite": np.bool_(finite),
      "train/skipped": np.int32(skipped),
      "train/skipped_in_a_row": np.int32(not finite)}
  got = metrics.mean([step(1, True, 2), step(np.nan, False, 3),
                      step(4, True, 3), step(np.inf, False, 4)])
  assert got == {"a": 2.5, "train/finite": 0.5, "train/skipped": 4,
                 "train/skipped_in_a_row": 1}
  assert "a" not in metrics.mean([step(np.nan, False, 1)])


def test_resuming_drops_later_lines_and_survives_a_torn_one(tmp_path):
  writer = metrics.Writer(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, {"x": float(step)})
  writer.close()
  with open(tmp_path / "metrics.jsonl", "a") as f:
    f.write('{"step": 4, "x"')
  writer = metrics.Writer(tmp_path, 2)
  writer.write(3, {"x": 30.0})
  writer.close()
  assert [(line["step"], line["x"]) for line in metrics.read(
      tmp_path / "metrics.jsonl")] == [
      (1, 1.0), (2, 2.0), (3, 30.0)]


def test_a_folder_made_in_the_place_of_a_runs_gets_no_line(tmp_path):
  folder = tmp_path / "run"
  folder.mkdir()
  lines = metrics.JsonLines(folder / metrics.METRICS, lambda line: True)
  lines.append({"step": 1})
  folder.rename(tmp_path / "elsewhere")
  folder.mkdir()
  with pytest.raises(errors.ConfigError, match="removed, renamed or replaced"):
    lines.append({"step": 2})
  assert not list(folder.iterdir())
  assert metrics.read(tmp_path / "elsewhere" / metrics.METRICS) == [{"step": 1}]


@pytest.mark.parametrize("evaluated, kept", [(True, [2, 2]), (False, [2])])
def test_what_will_be_written_again_is_dropped(evaluated, kept, tmp_path):
  writer = metrics.Writer(tmp_path, 0)
  writer.write(2, {"train/loss": 1.0})
  writer.write(2, {"knn/accuracy": 0.5})
  writer.write(2, {"knn/accuracy": 0.6, "knn/accuracy_random_init": 0.4})
  writer.skipped_steps.append({"step": 1})
  writer.skipped_steps.append({"step": 3})
  writer.close()
  members = [run_knn.Knn.__new__(run_knn.Knn)]    # What it owns needs no run.
  metrics.Writer(tmp_path, 2, evaluators.written_again(
      members, 2, evaluated)).close()
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [x["step"] for x in lines] == kept
  assert not any("knn/accuracy_random_init" in x for x in lines)
  assert metrics.read(tmp_path / "nonfinite.jsonl") == [{"step": 1}]


def test_a_line_after_a_torn_one_is_not_lost(tmp_path):
  lines = metrics.JsonLines(tmp_path / "x.jsonl", lambda line: True)
  lines.append({"step": 1})
  file = tmp_path / "x.jsonl"
  file.unlink()
  file.mkdir()                     # It can't be written to.
  lines.append({"step": 2})
  file.rmdir()
  file.write_text(reading.sealed_line({"step": 1}) + '{"st')
  lines.append({"step": 3})
  assert metrics.read(file) == [{"step": 1}, {"step": 3}]

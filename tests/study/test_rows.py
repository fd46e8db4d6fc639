"""Rows: added whole, read back the same, never twice."""

from concurrent import futures
import fcntl
import json

import pytest

from mtvit import errors
from mtvit.study import rows

ROW = rows.Row(
    arm="report", seed=1, status="done", threads=2, seconds={"train": 1.5},
    versions={"jax": "0.10"}, measures={"knn": 41.5, "layers/x": [0.1, 0.2]})


def failed(attempt):
  return rows.Row(arm="report", seed=0, status="failed", attempt=attempt,
                  reason="killed by signal 9")


def test_rows_come_back_as_they_were(tmp_path):
  file = tmp_path / "study.jsonl"
  assert rows.read(file) == rows.Table()
  for row in (failed(1), failed(2), ROW):
    rows.append(file, row)
  rows.append_cost(file, {"against": "contrastive"})
  table = rows.read(file)
  assert table.rows == (failed(1), failed(2), ROW)
  assert table.costs == ({"against": "contrastive"},)
  assert table.done() == {("report", 1): ROW}
  assert table.failures("report", 0) == [failed(1), failed(2)]
  assert table.failures("report", 1) == [] and table.notes == ()


def test_a_run_has_one_row(tmp_path):
  file = tmp_path / "study.jsonl"
  rows.append(file, ROW)
  with pytest.raises(errors.ConfigError, match="has a row of report, seed 1"):
    rows.append(file, ROW)
  file.write_bytes(2 * file.read_bytes())
  with pytest.raises(errors.ConfigError, match="line 2: a second row of"):
    rows.read(file)


@pytest.mark.parametrize("cut", [1, 20])
def test_a_torn_last_line_is_told_and_replaced(tmp_path, cut):
  file = tmp_path / "study.jsonl"
  rows.append(file, failed(1))
  rows.append(file, ROW)
  file.write_bytes(file.read_bytes()[:-cut])
  table = rows.read(file)
  assert table.rows == (failed(1),) and "cut short" in table.notes[0]
  rows.append(file, ROW)
  assert rows.read(file) == rows.Table((failed(1), ROW))


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"kind": "run", "x": 1}'])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
  file = tmp_path / "study.jsonl"
  file.write_text(line + "\n")
  rows.append(file, ROW.__class__(arm="a", seed=0, status="failed"))
  with pytest.raises(errors.ConfigError, match="line 1, is no row"):
    rows.read(file)


def test_what_is_not_finite_is_null(tmp_path):
  file = tmp_path / "study.jsonl"
  rows.append(file, rows.Row(
      arm="a", seed=0, status="done",
      measures={"knn": float("nan"), "layers": [1.0, float("inf")]}))
  assert rows.read(file).rows[0].measures == {"knn": None, "layers": [1, None]}
  json.loads(file.read_text(), parse_constant=pytest.fail)


def test_a_row_waits_for_who_is_writing(tmp_path):
  file = tmp_path / "study.jsonl"
  with open(file, "ab") as f, futures.ThreadPoolExecutor(1) as pool:
    fcntl.flock(f, fcntl.LOCK_EX)
    added = pool.submit(rows.append, file, ROW)
    with pytest.raises(TimeoutError):
      added.result(timeout=0.5)
    assert not file.read_bytes()
    fcntl.flock(f, fcntl.LOCK_UN)
    added.result(timeout=60)
  assert len(rows.read(file).done()) == 1

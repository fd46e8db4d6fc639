"""Files that are read back: whole, or left out."""

import json
import os
import zlib

import pytest

from mtvit.run import metrics
from mtvit.run import reading

VALUE = {"a": 1, "b": [0.1, {"c": "é\u2028", "d": None}], "e": True, "1": -2e-7}


def saved(tmp_path, text):
  file = tmp_path / "x.json"
  file.write_bytes(text if isinstance(text, bytes) else text.encode())
  return file


def test_what_is_sealed_is_read(tmp_path):
  text = json.dumps(reading.sealed(VALUE), indent=2)
  assert reading.read_json(saved(tmp_path, text)) == VALUE
  # Another layout, and another order of keys, are the same content.
  value = dict(reversed(json.loads(text).items()))
  assert reading.read_json(saved(tmp_path, json.dumps(value))) == VALUE


def test_what_older_versions_wrote_is_read(tmp_path):
  for value in (VALUE, [1, 2], 5, None):
    assert reading.read_json(saved(tmp_path, json.dumps(value))) == value


def test_numbers_that_are_not_finite_become_none(tmp_path):
  value = {"a": float("nan"), "b": [float("inf"), 1.5], 3: -float("inf")}
  want = {"a": None, "b": [None, 1.5], "3": None}
  text = json.dumps(reading.sealed(value))
  assert "NaN" not in text
  assert reading.read_json(saved(tmp_path, text)) == want
  assert reading.read_json(saved(
      tmp_path, '{"a": NaN, "b": [1e999, 1.5], "3": -Infinity}')) == want


def test_every_change_of_a_value_is_found():
  value = {"a": 0.25, "bc": 17}
  text = json.dumps(reading.sealed(value), indent=2).encode()
  changed = [text[:place] + bytes([new]) + text[place + 1:]
             for place in range(len(text)) for new in range(0, 256, 7)]
  cut = [text[:start] + text[end:] for start in range(len(text))
         for end in range(start + 1, len(text) + 1)]
  for data in changed + cut:
    try:
      found = reading.unsealed(data)
    except reading.Unusable:
      continue
    # Of a cut that leaves neither end, some other key may be left.
    assert {key: x for key, x in found.items() if key in value}.items() <= (
        value.items()), data
    assert found == value or len(found) < 2 and len(data) < 60, data


@pytest.mark.parametrize("text, why", [
    (b"", "not JSON"), (b"{", "not JSON"), (b"\xff\xfe", "not JSON"),
    (b"[" * 100_000, "nested"), (b"[" * 30 + b"]" * 30, "nested"),
    (b'{"a":' * 50_000, "nested"), (b"[" + b"[]," * 2**21 + b"[]]", "many"),
    (b"1" * 5000, "not JSON"),
    (b'{"digest": "0"}', "another version"),
    (b'{"format": 2, "digest": 5}', "digest"),
    (b'{"format": 3, "a": 1}', "digest"),
    (b" " * (reading.MOST_JSON + 1), "bytes")])
def test_what_cannot_be_used_says_why(tmp_path, text, why):
  with pytest.raises(reading.Unusable, match=why):
    reading.read_json(saved(tmp_path, text))


def not_files(folder):
  """Names of what is no regular file."""
  os.mkfifo(folder / "fifo")
  (folder / "folder").mkdir()
  (folder / "loop").symlink_to(folder / "loop")
  (folder / "device").symlink_to("/dev/zero")
  return [folder / name for name in ("fifo", "folder", "loop", "device")]


def test_what_is_no_file_is_not_waited_for(tmp_path):
  for file in not_files(tmp_path):
    with pytest.raises(reading.Unusable):
      reading.read_json(file)
    found = reading.read_lines(file)
    assert not found.good and found.why
  with pytest.raises(FileNotFoundError):
    reading.read_json(tmp_path / "nothing")
  with pytest.raises(FileNotFoundError):
    reading.read_json(saved(tmp_path, "1") / "below")
  assert reading.read_lines(tmp_path / "nothing") == reading.Lines([])


def test_lines(tmp_path):
  line = reading.sealed_line({"step": 3, "x": 0.5, "y": [1, 2]})
  body = '{"step": 3, "x": 0.5, "y": [1, 2]'
  assert line == f'{body}, "crc32": {zlib.crc32(body.encode())}}}\n'
  good = {"step": 3, "x": 0.5, "y": [1, 2]}
  text = line + "\n" + line.replace("0.5", "0.6") + line[:-4] + "\n" + line
  found = reading.read_lines(saved(tmp_path, text))
  assert found.good == [good, good] and found.bad == 2
  # Without a checksum: as before, but not between those that have one.
  old = '{"step": 1, "x": 1}\n'
  assert reading.read_lines(
      saved(tmp_path, old + '{"st\n' + old)).good == [{"step": 1, "x": 1}] * 2
  found = reading.read_lines(saved(tmp_path, old + line + old))
  assert found.good == [good] and found.bad == 2


@pytest.mark.parametrize("bad", [
    b"5", b"[]", b'{"a":1}', b"null", b'"step"', b"[" * 5000, b"\xff", b"{",
    b'{"step": 1.5}', b'{"step": true}', b'{"step": -1}', b'{"step": "1"}',
    b'{"step": 1' + b"0" * 30 + b"}", b'{"step": 1, "crc32": "x"}',
    b'{"step": 1, "x": ' + b"[" * 30 + b"]" * 30
    + b"}", b'{"step": 1, "x": "' + b"y" * 2**21 + b'"}', b"\0" * 100])
def test_a_run_goes_on_after_bad_lines(tmp_path, bad, caplog):
  """Lines that once made a run unresumable, or did so by their kind."""
  writer = metrics.Writer(tmp_path, 0)
  writer.write(1, {"x": 0.5})
  writer.skipped_steps.append({"step": 1, "tasks": ["jigsaw"], "examples": [3]})
  writer.close()
  for name in ("metrics.jsonl", "nonfinite.jsonl"):
    file = tmp_path / name
    file.write_bytes(bad + b"\n" + file.read_bytes() + bad)
  writer = metrics.Writer(tmp_path, 1)
  assert caplog.text.count("2 damaged lines of 3, left out") == 2
  writer.write(2, {"x": 0.25})
  writer.close()
  assert metrics.read(tmp_path / "metrics.jsonl") == [
      {"step": 1, "x": 0.5}, {"step": 2, "x": 0.25}]
  assert reading.read_lines(tmp_path / "nonfinite.jsonl").good == [
      {"step": 1, "tasks": ["jigsaw"], "examples": [3]}]
  assert metrics.last_report(tmp_path) == {}


def test_a_run_goes_on_beside_what_is_no_file(tmp_path, caplog):
  for i, file in enumerate(not_files(tmp_path)):
    workdir = tmp_path / f"run{i}"
    workdir.mkdir()
    for name in ("metrics.jsonl", "nonfinite.jsonl"):
      (workdir / name).symlink_to(file)
    writer = metrics.Writer(workdir, 1)
    writer.write(2, {"x": 0.25})
    writer.close()
    assert metrics.read(workdir / "metrics.jsonl") == []
    assert "lacks step 2" in caplog.text
    caplog.clear()


def test_more_than_a_file_may_have_is_let_alone(tmp_path, caplog):
  file = tmp_path / "metrics.jsonl"
  file.write_text('{"step": 1, "x": 1}\n')
  os.truncate(file, reading.MOST_LINES + 9)
  writer = metrics.Writer(tmp_path, 1)
  writer.close()
  assert "the rest is not read" in caplog.text
  assert file.stat().st_size == reading.MOST_LINES + 9

"""The format of the caches: whole, or not used."""

import hashlib
import io
import json
import os
import tracemalloc

import numpy as np
import pytest

from mtvit.data import cache_files
from mtvit.data import container
from mtvit.run import reading

WANTED = {"images": (np.uint8, (3, 2, 2, 3)), "labels": (np.int32, (3,)),
          "x": (np.float32, (2, 0))}


def arrays():
  rng = np.random.default_rng(0)
  return {"images": rng.integers(0, 256, (3, 2, 2, 3), np.uint8),
          "labels": np.arange(3, dtype=np.int32),
          "x": np.zeros((2, 0), np.float32)}


def written(about="key", values=None):
  f = io.BytesIO()
  container.write(f, about, arrays() if values is None else values)
  return f.getvalue()


def read(data, about="key", wanted=WANTED):
  return container.read(io.BytesIO(data), len(data), about, wanted)


def test_what_is_written_is_read():
  got = read(written())
  for name, x in arrays().items():
    assert got[name].dtype == x.dtype
    np.testing.assert_array_equal(got[name], x)
  any_length = read(written(values={"json": np.arange(9, dtype=np.uint8)}),
                    wanted={"json": (np.uint8, [None])})
  assert any_length["json"].tolist() == list(range(9))


def test_the_format_is_as_it_says():
  """By hand, with nothing of the code that writes it."""
  data = written()
  assert data[:16] == b"mtvit arrays 1\n\0"
  assert data[16:48] == hashlib.blake2b(data[48:], digest_size=32).digest()
  assert int.from_bytes(data[48:56], "little") == len(data)
  length = int.from_bytes(data[56:64], "little")
  header = json.loads(data[64:64 + length])
  assert header["arrays"][0] == ["images", "|u1", [3, 2, 2, 3]]
  place = 64 + length
  assert place % 64 == 0
  got = np.frombuffer(data, np.uint8, 36, place).reshape(3, 2, 2, 3)
  np.testing.assert_array_equal(got, arrays()["images"])
  got = np.frombuffer(data, "<i4", 3, place + 64)
  np.testing.assert_array_equal(got, arrays()["labels"])


def test_every_bit_counts():
  data = written()
  for place in range(len(data)):
    for bit in range(8):
      bad = bytearray(data)
      bad[place] ^= 1 << bit
      with pytest.raises(reading.Unusable):
        read(bytes(bad))


def test_every_length_counts():
  data = written()
  for length in range(len(data)):
    with pytest.raises(reading.Unusable):
      read(data[:length])
  for more in (b"\0", b"x" * 64, data):
    with pytest.raises(reading.Unusable):
      read(data + more)


@pytest.mark.parametrize("change", [
    dict(about="another"), dict(wanted=WANTED | {"y": (np.uint8, (1,))}),
    dict(wanted={"labels": WANTED["labels"]}),
    dict(wanted=WANTED | {"labels": (np.float32, (3,))}),
    dict(wanted=WANTED | {"labels": (np.int32, (4,))}),
    dict(wanted=WANTED | {"labels": (np.int32, (3, 1))})])
def test_what_was_not_asked_for_is_not_read(change):
  with pytest.raises(reading.Unusable):
    read(written(), **change)


def forged(header):
  """A file with another header, and the right size and digest."""
  data = written()
  length = int.from_bytes(data[56:64], "little")
  header = header.ljust(-(-len(header) // 64) * 64)
  size = len(data) - length + len(header)
  rest = (size.to_bytes(8, "little") + len(header).to_bytes(8, "little")
          + header + data[64 + length:])
  return data[:16] + hashlib.blake2b(rest, digest_size=32).digest() + rest


@pytest.mark.parametrize("rows", [
    "null", "5", "[]", "[[]]", "{}", '["labels"]', '[["labels", "|O", [3]]]',
    '[["labels", "<i4", [-3]]]', '[["labels", "<i4", [1e999]]]',
    '[["labels", "<i4", [true, 3]]]', '[[["labels"], "<i4", [3]]]',
    '[["labels", ["<i4"], [3]]]', '[["labels", "<i4", [3]]]'])
def test_odd_headers_under_the_right_digest(rows):
  for about in ('"key"', "7"):
    header = f'{{"about": {about}, "arrays": {rows}}}'
    with pytest.raises(reading.Unusable):
      read(forged(header.encode()))
  for header in (b"[" * 5000, b"\xff", b"null", b"", b'{"a":' * 900):
    with pytest.raises(reading.Unusable):
      read(forged(header))


def test_a_claim_takes_no_memory(tmp_path):
  """A sparse file of 64 GB that says it holds that much."""
  file = tmp_path / "key.mtvit"
  count = 2**36
  header = json.dumps({"about": "key", "arrays": [["x", "|u1", [count]]]})
  header = header.encode().ljust(128)
  size = 64 + len(header) + count
  file.write_bytes(
      b"mtvit arrays 1\n\0" + bytes(32) + size.to_bytes(8, "little")
      + len(header).to_bytes(8, "little") + header)
  os.truncate(file, size)
  tracemalloc.start()
  assert cache_files.load(file, {"x": (np.uint8, (9,))}) is None
  os.truncate(file, 4096)
  assert cache_files.load(file, {"x": (np.uint8, (count,))}) is None
  assert tracemalloc.get_traced_memory()[1] < 2**20
  tracemalloc.stop()


def test_other_types_are_not_written():
  with pytest.raises(ValueError, match="float64"):
    written(values={"x": np.zeros(3)})


def test_what_is_no_file_does_not_hang(tmp_path, capsys):
  wanted = {"x": (np.uint8, (1,))}
  assert cache_files.load(tmp_path / "none.mtvit", wanted) is None
  assert not capsys.readouterr().err
  os.mkfifo(tmp_path / "fifo.mtvit")
  (tmp_path / "folder.mtvit").mkdir()
  (tmp_path / "loop.mtvit").symlink_to(tmp_path / "loop.mtvit")
  (tmp_path / "device.mtvit").symlink_to("/dev/zero")
  for name in ("fifo", "folder", "loop", "device"):
    assert cache_files.load(tmp_path / f"{name}.mtvit", wanted) is None
    assert "made anew" in capsys.readouterr().err

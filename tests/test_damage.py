"""Damage to every cache and every file for people: no wrong data, no traceback.

A kind of file is written as the program writes it, damaged in many ways, and
read as the program reads it. What comes back must be what was written, or be
left out.
"""

import collections
import dataclasses
import io
import json
import os
import shutil
import types

from etils import epath
import numpy as np
from PIL import Image
import pytest

from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.data import cache_files
from mtvit.data import held
from mtvit.data import manifest
from mtvit.planning import compiler
from mtvit.planning import show
from mtvit.probes import feature_cache
from mtvit.report import markup
from mtvit.report import runs as runs_lib
from mtvit.run import metrics
from mtvit.run import reading
from mtvit.run import results
from mtvit.training import run_data
from tests.planning import test_estimate
from tests.report import material

KEY = "0123456789abcdef01234567"
LEFT_OUT = object()
CONFIG = {"model": {"variant": "pico/8"}, "data": {}, "tasks": {}, "seed": 3}


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of file.

  Attributes:
    file: its name in a folder of its own.
    write: folder -> None; writes it.
    read: folder -> what the program makes of it, or LEFT_OUT.
    lines: what is read is a list, of which lines may be left out.
    poison: file -> None; right in form, with odd content.
  """
  file: str
  write: object
  read: object
  lines: bool = False
  poison: tuple = ()


def same(a, b):
  """Whether two results are equal, arrays among them."""
  if isinstance(a, np.ndarray):
    return isinstance(b, np.ndarray) and a.dtype == b.dtype and (
        np.array_equal(a, b))
  if isinstance(a, dict):
    return isinstance(b, dict) and a.keys() == b.keys() and all(
        same(a[key], b[key]) for key in a)
  if isinstance(a, list | tuple):
    return isinstance(b, list | tuple) and len(a) == len(b) and all(
        same(x, y) for x, y in zip(a, b))
  return type(a) is type(b) and a == b


def or_left_out(value):
  return LEFT_OUT if value is None or value in ({}, []) else value


# ---- The caches


def random(*shape, kind=np.uint8):
  x = np.random.default_rng(0).integers(0, 256, shape)
  return x.astype(kind)


def poisoned(**arrays):
  return lambda file: cache_files.save(file, arrays)


DECODED = Kind(
    f"{KEY}.mtvit",
    lambda folder: cache_files.save(
        folder / f"{KEY}.mtvit",
        {"images": random(5, 8, 8, 3), "labels": random(5, kind=np.int32)}),
    lambda folder: LEFT_OUT if (found := held._load(
        folder / f"{KEY}.mtvit", (5, 8, 8, 3))) is None else found._asdict(),
    poison=(poisoned(images=random(5, 8, 8, 3)),
            poisoned(images=random(5, 8, 3, 8), labels=random(5)),
            poisoned(images=random(5, 8, 8, 3, kind=np.int32),
                     labels=random(5, kind=np.int32))))


def read_features(folder):
  found = feature_cache._load(
      folder / f"{KEY}.mtvit", ("cls", "gap"), (2, 7, 5))
  return LEFT_OUT if found is None else (found.features, found.labels)


FEATURES = Kind(
    f"{KEY}.mtvit",
    lambda folder: cache_files.save(folder / f"{KEY}.mtvit", {
        "feature_cls": random(2, 7, 5, kind=np.float32),
        "feature_gap": random(2, 7, 5, kind=np.float32) / 7,
        "labels": random(7, kind=np.int32)}),
    read_features, poison=(poisoned(labels=random(7)),))


def as_json(text):
  return poisoned(json=np.frombuffer(text.encode(), np.uint8))


def manifest_text():
  rows = {f"a/{i}\ud800.png": [
      9 + i, 10**18 + i, 8, 8, "tensorflow", "", *EXTRA] for i in range(5)}
  rows["b/x"] = [0, 5, 0, 0, "", "empty file", *EXTRA]
  return json.dumps(
      {"version": manifest.VERSION, "root": "/data", "files": rows})


# Fields that an entry may have beside those of all versions.
EXTRA = list(manifest.Entry._field_defaults.values())
MANIFEST = Kind(
    f"{KEY}.mtvit",
    lambda folder: as_json(manifest_text())(folder / f"{KEY}.mtvit"),
    lambda folder: or_left_out(manifest._load(folder / f"{KEY}.mtvit")),
    poison=tuple(as_json(text) for text in (
        "", "5", "[]", "{}", "[" * 50_000, '{"a":' * 50_000, "NaN",
        manifest_text().replace("8, 8", '8, "8"'),
        manifest_text().replace('"tensorflow"', "null"),
        manifest_text().replace("[9,", "[[],"),
        manifest_text().replace(manifest.VERSION, "0"),
        manifest_text().replace('"files"', '"file"'))))

# ---- What is written for people


def write_lines(name, lines):
  def write(folder):
    written = metrics.JsonLines(folder / name, lambda line: True)
    for line in lines:
      written.append(line)
  return write


def read_lines(name, read):
  def of_folder(folder):
    first = read(folder / name)
    # As a run does that goes on: it keeps what is right, and adds to it.
    again = metrics.JsonLines(folder / name, lambda line: True)
    again.append({"step": 99})
    after = [x for x in read(folder / name) if x["step"] != 99]
    assert after == first or not (folder / name).is_file()
    return first
  return of_folder


def texts(*values):
  return tuple(lambda file, text=text: file.write_bytes(text)
               for text in values)


ODD = texts(
    b"5", b"null", b'"', b"[" * 100_000, b'{"a":' * 100_000,
    b"\xff\xfe\x00", b'{"a": 1}\n' * 99, b'{"format": 2}', b'{"digest": {}}',
    b'{"format": [], "digest": []}',
    b"[" + b"[]," * 2**21 + b"1]", b"1" * 10_000, b"NaN", b"\0" * 5000)
# Of a whole file older versions may have written them.
ODD_LINES = ODD + texts(b"[]", b'{"step": 1e999}')
METRICS = Kind(
    "metrics.jsonl",
    write_lines("metrics.jsonl", [
        {"step": i, "train/loss": 1 / (i + 1), "jigsaw/accuracy": i / 9}
        for i in range(9)]),
    read_lines("metrics.jsonl", metrics.read), lines=True,
    poison=ODD_LINES)
NONFINITE = Kind(
    "nonfinite.jsonl",
    write_lines("nonfinite.jsonl", [
        {"step": i, "tasks": ["jigsaw", "inpaint"], "examples": [i, 9, 1000]}
        for i in range(9)]),
    read_lines("nonfinite.jsonl", lambda file: reading.read_lines(file).good),
    lines=True, poison=ODD_LINES)


def of_run(name, get, value):
  """A JSON file of a run's folder, read as the report does."""
  def write(folder):
    others = {
        "config.json": CONFIG, "result.json": {"knn/accuracy": 0.5, "steps": 4},
        "evaluation/set/evaluation.json": material.evaluation()}
    for other, content in (others | {name: value}).items():
      results.save_sealed(folder / other, content)

  def read(folder):
    run = runs_lib.read(folder, "run")
    found = get(run)
    if not found:
      assert run.left_out or not os.path.lexists(folder / name)
      return LEFT_OUT
    return found

  return Kind(name, write, read, poison=ODD)


JSON = (
    of_run("result.json", lambda run: run.result,
           {"knn/accuracy": 0.451, "steps": 4, "seconds": 130.5,
            "versions": {"jax": "0.10.2"}}),
    of_run("evaluation/set/evaluation.json",
           lambda run: [dict(x.values) for x in run.evaluations],
           material.evaluation()),
    of_run("evaluation/set/evaluation_random_init.json", lambda run: [
        dict(x.random_init) for x in run.evaluations if x.random_init],
           material.evaluation(shift=0.1)),
    of_run("report/cheat_index.json", lambda run: run.cheat, {"rows": [
        {"task": "jigsaw", "position": "keep", "chance": 0.125,
         "blank": "contents", "trained": 0.625, "refitted": 0.875,
         "count": 100}]}))


def plans():
  return [test_estimate.made(chips=8 * i, images_per_second=1000.5 * i)
          for i in (1, 2)]


PLAN = Kind(
    "plan.json", lambda folder: show.write(
        folder / "plan.json", CONFIG, plans()),
    lambda folder: or_left_out([dataclasses.asdict(x) for x in show.read(
        folder / "plan.json", CONFIG)]), poison=ODD)


def read_picture(folder):
  html = markup.picture(folder / "x.png", "what it shows")
  return LEFT_OUT if "is not a picture" in html else str(html)


def write_picture(folder):
  Image.fromarray(random(24, 31, 3)).save(folder / "x.png")


def bomb(file):
  buffer = io.BytesIO()
  Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
  file.write_bytes(buffer.getvalue())


# ---- What a run needs to go on: its files, by their digest in a checkpoint


NAMES = [f"cat/{i}\udcff.png" for i in range(9)]
LIST_DIGEST = fingerprint.of_json(NAMES)


def read_list(folder):
  """The names and, if they are sound, their sizes and times."""
  try:
    began = run_data._began(
        epath.Path(folder), {"classes": ["cat"], "names": LIST_DIGEST})
  except errors.DataError as e:
    assert len(str(e).splitlines()) == 2
    return LEFT_OUT
  stamps = [x for x in began if isinstance(x, np.ndarray)]
  return [list(began.names), *(x.tolist() for x in stamps)]


def other_stamps(*stamps):
  return tuple(lambda file, x=x: file.write_text(json.dumps({
      "names": NAMES, "sizes_and_times": x, "sha256": fingerprint.of_json(x)}))
      for x in stamps)


LIST = Kind(
    f"train_files.{LIST_DIGEST[:16]}.json",
    lambda folder: run_data._keep(
        epath.Path(folder / LIST.file), types.SimpleNamespace(
            names=NAMES, stamps=np.arange(18, dtype=np.int64).reshape(9, 2))),
    read_list, lines=True, poison=ODD_LINES + other_stamps(
        5, {}, [1] * 16, [1] * 17, [2**70] * 18, ["x"] * 18, [{}] * 18))
PICTURE = Kind("x.png", write_picture, read_picture, poison=(bomb,))
KINDS = {"decoded": DECODED, "features": FEATURES, "manifest": MANIFEST,
         "metrics": METRICS, "nonfinite": NONFINITE, "plan": PLAN,
         "picture": PICTURE, "list": LIST} | {kind.file: kind for kind in JSON}

# ---- Damages


def damaged(data, rng):
  """Bytes with one of the damages that disks, programs and people do."""
  data, n = bytearray(data), len(data)
  a, b = sorted(int(x) for x in rng.integers(0, n + 1, 2))
  place = int(rng.integers(n))
  what = int(rng.integers(12))
  if what in (0, 1, 2):              # A bit; of three damages one.
    data[place] ^= 1 << int(rng.integers(8))
  elif what == 3:
    data[place] = int(rng.integers(256))
  elif what == 4:
    data = data[:place]
  elif what == 5:
    data += [b"\0", b"\n", b"x" * 64, bytes(data), rng.bytes(99)][
        int(rng.integers(5))]
  elif what == 6:
    data = data[:a] + data[b:]
  elif what == 7:
    data = data[:b] + data[a:b] + data[b:]
  elif what == 8:
    data[a:b] = bytes(b - a)
  elif what == 9:
    data[a:a + 64] = rng.bytes(len(data[a:a + 64]))
  elif what == 10:                   # A digit, as by an editor.
    digits = [i for i, c in enumerate(data) if 48 <= c < 58]
    if digits:
      data[digits[place % len(digits)]] = 48 + int(rng.integers(10))
  else:
    data[:] = data[a:] + data[:a]
  return bytes(data)


def replace_file(file, what):
  """Puts something else in the place of a file."""
  file.unlink()
  if what == "fifo":
    os.mkfifo(file)
  elif what == "folder":
    file.mkdir()
  elif what == "loop":
    file.symlink_to(file)
  elif what == "device":
    file.symlink_to("/dev/zero")


OTHERS = ("nothing", "fifo", "folder", "loop", "device")


def sweep(kind, folder, count):
  """Damages a file many times; what came of it -> how often."""
  folder.mkdir()
  file = folder / kind.file
  kind.write(folder)
  good, want = file.read_bytes(), kind.read(folder)
  assert want is not LEFT_OUT and len(want)
  rng, found = np.random.default_rng(7), collections.Counter()
  harms = [lambda i=i: file.write_bytes(damaged(good, rng))
           for i in range(count)]
  harms += [lambda: file.write_bytes(b"")]
  harms += [lambda poison=poison: poison(file) for poison in kind.poison]
  harms += [lambda what=what: replace_file(file, what) for what in OTHERS]
  for i, harm in enumerate(harms):
    if file.is_dir() and not file.is_symlink():
      shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.write_bytes(good)
    harm()
    try:
      got = kind.read(folder)
    except Exception as e:
      found["traceback"] += 1
      print(f"{kind.file}, damage {i}: {type(e).__name__}: {e}")
      continue
    if got is LEFT_OUT or kind.lines and got == []:
      found["left out"] += 1
    elif same(got, want):
      found["harmless"] += 1
    elif kind.lines and all(line in want for line in got):
      found["lines left out"] += 1
    else:
      found["wrong"] += 1
      print(f"{kind.file}, damage {i}: wrong")
  return found


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
  monkeypatch.setattr(compiler, "versions", lambda: {"libtpu": "1"})


@pytest.mark.parametrize("name", KINDS)
def test_some_damages(name, tmp_path):
  found = sweep(KINDS[name], tmp_path / "x", 30)
  assert not found["wrong"] and not found["traceback"], found
  assert found["left out"] >= 10


@pytest.mark.slow
def test_thousands_of_damages(tmp_path):
  total = collections.Counter()
  for i, (name, kind) in enumerate(KINDS.items()):
    found = sweep(kind, tmp_path / str(i), 600)
    print(f"{name}: {dict(found)}")
    total += found
  print(f"{sum(total.values())} damages: {dict(total)}")
  assert sum(total.values()) >= 5000
  assert not total["wrong"] and not total["traceback"]


def test_the_sweep_sees_what_is_believed(tmp_path, monkeypatch):
  """Without digests it finds wrong data, so it looks where they could be."""
  monkeypatch.setattr(reading, "_digest", lambda value: "")
  monkeypatch.setattr(
      reading.zlib, "crc32", lambda data: 0)
  assert sweep(KINDS["result.json"], tmp_path / "a", 60)["wrong"]
  assert sweep(KINDS["metrics"], tmp_path / "b", 60)["wrong"]

"""Damaged files of weights: refused, or read as they were.

A safetensors file has no checksum. A bit that flips in its weights makes other
weights, which nothing can see; one in its header must not.
"""

import ast
import io
import json
import random
import shutil
import zipfile

import numpy as np
import pytest

from mtvit import errors
from mtvit import interchange
from mtvit.interchange import exporting
from mtvit.models import variants
from tests.interchange import helpers

FILES = ("model.safetensors", "hf/model.safetensors", "augreg.npz", "mtvit.npz")
JSON = ("timm.json", "hf/config.json", "hf/preprocessor_config.json")
COUNT = 100                      # Damages of each kind and file.
# What a number or a string in JSON is replaced by.
POISON = (
    None, True, -1, 0, 3, 2**31, 2**63, 10**400, 1e400, -1e400, 0.5, "", "a",
    "\x1b[31m", "F16", "I32", "U32", "F64", "BOOL", "gelu", "relu", [], [0],
    [[1]], [2**40], [2**40, 2**40], [-1], {}, {"a": {}}, "x" * 10_000)


@pytest.fixture(scope="module")
def dot(tmp_path_factory):
  """The export of an encoder that is read in no time; and a folder."""
  folder = tmp_path_factory.mktemp("dot")
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(variants.VARIANTS, "dot", dict(
        width=12, depth=2, heads=3, mlp_dim=24))
    exporting.export(
        helpers.encoder("dot/2", 4, ("cls",), "gelu"), folder / "whole")
    yield folder


def work(dot):
  """A copy of the export to damage."""
  shutil.copytree(dot / "whole", dot / "work", dirs_exist_ok=True)
  return dot / "work"


def outcome(path):
  """Parameters by path, or None if the file is refused as it should be."""
  try:
    return helpers.flat(interchange.read(path).params)
  except errors.CheckpointError as e:
    lines = str(e).splitlines()
    assert len(lines) == 2 and all(x.isprintable() for x in lines), str(e)
    assert len(str(e)) < 2000
    return None


def same(one, other):
  return one.keys() == other.keys() and all(
      one[name].tobytes() == other[name].tobytes() for name in one)


def header_end(data):
  return 8 + int.from_bytes(data[:8], "little")


def flipped(data, draw, end):
  place = draw.randrange(end)
  return (data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)])
          + data[place + 1:])


def truncated(data, draw, end):
  return data[:draw.randrange(len(data))]


def overwritten(data, draw, end):
  """Some bytes become others, or those of another place."""
  place, length = draw.randrange(end), draw.randint(1, 16)
  other = draw.randrange(end)
  new = draw.choice([draw.randbytes(length), data[other:other + length],
                     bytes(length), b"\xff" * length])
  return data[:place] + new + data[place + len(new):]


def inserted(data, draw, end):
  place = draw.randrange(end)
  return data[:place] + draw.randbytes(draw.randint(1, 9)) + data[place:]


@pytest.mark.parametrize("damage", [flipped, truncated, overwritten, inserted])
@pytest.mark.parametrize("file", FILES)
def test_damaged_bytes(dot, file, damage):
  path = work(dot) / file
  whole, want = path.read_bytes(), outcome(path)
  # Of a safetensors file only the header tells of itself.
  end = header_end(whole) if file.endswith("safetensors") else len(whole)
  draw, refused = random.Random(f"{file} {damage.__name__}"), 0
  for _ in range(COUNT):
    damaged = damage(whole, draw, end)
    path.write_bytes(damaged)
    found = outcome(path)
    assert found is None or same(found, want), damaged[:end]
    refused += found is None
  assert refused > COUNT / 4


@pytest.mark.parametrize("file", FILES[:2])
def test_poisoned_safetensors(dot, file):
  """One value of the header becomes another; its JSON is sound."""
  path = work(dot) / file
  whole, want = path.read_bytes(), outcome(path)
  end, draw = header_end(whole), random.Random(file)
  header = json.loads(whole[8:end])
  for _ in range(COUNT):
    poisoned = json.loads(json.dumps(header))
    name = draw.choice(sorted(poisoned.keys() - {"__metadata__"}))
    key = draw.choice(("dtype", "shape", "data_offsets", "name"))
    if key == "name":
      poisoned[draw.choice(["", "a" * 300, "\x1b[31m", "norm.bias", name])] = (
          poisoned.pop(name))
    elif key == "dtype" or draw.random() < 0.5:
      poisoned[name][key] = draw.choice(POISON)
    else:
      values = poisoned[name][key]
      values[draw.randrange(len(values))] = draw.choice(POISON)
    text = json.dumps(poisoned).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[end:])
    found = outcome(path)
    assert found is None or same(found, want), poisoned[name]


@pytest.mark.parametrize("file", FILES[2:])
def test_poisoned_npz(dot, file):
  """One array's own header becomes another; all checksums are right."""
  path = work(dot) / file
  want, draw = outcome(path), random.Random(file)
  with zipfile.ZipFile(path) as read:
    members = {name: read.read(name) for name in read.namelist()}
  for _ in range(COUNT):
    name = draw.choice(sorted(members))
    data = members[name]
    length = 10 + int.from_bytes(data[8:10], "little")
    told = ast.literal_eval(data[10:length].decode())
    key = draw.choice(sorted(told))
    told[key] = draw.choice([
        x for x in (*POISON, "<i4", "<f2", ">i4", "|O", "<U3", "<V2", (), (3,),
                    (2**40,), (2**40, 2**40), (-1,)) if x != told[key]])
    text = draw.choice([
        repr(told), repr(told) + "#", json.dumps(told, default=str)])
    header = io.BytesIO()
    header.write(b"\x93NUMPY" + draw.choice([b"\1\0", b"\2\0", b"\3\0"]))
    header.write(len(text).to_bytes(4 if header.getvalue()[6] > 1 else 2,
                                    "little") + text.encode())
    with zipfile.ZipFile(path, "w") as out:
      for other, content in members.items():
        out.writestr(other, header.getvalue() + data[length:]
                     if other == name else content)
    found = outcome(path)
    # An array in the other order is as good a file, which nothing can see.
    assert (found is None or told["fortran_order"] is True
            or same(found, want)), text


@pytest.mark.parametrize("file", JSON)
def test_poisoned_descriptions(dot, file):
  """The JSON beside a file; what it says may change the model, or be wrong."""
  folder = work(dot)
  told = json.loads((folder / file).read_text())
  weights = folder / ("hf" if "hf/" in file else "") / "model.safetensors"
  draw = random.Random(file)
  for _ in range(COUNT):
    value = json.loads(json.dumps(told))
    place = value
    while True:
      key = draw.choice(
          sorted(place) if isinstance(place, dict) else range(len(place)))
      inner = place[key]
      if not isinstance(inner, dict | list) or not inner or draw.random() < 0.3:
        break
      place = inner
    place[key] = draw.choice(POISON)
    (folder / file).write_text(json.dumps(value))
    found = outcome(weights)
    assert found is None or all(np.isfinite(x).all() for x in found.values())


def test_damaged_weights_change_no_others(dot):
  """Where a flip can't be seen, it stays in its own array."""
  path = work(dot) / "model.safetensors"
  whole, want, draw = path.read_bytes(), outcome(path), random.Random(0)
  for _ in range(COUNT):
    place = draw.randrange(header_end(whole), len(whole))
    path.write_bytes(
        whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
    found = outcome(path)
    assert sum((found[name] != x).sum() for name, x in want.items()) == 1

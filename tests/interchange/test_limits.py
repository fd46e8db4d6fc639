"""What a stranger's file claims costs neither memory nor time."""

import json
import math
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from mtvit import errors
from mtvit import interchange
from mtvit.interchange import naming
from mtvit.interchange import tensors
from tests.interchange import helpers

MEGABYTE = 2**20


def npy(shape, descr="<f4"):
  """The header of an array as NumPy writes it."""
  text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
  text += " " * (-(len(text) + 11) % 64) + "\n"
  return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zeros(count):
  """A deflated stream of zeros, count megabytes, made of one piece."""
  packer = zlib.compressobj(9, zlib.DEFLATED, -15)
  piece = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
  return piece * count + packer.flush()


def member(name, size, data):
  """A deflated file in a zip, of a claimed size: what stands at both places."""
  # Nobody gets to the end of the large ones, to compare their checksum.
  crc = zlib.crc32(zlib.decompress(data, -15)) if size < 9 * MEGABYTE else 0
  fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(data), size,
                       len(name), 0)
  local = b"PK\3\4" + fields + name
  return local + data, fields


def zipped(path, members):
  """Writes a zip file by hand: [(name, size, deflated data)]."""
  body, table = bytearray(), bytearray()
  for name, size, data in members:
    part, fields = member(name.encode(), size, data)
    table += (b"PK\1\2\x14\0" + fields + struct.pack(
        "<HHHII", 0, 0, 0, 0, len(body)) + name.encode())
    body += part
  count = min(len(members), 2**16 - 1)
  path.write_bytes(body + table + b"PK\5\6" + struct.pack(
      "<HHHHIIH", 0, 0, count, count, len(table), len(body), 0))
  return path


def deflated(data):
  packer = zlib.compressobj(9, zlib.DEFLATED, -15)
  return packer.compress(data) + packer.flush()


def described(image_size, variant="pico/8"):
  text = np.array(json.dumps(dict(
      format_version=1, tokens=["cls"], gray=False, model=dict(
          variant=variant, image_size=image_size, activation="gelu"))))
  data = npy("()", text.dtype.str) + text.tobytes()
  return "mtvit.npy", len(data), deflated(data)


def large_table(folder):
  """3 GB of zero positions in 3 MB, with the description to match."""
  side = 22_400                  # 2800 x 2800 patches of 96 floats.
  header = npy(f"({(side // 8)**2}, 96)")
  packer = zlib.compressobj(9, zlib.DEFLATED, -15)
  data = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
  size = len(header) + (side // 8)**2 * 96 * 4
  others = [(name, npy(shape) + bytes(4 * math.prod(shape))) for name, shape in
            naming.shapes("pico/8", 1, ("cls",)).items() if name != "position"]
  path = zipped(folder / "mtvit.npz", [
      described(side), ("position.npy", size, data + zeros(size // MEGABYTE)),
      *((f"{name}.npy", len(x), deflated(x)) for name, x in others)])
  assert path.stat().st_size < 4 * MEGABYTE
  return path, "bytes of arrays in a file of"


def long_array_header(folder):
  """An array's header of 60 MB, which numpy would read whole."""
  start = b"\x93NUMPY\x02\x00" + struct.pack("<I", 60 * MEGABYTE)
  packer = zlib.compressobj(9, zlib.DEFLATED, -15)
  data = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
  return zipped(folder / "a.npz", [
      ("embedding/kernel.npy", 60 * MEGABYTE, data + zeros(60))
  ]), "bytes of its header"


def million_in_zip(folder):
  """A table of contents of a million empty arrays."""
  record = b"PK\1\2\x14\0" + struct.pack(
      "<HHHHHIIIHH", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + struct.pack(
          "<HHHII", 0, 0, 0, 0, 0) + b"a"
  table = record * 1_000_000
  path = folder / "a.npz"
  path.write_bytes(table + b"PK\5\6" + struct.pack(
      "<HHHHIIH", 0, 0, 2**16 - 1, 2**16 - 1, len(table), 0, 0))
  return path, "bytes of its table of contents"


def thousands_in_zip(folder):
  """More arrays than are believed, in a table that is not too long."""
  return zipped(folder / "a.npz", [
      (f"{i}.npy", 0, b"\3\0") for i in range(tensors.MAX_TENSORS + 1)
  ]), "arrays in it"


def long_name_in_zip(folder):
  return zipped(folder / "a.npz", [("a" * 60_000, 0, b"\3\0")]), "letters of"


def headed(path, text):
  path.write_bytes(len(text).to_bytes(8, "little") + text)
  return path


def million_in_safetensors(folder):
  entry = b'"aaaa":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
  return headed(folder / "a.safetensors", b"{" + entry * 1_000_000 + b"}"), (
      "bytes of its header")


def thousands_in_safetensors(folder):
  entries = {str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
             for i in range(tensors.MAX_TENSORS + 1)}
  return headed(folder / "a.safetensors", json.dumps(entries).encode()), (
      "arrays in it")


def no_header(folder):
  return headed(folder / "a.safetensors", b" " * (89 * MEGABYTE)), (
      "bytes of its header")


BOMBS = (large_table, long_array_header, million_in_zip, thousands_in_zip,
         long_name_in_zip, million_in_safetensors, thousands_in_safetensors,
         no_header)


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_take_little_memory(tmp_path, bomb):
  path, words = bomb(tmp_path)
  tracemalloc.start()            # Of Python and NumPy, not of safetensors.
  try:
    helpers.refused(path, str(path), words)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 20 * MEGABYTE, f"{peak / MEGABYTE:.0f} MB"


@pytest.mark.slow
def test_bombs_take_little_memory_of_the_process(tmp_path):
  paths = []
  for bomb in BOMBS:
    (tmp_path / bomb.__name__).mkdir()
    paths.append(str(bomb(tmp_path / bomb.__name__)[0]))
  code = """if True:
      import resource, sys
      from mtvit import errors, interchange
      peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
      before = peak()
      for path in sys.argv[1:]:
        try:
          interchange.read(path)
        except errors.CheckpointError:
          print(path, peak() - before)
      """
  done = subprocess.run([sys.executable, "-c", code, *paths], timeout=300,
                        capture_output=True, text=True, check=True)
  used = [int(line.split()[-1]) for line in done.stdout.splitlines()]
  assert len(used) == len(BOMBS) and max(used) < 60, done.stdout


def test_compression_of_weights_is_read(plain):
  encoder, folder, _ = plain
  for name in ("mtvit.npz", "augreg.npz"):
    with np.load(folder / name, allow_pickle=False) as file:
      arrays = dict(file)
    np.savez_compressed(folder / f"packed_{name}", **arrays)
    helpers.assert_same(
        interchange.read(folder / f"packed_{name}").params, encoder.params)


@pytest.mark.parametrize("image_size, variant, words", [
    (8192, "pico/64", "image_size is 8192; at most 4096"),
    (4096, "pico/16", "number of patches is 65536; at most 16384"),
    (1024, "pico/512", "patch side of model.variant is 512; at most 256"),
    (10**30, "pico/8", "at most 4096"), (0, "pico/8", "multiple"),
    (-8, "pico/8", "multiple"), (32, "pico/" + "9" * 4500, "NAME/PATCH"),
    (32, "pico/\u00b2", "NAME/PATCH")])
def test_sizes_in_a_description_are_limited(tmp_path, image_size, variant,
                                            words):
  path = zipped(tmp_path / "mtvit.npz", [described(image_size, variant)])
  helpers.refused(path, words)


def test_sizes_of_tables_are_limited(plain):
  _, folder, arrays = plain
  arrays["pos_embed"] = np.zeros((1, 1 + 129**2, 96), np.float32)
  helpers.refused(helpers.saved(folder, arrays), "16641; at most 16384")
  arrays["pos_embed"] = np.zeros((1, 5, 96), np.float32)
  arrays["reg_token"] = np.zeros((1, 100, 96), np.float32)
  helpers.refused(helpers.saved(folder, arrays), "100 registers; at most 63")
  del arrays["reg_token"]
  arrays["patch_embed.proj.weight"] = np.zeros((96, 3, 300, 300), np.float16)
  helpers.refused(helpers.saved(folder, arrays), "is 300; at most 256")


@pytest.mark.parametrize("descr, shape", [
    ("<f4", "(-1, -4)"), ("<f4", "(True,)"), ("<f4", "(1e3,)"),
    ("<f4", "(" + "9" * 5000 + ",)"), ("<f4", "(" * 2000 + ")" * 2000),
    ("<f4", "(1,) + (2,)"), ("<f4", "__import__('os')"), ("|O", "(1,)"),
    ("<f999999999", "(1,)"), ("<V9999999999", "(1,)"), ("<M8[ns]", "(1,)")])
def test_headers_that_numpy_does_not_write_are_refused(
    tmp_path, descr, shape):
  data = npy(shape, descr) + bytes(8)
  helpers.refused(zipped(tmp_path / "a.npz", [
      ("embedding/kernel.npy", len(data), deflated(data))]),
      "embedding/kernel can't be read")


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x00b"])
def test_names_that_rule_a_terminal_are_refused(tmp_path, name):
  header = json.dumps({name: {
      "dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
  for path in (headed(tmp_path / "a.safetensors", header),
               zipped(tmp_path / "b.npz", [(name + ".npy", 0, b"\3\0")])):
    with pytest.raises(errors.CheckpointError) as e:
      interchange.read(path)
    lines = str(e.value).splitlines()
    assert len(lines) == 2 and all(line.isprintable() for line in lines)


def test_long_descriptions_are_not_read(plain):
  _, folder, _ = plain
  (folder / "timm.json").write_text(" " * 2_000_000)
  helpers.refused(
      folder / "model.safetensors", "timm.json", "more than 1,048,576")

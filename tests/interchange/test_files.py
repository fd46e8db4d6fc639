"""Files that are damaged, or claim what they are not, are refused unharmed."""

import io
import json
import zipfile

import numpy as np
import pytest

from tests.interchange import helpers

D = 96                           # pico.


@pytest.mark.parametrize("name", ["model.pth", "model.bin", "model.pt"])
def test_pickles_are_refused_unread(tmp_path, name):
  (tmp_path / name).write_bytes(b"\x80\x04.")
  helpers.refused(tmp_path / name, "pickle", "save_file")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
@pytest.mark.parametrize("name", ["model.safetensors", "augreg.npz"])
def test_truncated_files_are_refused(plain, name, keep):
  _, folder, _ = plain
  path = folder / name
  path.write_bytes(path.read_bytes()[:keep])
  helpers.refused(path, "can't be read", name)


def test_a_safetensors_header_that_lies_is_refused(tmp_path):
  header = json.dumps({"cls_token": {
      "dtype": "F32", "shape": [1, 1, 2**40], "data_offsets": [0, 2**42]}})
  path = tmp_path / "huge.safetensors"
  path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
  helpers.refused(path, "can't be read")
  path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
  helpers.refused(path, "can't be read")


def test_an_npz_that_claims_more_than_it_has_is_refused(plain):
  _, folder, _ = plain
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, dict(
      descr="<f4", fortran_order=False, shape=(2**18, 2**18)))
  path = folder / "huge.npz"
  with zipfile.ZipFile(path, "w") as file:
    file.writestr("embedding/kernel.npy", header.getvalue())
  helpers.refused(path, "claims 274877906944 bytes, and has 0")


def test_objects_are_refused_unread(tmp_path):
  path = tmp_path / "objects.npz"
  np.savez(path, **{"embedding/kernel": np.array([{"a": print}], object)})
  helpers.refused(path, "Python objects")


def test_a_type_that_is_no_weight_is_refused(plain):
  _, folder, arrays = plain
  arrays["norm.bias"] = np.ones(D, np.int32)
  helpers.refused(helpers.saved(folder, arrays), "norm.bias", "I32")
  with np.load(folder / "augreg.npz", allow_pickle=False) as file:
    arrays = dict(file)
  arrays["Transformer/encoder_norm/bias"] = np.ones(D, np.int32)
  helpers.refused(
      helpers.saved(folder, arrays, "ints.npz"),
      "encoder_norm/bias", "int32")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(plain, value):
  _, folder, arrays = plain
  arrays["blocks.1.mlp.fc1.weight"][3, 4] = value
  helpers.refused(
      helpers.saved(folder, arrays),
      "blocks.1.mlp.fc1.weight", "not finite")

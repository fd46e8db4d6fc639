"""Files of weights: safetensors and npz, read with care and written whole.

What a file claims of itself is checked before memory is taken for it, and
nothing in it is ever executed: torch's own files are pickles, and are refused.
"""

import math
import os
import pathlib
import socket
from typing import Any, BinaryIO, Callable, Mapping, NamedTuple
import zipfile
import zlib

import numpy as np
import safetensors
import safetensors.numpy

from mtvit import errors

TEXT = "mtvit"                     # The only array that may be text.
MAX_TEXT = 2**22                   # Bytes of it; four for a letter.
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_DTYPES = {"F64", "F32", "F16", "BF16"}       # safetensors' names.
_BROKEN = (
    OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError,
    NotImplementedError, zipfile.BadZipFile, zlib.error,
    safetensors.SafetensorError)


class Tensor(NamedTuple):
  """An array in a file.

  Attributes:
    shape: of it.
    read: gives it, as it is in the file.
  """
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


def tensors(path: pathlib.Path) -> dict[str, Tensor]:
  """The arrays in a .safetensors or .npz file, by name; none is read yet.

  Raises:
    CheckpointError: there is no such file, it is damaged, or of another kind.
  """
  if path.suffix in PICKLES:
    raise errors.CheckpointError(
        f"{path} is a pickle, which can run any code when it is read",
        "where you trust it: safetensors.torch.save_file(torch.load(FILE, "
        "weights_only=True), 'model.safetensors')")
  opened = {".safetensors": _safetensors, ".npz": _npz}.get(path.suffix)
  if opened is None:
    raise errors.CheckpointError(
        f"{path} is no file of weights", "a .safetensors or an .npz file")
  if not path.is_file():
    raise errors.CheckpointError(f"there is no file {path}")
  return _checked(lambda: opened(path), path)


def _checked(work: Callable[[], Any], path: pathlib.Path) -> Any:
  """Calls `work`; what a damaged file makes it raise is a CheckpointError."""
  try:
    return work()
  except _BROKEN as e:
    why = " ".join(str(e).split())[:200] or type(e).__name__
    raise errors.CheckpointError(
        f"{path} can't be read: {why}", "get the file again") from e


def _safetensors(path: pathlib.Path) -> dict[str, Tensor]:
  # The library compares the header with the length of the file.
  with safetensors.safe_open(path, framework="numpy") as file:
    names = list(file.keys())
    parts = {name: file.get_slice(name) for name in names}
    found = {name: (tuple(part.get_shape()), part.get_dtype())
             for name, part in parts.items()}

  def reader(name):
    def read():
      with safetensors.safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)
    return lambda: _float(_checked(read, path), f"{path}: {name}")

  for name, (_, dtype) in found.items():
    if dtype not in _DTYPES:
      raise errors.CheckpointError(
          f"{path}: {name} is of type {dtype}", "weights in floating point")
  return {name: Tensor(shape, reader(name))
          for name, (shape, _) in found.items()}


def _npz(path: pathlib.Path) -> dict[str, Tensor]:
  with zipfile.ZipFile(path) as file:
    found = {info.filename.removesuffix(".npy"): _npy_shape(file, info)
             for info in file.infolist()}

  def reader(name):
    def read():
      with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as f:
        return np.lib.format.read_array(f, allow_pickle=False)
    text = name == TEXT
    return lambda: _checked(read, path) if text else _float(
        _checked(read, path), f"{path}: {name}")

  return {name: Tensor(shape, reader(name)) for name, shape in found.items()}


def _npy_shape(
    file: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[int, ...]:
  """The shape in an array's header; ValueError if it has not that many bytes.

  NumPy takes the memory before it sees that the bytes are not there.
  """
  with file.open(info) as f:
    version = np.lib.format.read_magic(f)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, dtype = read(f)
    if dtype.hasobject:
      raise ValueError(f"{info.filename} holds Python objects")
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind == "U" and size > MAX_TEXT:
      raise ValueError(f"{info.filename} has {size} bytes of text")
    if f.tell() + size != info.file_size:
      raise ValueError(
          f"{info.filename} claims {size} bytes, and has "
          f"{info.file_size - f.tell()}")
  return shape


def _float(x: np.ndarray, what: str) -> np.ndarray:
  """Floating point as float32, checked for nan and infinity."""
  if x.dtype == np.dtype("V2"):                           # big_vision's npz.
    x = (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
  if x.dtype.kind != "f" and x.dtype.name != "bfloat16":
    raise errors.CheckpointError(
        f"{what} is of type {x.dtype}", "weights in floating point")
  x = x.astype(np.float32)
  if not np.isfinite(x).all():
    raise errors.CheckpointError(f"{what} has values that are not finite")
  return x


def write(path: pathlib.Path, fill: Callable[[BinaryIO], Any]) -> None:
  """Replaces a file by what `fill` writes, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(
      f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
  try:
    with open(part, "wb") as f:
      fill(f)
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def write_safetensors(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes arrays by name; transformers wants the format named as torch's."""
  data = safetensors.numpy.save(
      {name: np.ascontiguousarray(x) for name, x in arrays.items()},
      metadata={"format": "pt"})
  write(path, lambda f: f.write(data))


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name, uncompressed."""
  write(path, lambda f: np.savez(f, **arrays))

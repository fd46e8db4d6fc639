"""Reads npz files without trust: nothing is executed, memory is bounded.

`numpy.load` takes a file's word for sizes, and hands headers to Python's
parser. Here the table of contents, the compression and every header are checked
first; a header must look as NumPy writes it. Checksums of the zip format then
tell of any damage to an array.
"""

import contextlib
import io
import math
import os
import pathlib
import re
from typing import IO, Literal, NamedTuple
import zipfile

import numpy as np

from mtvit.interchange import tensors

_PIECE = 2**20                     # Bytes read at a time.
_MAX_NPY_HEADER = 10_000           # Bytes, as NumPy's own limit.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,9})', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, \d{1,18}){0,31},?)?)\),? ?\}\s*")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Bounded(io.FileIO):
  """A file of which no large piece is read at once.

  zipfile reads the table of contents as one piece, of the size that the file
  claims.
  """

  def read(self, size: int | None = -1) -> bytes:
    if size is not None and size > max(_PIECE, tensors.MAX_HEADER):
      raise tensors.Unbelievable(
          "bytes of its table of contents", size, tensors.MAX_HEADER)
    return super().read(-1 if size is None else size)


class _Header(NamedTuple):
  """An array's own header."""
  dtype: np.dtype
  order: Literal["C", "F"]
  shape: tuple[int, ...]
  length: int


def opened(
    path: pathlib.Path, stack: contextlib.ExitStack
) -> dict[str, tensors.Tensor]:
  """The arrays in an npz file by name; none is read yet.

  Args:
    path: of the file.
    stack: closes the file.

  Raises:
    Exception: whatever damage leads to.
  """
  raw = stack.enter_context(_Bounded(path))
  file = stack.enter_context(zipfile.ZipFile(raw))
  infos = file.infolist()
  tensors.check_names(info.filename for info in infos)
  if any(info.compress_type not in _METHODS for info in infos):
    raise ValueError("its compression is not that of numpy.savez_compressed")
  total, size = sum(info.file_size for info in infos), os.path.getsize(path)
  limit = tensors.MAX_RATIO * size + tensors.SLACK
  if total > limit:
    raise tensors.Unbelievable(
        f"bytes of arrays in a file of {size:,}", total, limit,
        "numpy.savez, which does not compress, where you trust the file")
  return {info.filename.removesuffix(".npy"): _tensor(path, file, info)
          for info in infos}


def _tensor(
    path: pathlib.Path, file: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tensors.Tensor:
  what = f"{path}: {info.filename.removesuffix('.npy')}"
  with tensors.guard(what), file.open(info) as f:
    header = _header(f)
    size = math.prod(header.shape) * header.dtype.itemsize
    if header.dtype.kind == "U" and size > tensors.MAX_TEXT:
      raise tensors.Unbelievable("bytes of text", size, tensors.MAX_TEXT)
    if header.length + size != info.file_size:
      raise ValueError(
          f"it claims {size} bytes, and has {info.file_size - header.length}")
  floating = header.dtype.kind == "f" or header.dtype == np.dtype("V2")

  def read():
    with tensors.guard(what), file.open(info) as f:
      x = _content(f, header, size)
    return tensors.to_float32(x, what) if floating else x

  return tensors.Tensor(header.shape, str(header.dtype), floating, read)


def _header(f: IO[bytes]) -> _Header:
  """Reads and checks what stands before an array; ValueError if it can't be."""
  start = f.read(8)
  width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(start)
  if width is None:
    raise ValueError(f"it begins with {start!r}, unlike an array of NumPy")
  length = int.from_bytes(f.read(width), "little")
  if length > _MAX_NPY_HEADER:
    raise tensors.Unbelievable("bytes of its header", length, _MAX_NPY_HEADER)
  text = f.read(length)
  found = _HEADER.fullmatch(text)
  if not found:
    raise ValueError(f"its header is {text[:80]!r}")
  descr, fortran, shape = found.groups()
  dtype = np.dtype(descr.decode())
  if dtype.hasobject:
    raise ValueError("it holds Python objects")
  return _Header(
      dtype, "F" if fortran == b"True" else "C",
      tuple(int(x) for x in re.findall(rb"\d+", shape)), 8 + width + length)


def _content(
    f: IO[bytes], header: _Header, size: int
) -> np.ndarray:
  """The array; its checksum is compared when its last byte has been read."""
  f.read(header.length)
  data = bytearray(size)
  for start in range(0, size, _PIECE):
    piece = f.read(min(_PIECE, size - start))
    data[start:start + len(piece)] = piece
    if len(data) != size:
      raise ValueError("it is shorter than it claims")
  if f.read(1):
    raise ValueError("it is longer than it claims")
  x = np.frombuffer(data, header.dtype, math.prod(header.shape))
  return x.reshape(header.shape, order=header.order)

"""Files of weights: safetensors and npz, read with care and written whole.

Nothing in a file is ever executed: torch's own files are pickles, and are
refused. A safetensors file has no checksum: bytes of a weight that were damaged
are just another weight. What `npz` reads has.
"""

import contextlib
import pathlib
from typing import Iterator, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from mtvit import errors
from mtvit.interchange import npz
from mtvit.interchange import tensors
from mtvit.run import files as writing

MARK = "export.json"               # The last file of an export.
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_FLOATS = ("F64", "F32", "F16", "BF16")       # safetensors' names.


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[dict[str, tensors.Tensor]]:
  """The arrays in a .safetensors or .npz file, by name, while it is open.

  Raises:
    CheckpointError: there is no such file, it is damaged, or of another kind.
  """
  if path.suffix in PICKLES:
    raise errors.CheckpointError(
        f"{path} is a pickle, which can run any code when it is read",
        "x = torch.load(FILE, weights_only=True), then safetensors.torch."
        "save_file(x, 'model.safetensors'); of x['model'] or the like where "
        "the arrays lie deeper")
  opener = {".safetensors": _safetensors, ".npz": npz.opened}.get(path.suffix)
  if opener is None:
    raise errors.CheckpointError(
        f"{path} is no file of weights", "a .safetensors or an .npz file")
  if not path.is_file():
    raise errors.CheckpointError(f"there is no file {path}")
  with contextlib.ExitStack() as stack:
    with tensors.guard(path):
      found = opener(path, stack)
    yield found


def _safetensors(
    path: pathlib.Path, stack: contextlib.ExitStack
) -> dict[str, tensors.Tensor]:
  """The arrays of a safetensors file; raises whatever damage leads to."""
  with open(path, "rb") as f:
    size = int.from_bytes(f.read(8), "little")
  if size > tensors.MAX_HEADER:
    raise tensors.Unbelievable("bytes of its header", size, tensors.MAX_HEADER)
  # The library compares the header with the length of the file.
  file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
  names = list(file.keys())
  tensors.check_names(names)

  def tensor(name):
    part = file.get_slice(name)
    dtype = str(part.get_dtype())

    def read():
      with tensors.guard(f"{path}: {name}"):
        x = file.get_tensor(name)
      return tensors.to_float32(x, f"{path}: {name}")

    return tensors.Tensor(
        tuple(part.get_shape()), dtype, dtype in _FLOATS, read)

  return {name: tensor(name) for name in names}


def write_safetensors(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray]
) -> None:
  """Writes arrays by name; transformers wants the format named as torch's."""
  data = safetensors.numpy.save(
      {name: np.ascontiguousarray(x) for name, x in arrays.items()},
      metadata={"format": "pt"})
  writing.write(path, data)


def write_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays by name, uncompressed."""
  writing.write(path, lambda f: np.savez(f, **arrays))  # type: ignore[arg-type]

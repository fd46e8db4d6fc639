"""Files of the cache: written whole or not at all, by several processes.

A file that is damaged, of another version or no file is made anew; one that
can't be written costs time, not the run. Both are notes.
"""

import json
import os
import pathlib
from typing import Any, BinaryIO, Callable, Mapping

import numpy as np

from mtvit.data import container
from mtvit.run import console
from mtvit.run import files
from mtvit.run import reading

SUFFIX = ".mtvit"     # Of what `save` writes.


def save(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> bool:
  """Writes arrays under a name that stands for them; see `container`.

  Returns:
    Whether they were written.
  """
  return write(file, lambda f: container.write(f, file.stem, arrays))


def load(
    file: os.PathLike[str], wanted: container.Wanted
) -> dict[str, np.ndarray] | None:
  """What `save` has written under this name; None if it can't be used.

  Args:
    file: to read.
    wanted: types and shapes of its arrays.
  """
  try:
    with reading.opened(file) as (f, size):
      return container.read(f, size, pathlib.PurePath(file).stem, wanted)
  except FileNotFoundError:
    return None
  except reading.Unusable as e:
    console.note(f"{file} is damaged ({e}) and made anew")
    return None


def save_json(file: pathlib.Path, content: Any) -> bool:
  """`save` of what JSON can say; strings may have been any bytes."""
  text = json.dumps(content).encode("ascii")
  return save(file, {"json": np.frombuffer(text, np.uint8)})


def load_json(file: os.PathLike[str]) -> Any:
  """What `save_json` has written; None if it can't be used.

  It is in an array of bytes, so no byte is believed that has changed.
  """
  kept = load(file, {"json": (np.uint8, [None])})
  try:
    return None if kept is None else json.loads(kept["json"].tobytes())
  except (ValueError, RecursionError) as e:
    console.note(f"{file} is damaged ({type(e).__name__}) and made anew")
    return None


def write(file: pathlib.Path, fill: Callable[[BinaryIO], Any]) -> bool:
  """Writes a file; its folder is made.

  Args:
    file: to write.
    fill: writes the content.

  Returns:
    Whether it was written.
  """
  try:
    files.write(file, fill)
    return True
  except OSError as e:
    console.note(
        f"{file} can't be written ({e.strerror}); it will be made anew next "
        "time")
    return False

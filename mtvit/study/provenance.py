"""What a row says of the code, the machine and the data that made it."""

import hashlib
import pathlib
import subprocess
from typing import TYPE_CHECKING, Any, Sequence

import jax

from mtvit.benchmarks import show
from mtvit.checkpoints import fingerprint

if TYPE_CHECKING:
  from mtvit.data import datasets

_PACKAGE = pathlib.Path(__file__).parents[1]
# What trains and what measures.
_CODE = ("config.py", "encoder.py", "pretrain.py", "training", "models",
         "tasks", "data", "probes", "diagnostics", "study/measuring.py",
         "study/measures")


def code_digest() -> str:
  """SHA-256 of the code that trains and measures: its names and bytes."""
  found = hashlib.sha256()
  for name in _CODE:
    place = _PACKAGE / name
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
      content = file.read_bytes()
      found.update(f"{file.relative_to(_PACKAGE)} {len(content)}\n".encode())
      found.update(content)
  return found.hexdigest()


def commit() -> str:
  """Of the checkout, with "+" if its code is changed; "" if there is none."""
  said = [_git("rev-parse", "HEAD"),
          _git("status", "--porcelain", "-uno", "--", ":/*.py")]
  if said[0] is None:
    return ""
  return said[0] + ("+" if said[1] else "")


def _git(*words: str) -> str | None:
  try:
    return subprocess.run(
        ["git", "-C", str(_PACKAGE), *words], capture_output=True, text=True,
        check=True, timeout=30).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None


def machine() -> dict[str, Any]:
  """Fields `machine`, `threads` and `versions` of a row, of this process."""
  told = show.machine()
  kinds = sorted({f"{x.device_kind}" for x in jax.devices()})
  devices = [] if jax.default_backend() == "cpu" else [
      f"{jax.device_count()} {', '.join(kinds)}"]
  return {"machine": ", ".join([told["processor"], *devices]),
          "threads": told["cores"], "versions": show.versions()}


def data_digest(sources: "Sequence[datasets.Source]") -> str:
  """SHA-256 of the names of all images, and of their classes."""
  return fingerprint.of_json([
      [x.num_examples, list(x.classes), list(x.names or [x.name])]
      for x in sources])

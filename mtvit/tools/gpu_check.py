"""Checks mtvit on this machine's GPU, and measures its train step there.

  bash launch/gpu_check.sh --output=DIR

Compares every task's loss and gradient with the CPU's, measures S/16 and B/16
(and timm's, if --peer_python has torch for CUDA), and trains for a moment if
TensorFlow is installed. What there is no time for is left out and named; DIR
then has gpu_check.json and gpu_check.md. It uses no network. Without
TensorFlow it needs --batch, a file that `mtvit bench step --save_batch` has
made elsewhere; launch/README.md has the line.
"""

import functools
import importlib
import importlib.util
import os
import pathlib
import subprocess
import sys
from typing import Any, Sequence

from absl import flags

from mtvit import errors
from mtvit.benchmarks import gpu_check
from mtvit.benchmarks import processes
from mtvit.run import entry
from mtvit.run import files
from mtvit.run import paths

_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write to; $OUT if it is not given.")
_BATCH = flags.DEFINE_string("batch", None, "A file of bench --save_batch.")
_IMAGES = flags.DEFINE_integer(
    "images", 512, "Of a batch, of two views each.", lower_bound=2)
_SECONDS = flags.DEFINE_float(
    "seconds", 420, "After which nothing is begun.", lower_bound=0)
_PEER_PYTHON = flags.DEFINE_string(
    "peer_python", str(processes.PEER_PYTHON), "Of an environment with timm "
    "and torch for CUDA; left out if it is not there.")
_ALLOW_CPU = flags.DEFINE_bool(
    "allow_cpu", False, "Try all of it at tiny sizes, without a GPU.")

_STRATEGIES = ("contrastive", "report", "patch_level")
_BACKEND = "import jax; print(jax.default_backend())"
_DATA = {"data.name": "photo_tiles", "data.test_split": "test"}
# Config and overrides of the contestants on a GPU, and with --allow_cpu.
_LARGE = ("imagenet", _DATA)
_TINY = ("quickstart", {
    "tasks.relative_position.num_pairs": 1, "tasks.colorize.num_patches": 1,
    "tasks.inpaint.num_patches": 1, "tasks.jigsaw.num_pieces": 4})
_SAVED = 4          # Images of a batch that is made here.


def _config(
    given: tuple[str, dict[str, Any]], images: int, variant: str, strategy: str
) -> dict[str, Any]:
  """Of a contestant, as plain values."""
  name, overrides = given
  made = importlib.import_module(f"mtvit.configs.{name}").get_config(
      f"strategy={strategy}")
  made.update_from_flattened_dict(
      overrides | {"model.variant": variant, "batch_size": images})
  return made.to_dict()


def main() -> None:
  """Checks, writes and prints; exits with 1 if GPU and CPU do not agree."""
  output = _output()
  _require_accelerator()
  peer = pathlib.Path(paths.expand(_PEER_PYTHON.value))
  given, images = (_TINY, 4) if _ALLOW_CPU.value else (_LARGE, _IMAGES.value)
  sizes: dict[str, Any] = dict(
      config=functools.partial(_config, given, images),
      sizes=("S/16", "B/16"), strategies=_STRATEGIES,
      layers=("unrolled", "scanned"), compared=4, platforms=None,
      peer_python=peer if peer.is_file() else None,
      run=["--config=cifar10:variant=nano/4", "--config.data.name=photo_tiles",
           "--config.model.dtype=bfloat16", "--config.batch_size=512",
           "--config.total_steps=200"])
  if _ALLOW_CPU.value:
    sizes |= dict(
        sizes=("pico/12",), strategies=_STRATEGIES[-1:], layers=("scanned",),
        compared=2, platforms="cpu", repeats=1, steps=1,
        run=["--config=quickstart:strategy=contrastive",
             "--config.model.variant=pico/12", "--config.model.unroll=1",
             "--config.knn.k=0", "--config.diagnose_every=0",
             "--config.total_steps=2", "--config.batch_size=4"])
  report = gpu_check.Report(output, _SECONDS.value)
  plan = gpu_check.Plan(**sizes, batch=str(_batch(
      output, given, sizes["sizes"][0], sizes["strategies"])))
  agrees = gpu_check.check(plan, report)
  print(report.text())
  if not agrees:
    raise errors.UserError(
        "GPU and CPU do not agree, or were not compared",
        f"{output}/gpu_check.md says on what")


def _output() -> pathlib.Path:
  """The folder to write to."""
  given = _OUTPUT.value or os.environ.get("OUT")
  if not given:
    raise errors.ConfigError("no --output, and OUT is not set", "--output=DIR")
  paths.check_local(**{"--output": given})
  folder = pathlib.Path(paths.expand(given))
  files.check_writable("--output", folder, folder)
  return folder


def _require_accelerator() -> None:
  """Raises ConfigError without one, unless that is allowed."""
  if _ALLOW_CPU.value:
    return
  # Elsewhere: a process that has looked keeps memory of the GPU.
  done = subprocess.run(
      [sys.executable, "-c", _BACKEND], capture_output=True, text=True)
  if done.stdout.strip() in ("", "cpu"):
    raise errors.ConfigError(
        "JAX finds no GPU here" + (
            f": {done.stderr.strip().splitlines()[-1][:150]}"
            if done.returncode else ""),
        "nvidia-smi must list one, and 'jax[cuda12]' or 'jax[cuda13]' be "
        "installed; --allow_cpu tries the script without")


def _batch(
    output: pathlib.Path, given: tuple[str, dict[str, Any]], variant: str,
    strategies: Sequence[str]
) -> pathlib.Path:
  """The file of saved batches, which is made if there is TensorFlow."""
  if _BATCH.value:
    return pathlib.Path(paths.expand(_BATCH.value))
  if importlib.util.find_spec("tensorflow") is None:
    raise errors.ConfigError(
        "there is no --batch, and no TensorFlow to make one",
        "mtvit bench step --save_batch=FILE elsewhere; see launch/README.md")
  file, (name, overrides) = output / "batch.safetensors", given
  done = subprocess.run(
      [sys.executable, "-m", "mtvit", "bench", "step",
       f"--config={name}", f"--config.model.variant={variant}",
       f"--config.batch_size={_SAVED}",
       *(f"--config.{key}={value}" for key, value in overrides.items()),
       f"--strategies={','.join(strategies)}", f"--save_batch={file}"],
      capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
  if done.returncode:
    raise errors.UserError(
        "no batch could be made: " + done.stderr.strip()[-300:])
  return file


if __name__ == "__main__":
  entry.run(main)

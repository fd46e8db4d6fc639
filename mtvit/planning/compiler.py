"""The XLA compilers for TPUs and NVIDIA GPUs on a machine that has none.

That for TPUs is inside `libtpu`, which knows the chips and their grids; that
for GPUs inside JAX's plugin for CUDA, which wants the GPU described. See
https://docs.jax.dev/en/latest/aot.html.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from mtvit import errors
from mtvit.planning import chips
from mtvit.planning import gpus

# The version that jax[tpu] of requirements.txt asks for.
VERSION = "0.0.42.1"
# Without these libtpu looks for a machine with chips, waits for it, tells what
# it didn't find, and refuses to be loaded twice.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0"}


_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")
# Products go to cuBLAS: XLA would write some of them itself, in forms that it
# tries out on the GPU, and without one it may fail on a form not tried.
_GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}
Topology = chips.Slice | gpus.Node


def prepare(topology: Topology) -> None:
  """Makes this process compile for a topology and use no accelerator.

  Before any device is looked for.

  Raises:
    ConfigError: the compiler is not installed.
  """
  if isinstance(topology, gpus.Node):
    if not versions().keys() & set(_PLUGINS):
      raise errors.ConfigError(
          f"--topology={topology.name} needs XLA's compiler for GPUs, which is "
          "in JAX's plugin for CUDA, and that is not installed",
          f"pip install 'jax[cuda12]=={jax.__version__}'; it needs no GPU")
  elif importlib.util.find_spec("libtpu") is None:
    raise errors.ConfigError(
        "--topology needs the TPU compiler, and libtpu is not installed",
        f".venv/bin/pip install libtpu=={VERSION}, or start with "
        "bash launch/local.sh --with_libtpu")
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  jax.config.update("jax_platforms", "cpu")
  # What is compiled for chips that aren't there can't be read back.
  jax.config.update("jax_enable_compilation_cache", False)


def versions() -> dict[str, str]:
  """Of the compilers that are installed."""
  found = {}
  for name in ("libtpu", *_PLUGINS):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def devices(topology: Topology) -> list[Any]:
  """The devices of a slice or node: to compile for, not to run on.

  Raises:
    ConfigError: the compiler knows no such slice.
  """
  if isinstance(topology, gpus.Node):
    return list(topologies.get_topology_desc(
        platform="cuda", topology=f"1x1x{topology.count}",
        target_config=topology.chip.target).devices)
  # On hosts of 4 chips, but for a single one.
  single = {"chips_per_host_bounds": (1, 1, 1)} if set(
      topology.shape) == {1} else {}
  try:
    found = topologies.get_topology_desc(
        platform="tpu", topology_name=topology.name,
        chip_config_name=topology.chip.config, **single)
  except jax.errors.JaxRuntimeError as e:
    raise errors.ConfigError(
        f"--topology={topology.name}: {str(e).splitlines()[0][:150]}",
        "one of " + ", ".join(
            f"{topology.chip.name}:{s}" for s in topology.chip.slices)) from e
  return list(found.devices)


class DoesNotFit(Exception):
  """The step needs more memory than a chip has.

  Attributes:
    temporaries: bytes beside the step's arguments; None if the compiler
      doesn't say.
  """

  def __init__(self, temporaries: float | None):
    super().__init__(f"needs {temporaries} bytes beside its arguments")
    self.temporaries = temporaries


def compiled(step: Any, mesh: jax.sharding.Mesh) -> jax.stages.Compiled:
  """Compiles a `cost.Step`.

  Raises:
    DoesNotFit: it needs more memory than a chip has.
  """
  with jax.set_mesh(mesh):
    lowered = step.function.lower(step.state, step.batch)
  gpu = next(iter(mesh.devices.flat)).platform in ("gpu", "cuda")
  try:
    return lowered.compile(_GPU_OPTIONS if gpu else None)
  except jax.errors.JaxRuntimeError as e:
    if "RESOURCE_EXHAUSTED" not in str(e):
      raise
    found = re.search(r"temporaries \(([\d.]+)([KMGT])\)", str(e))
    raise DoesNotFit(found and float(found[1]) * 1024.0 ** (
        1 + "KMGT".index(found[2]))) from e

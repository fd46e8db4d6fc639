"""The XLA compiler for TPUs on a machine that has none.

It is inside `libtpu`, which knows the chips and their grids; see
https://docs.jax.dev/en/latest/aot.html.
"""

import importlib.metadata
import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies

from mtvit import errors
from mtvit.planning import chips

# The version that jax[tpu] of requirements.txt asks for.
VERSION = "0.0.42.1"
# Without these libtpu looks for a machine with chips, waits for it, tells what
# it didn't find, and refuses to be loaded twice.
_ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0"}


def prepare() -> None:
  """Makes this process compile for TPUs and use none; before any device is.

  Raises:
    ConfigError: libtpu is not installed.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise errors.ConfigError(
        "--topology needs the TPU compiler, and libtpu is not installed",
        f".venv/bin/pip install libtpu=={VERSION}, or start with "
        "bash launch/local.sh --with_libtpu")
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  jax.config.update("jax_platforms", "cpu")
  # What is compiled for chips that aren't there can't be read back.
  jax.config.update("jax_enable_compilation_cache", False)


def version() -> str:
  """Of libtpu."""
  return importlib.metadata.version("libtpu")


def devices(topology: chips.Slice) -> list[Any]:
  """The devices of a slice, one for each chip: to compile for, not to run on.

  Raises:
    ConfigError: the compiler knows no such slice.
  """
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
  try:
    return lowered.compile()
  except jax.errors.JaxRuntimeError as e:
    if "RESOURCE_EXHAUSTED" not in str(e):
      raise
    found = re.search(r"temporaries \(([\d.]+)([KMGT])\)", str(e))
    raise DoesNotFit(found and float(found[1]) * 1024.0 ** (
        1 + "KMGT".index(found[2]))) from e

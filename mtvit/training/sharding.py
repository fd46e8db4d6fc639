"""Where every array of the train state lives: a mesh and one table of rules.

Axes: `data` splits the batch; `fsdp` splits the batch and the parameters;
`tensor` splits heads and hidden units.
"""

import collections
import dataclasses
import math
import re
from typing import Any, Sequence

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.models import chunks
from mtvit.models import parameter_names

# Regular expression on the "/"-joined path -> the axes of each dimension. The
# first match wins; without one, see `_split`. Layers are the leading dimension
# of everything under blocks/. Optimizer moments end with the path of their
# parameter, so they follow it.
RULES = (
    (r"blocks/attn/qkv/kernel$", P(None, "fsdp", None, "tensor", None)),
    (r"blocks/attn/qkv/bias$", P(None, None, "tensor", None)),
    (r"blocks/attn/out/kernel$", P(None, "tensor", None, "fsdp")),
    (r"blocks/fc1/kernel$", P(None, "fsdp", "tensor")),
    (r"blocks/fc1/bias$", P(None, "tensor")),
    (r"blocks/fc2/kernel$", P(None, "tensor", "fsdp")),
    (r"blocks/(attn/out|fc2)/bias$", P()),
    (r"blocks/norm\d/(scale|bias)$", P()),
    (r"blocks/layer_scale\d$", P()),
    (r"encoder/embed/kernel$", P(None, "fsdp")),
    (r"encoder/embed/bias$", P()),
    (r"encoder/norm/(scale|bias)$", P()),
    (r"encoder/(position|position_mask|position_cls|token_\w+)$", P()),
    (r"head_\w+/(mlp|predictor)/fc\d+/kernel$", P("fsdp", "tensor")),
    (r"head_\w+/(mlp|predictor)/out/kernel$", P("fsdp", None)),
    (r"head_\w+/(mlp|predictor)/(fc\d+|norm\d+|out)/(scale|bias)$", P()),
    (r"head_\w+/prototypes$", P("fsdp", None)),
    (r"head_\w+/out/(kernel|bias)$", P()),
    (r"log_variance/\w+$", P()),
    (r"^task_state/\w+/", P()),
    (r"^weighting/", P()),
    (r"(^|/)(count|step|rng|skipped|skipped_in_a_row)$", P()),
)


def create_mesh(
    config: config_lib.Mesh, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
  """The mesh over all devices, neighbours in the network where it matters.

  Args:
    config: sizes of the axes.
    devices: those of a slice that is not here; None for those that are.

  Raises:
    ConfigError: the axes don't multiply to the number of devices, or can't be
      laid out on their network.
  """
  sizes = [config.data, config.fsdp, config.tensor]
  devices = jax.devices() if devices is None else devices
  count = len(devices)
  if sizes.count(-1) == 1:
    known = math.prod(size for size in sizes if size != -1)
    if known > 0 and count % known == 0:
      sizes[sizes.index(-1)] = count // known
  name = f"mesh {config.data} x {config.fsdp} x {config.tensor}"
  if min(sizes) < 1 or math.prod(sizes) != count:
    raise errors.ConfigError(
        f"{name} does not fit {count} devices",
        "the product must be the number of devices; one axis may be -1")
  try:
    return jax.make_mesh(
        tuple(sizes), ("data", "fsdp", "tensor"),
        axis_types=(AxisType.Auto,) * 3, devices=devices)
  except NotImplementedError as e:
    raise errors.ConfigError(
        f"{name} can't be laid out on the network of these {count} devices",
        "make each axis a product of sides of the slice") from e


@dataclasses.dataclass(frozen=True)
class Share:
  """Which part of the global batch a process reads: number `index` of `count`.

  Processes whose devices have the same rows read the same part.

  Attributes:
    index: from 0.
    count: of different parts.
  """
  index: int
  count: int


def share(mesh: jax.sharding.Mesh, process: int | None = None) -> Share:
  """The part of a process; this one if None.

  On a TPU slice the mesh follows the network, so the rows of a process need
  not lie next to each other, nor in the order of the processes; and where
  `tensor` spans hosts, several of them have the same rows.

  Raises:
    ConfigError: some rows of a process are also in another, and some not.
  """
  process = jax.process_index() if process is None else process
  rows = collections.defaultdict(set)
  devices = mesh.devices.reshape(-1, mesh.shape["tensor"])  # [rows, tensor]
  for row, copies in enumerate(devices):
    for device in copies:
      rows[device.process_index].add(row)
  parts = sorted({tuple(sorted(found)) for found in rows.values()})
  if (sum(map(len, parts)) != len(devices)
      or len({len(part) for part in parts}) > 1):
    raise errors.ConfigError(
        "with this mesh hosts share some rows of the batch but not all",
        "a mesh.tensor that divides the devices of a host, or is a multiple "
        "of them")
  return Share(parts.index(tuple(sorted(rows[process]))), len(parts))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Rows of the global batch over `data` and `fsdp`."""
  return NamedSharding(mesh, P(chunks.ROWS))


def rule(name: str, rank: int) -> P | None:
  """The axes of an array of this path and number of dimensions, by `RULES`."""
  spec = next((s for pattern, s in RULES if re.search(pattern, name)), None)
  return None if spec is None or len(spec) > rank else spec


def _split(shape: tuple[int, ...], fsdp: int) -> P:
  """The axes of what no rule knows, such as parameters of a plug-in.

  `fsdp` splits the largest dimension that it divides; what is of one dimension
  or none is small, and kept whole.
  """
  divided = [size * (size % fsdp == 0) for size in shape]
  if len(shape) < 2 or not any(divided):
    return P()
  largest = divided.index(max(divided))
  return P(*(["fsdp" if i == largest else None for i in range(len(shape))]))


def state_sharding(state: Any, mesh: jax.sharding.Mesh) -> Any:
  """The sharding of every leaf of a state, by `RULES`.

  Args:
    state: a tree of arrays or shapes.
    mesh: of the run.

  Raises:
    ConfigError: a rule's axis does not divide a dimension.
  """
  def find(path, leaf):
    name = parameter_names.path_name(path)
    spec = rule(name, len(leaf.shape))
    if spec is None:
      spec = _split(leaf.shape, mesh.shape["fsdp"])
    for size, axis in zip(leaf.shape, spec):
      if axis is not None and size % mesh.shape[axis]:
        raise errors.ConfigError(
            f"{name} {leaf.shape}: a dimension of {size} can't be split over "
            f"mesh.{axis}={mesh.shape[axis]}")
    return NamedSharding(mesh, spec)

  return jax.tree_util.tree_map_with_path(find, state)


def spread(x: np.ndarray, mesh: jax.sharding.Mesh) -> jax.Array:
  """Rows that every host has, over the devices: a global array."""
  return jax.make_array_from_callback(
      x.shape, batch_sharding(mesh), lambda index: x[index])


def global_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Makes this host's rows its part of the global batch."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(
      lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
      batch)

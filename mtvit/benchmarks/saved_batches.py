"""Batches of the input pipeline in one file, to be trained on without it.

A machine with TensorFlow writes it, with what the tasks have learnt of the
data; who reads it needs neither TensorFlow nor the data. It is a safetensors
file that holds a batch for each set of tasks.
"""

import itertools
import json
import pathlib
import types
from typing import Any, Iterator, Mapping, Sequence

from flax import traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.run import files
from mtvit.training import assembly
from mtvit.training import inputs

_STATISTICS = "statistics"


class Repeated:
  """One batch for ever, in the place of a `pipeline.Batches`.

  Attributes:
    element_spec: shapes and dtypes of it.
  """

  def __init__(self, batch: Mapping[str, Any]):
    self._batch = batch
    # As of TensorSpecs.
    self.element_spec = jax.tree.map(
        lambda x: types.SimpleNamespace(
            shape=x.shape, dtype=types.SimpleNamespace(as_numpy_dtype=x.dtype)),
        dict(batch))

  def __iter__(self) -> Iterator[Mapping[str, Any]]:
    return itertools.repeat(self._batch)


def write(
    file: pathlib.Path, configs: Sequence[config_lib.Config],
    mesh: jax.sharding.Mesh
) -> None:
  """Saves the first training batch of each config, with its statistics.

  Raises:
    ConfigError, DataError: as a run's start does.
    OSError: it can't be written; names `file`.
  """
  arrays: dict[str, np.ndarray] = {}
  statistics: dict[str, Any] = {}
  for config in configs:
    train, _ = inputs.sources(config)
    parts = assembly.create(config, mesh, train, total_steps=2)
    name = name_of(config)
    statistics[name] = parts.statistics
    flat = traverse_util.flatten_dict(next(iter(parts.batches)), sep="/")
    arrays |= {
        f"{name}/{key}": np.ascontiguousarray(x) for key, x in flat.items()}
  files.write(file, safetensors.numpy.save(
      arrays, {_STATISTICS: json.dumps(statistics)}))


def parts(
    file: pathlib.Path, config: config_lib.Config, mesh: jax.sharding.Mesh,
    total_steps: int
) -> assembly.Parts:
  """A run on a saved batch, which is repeated up to the config's size.

  Raises:
    ConfigError: the file can't be read, or has no batch for this config.
  """
  arrays, statistics = _read(file, name_of(config))
  batch = _sized(file, arrays, config)
  tasks = tasks_lib.with_statistics(
      assembly.check(config, mesh), statistics)
  batches: Any = Repeated(batch)
  return assembly.Parts(
      config=config, mesh=mesh, tasks=tasks, statistics=statistics,
      batches=batches, total_steps=total_steps)


def name_of(config: config_lib.Config) -> str:
  """Of its batch: the tasks, and what else decides its shapes."""
  tasks = "+".join(sorted(
      name for name, task in config.tasks.items() if task["mode"] != "off"))
  model = config.model
  return (f"{tasks} {config.views}x{model.image_size}px "
          f"{model.patch_size}px {config.forward}")


def _read(
    file: pathlib.Path, name: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """A batch's arrays by path, and its statistics."""
  try:
    with safetensors.safe_open(file, "np") as saved:
      statistics = json.loads((saved.metadata() or {}).get(_STATISTICS, "{}"))
      arrays = {
          key.removeprefix(f"{name}/"): saved.get_tensor(key)
          for key in saved.keys() if key.startswith(f"{name}/")}
  except (OSError, ValueError, safetensors.SafetensorError) as e:
    raise errors.ConfigError(
        f"--batch={file} can't be read: {str(e).splitlines()[0][:100]}",
        "a file that bench step --save_batch=FILE has made") from e
  if not arrays or name not in statistics:
    known = "; ".join(sorted(statistics)) or "none"
    raise errors.ConfigError(
        f"--batch={file} has no batch for {name!r}, only for: {known}",
        "bench step --save_batch=FILE with the same --config and --strategies")
  return arrays, statistics[name]


def _sized(
    file: pathlib.Path, arrays: Mapping[str, np.ndarray],
    config: config_lib.Config
) -> dict[str, Any]:
  """The batch, repeated or cut to the config's number of images."""
  rows = config.views * config.batch_size
  has = len(arrays["index"])
  if rows % has and has % rows:
    raise errors.ConfigError(
        f"--batch={file} has {has} views, and --config.batch_size="
        f"{config.batch_size} means {rows}", "a multiple of one of the other")
  sized = {key: np.concatenate([x] * max(1, rows // has))[:rows]
           for key, x in arrays.items()}
  empty: dict[str, Any] = {"answers": {}, "queries": {}}
  return empty | traverse_util.unflatten_dict(sized, sep="/")

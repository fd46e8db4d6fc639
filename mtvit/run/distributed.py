r"""Several processes, one for each host: how they find each other and agree.

On TPU pods, SLURM and Open MPI `--coordinator=auto` is all; elsewhere every
process gets the same command but for its number:

  mtvit pretrain ... --coordinator=HOST:PORT --num_processes=2 \
      --process_id=0
"""

import json
from typing import Any, Callable, Mapping, TypeVar

from absl import flags
import jax
from jax.experimental import multihost_utils
import numpy as np

from mtvit import errors
from mtvit.run import config_values

T = TypeVar("T")


def define_flags() -> None:
  """Not on import: a program that imports this has flags of its own."""
  flags.DEFINE_string(
      "coordinator", "", "HOST:PORT of process 0 when there are several "
      "processes; 'auto' on TPU pods, SLURM and Open MPI.")
  flags.DEFINE_integer(
      "num_processes", None, "Processes of the run.", lower_bound=1)
  flags.DEFINE_integer(
      "process_id", None, "Number of this process, from 0.", lower_bound=0)
  flags.DEFINE_integer(
      "heartbeat_seconds", 100, "After so long without a sign of life of a "
      "process the others exit.", lower_bound=1)


def initialize() -> None:
  """Connects this process with the others, if the flags say that there are.

  Raises:
    ConfigError: the flags contradict each other, or nobody answers.
  """
  address, count, number = (
      flags.FLAGS.coordinator, flags.FLAGS.num_processes,
      flags.FLAGS.process_id)
  if not address:
    if count is not None or number is not None:
      raise errors.ConfigError(
          "--num_processes and --process_id need --coordinator",
          "--coordinator=HOST:PORT of process 0")
    return
  arguments: dict[str, Any] = {}
  if address != "auto":
    if count is None or number is None or not number < count:
      raise errors.ConfigError(
          f"--coordinator={address} with --num_processes={count} and "
          f"--process_id={number}",
          "give both; process_id counts from 0 to num_processes - 1")
    if not address.rpartition(":")[2].isdecimal():
      raise errors.ConfigError(f"--coordinator={address} must be HOST:PORT")
    arguments = dict(
        coordinator_address=address, num_processes=count, process_id=number)
  # mtvit.run.stop is the one owner of SIGTERM.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
        heartbeat_timeout_seconds=flags.FLAGS.heartbeat_seconds,
        shutdown_timeout_seconds=flags.FLAGS.heartbeat_seconds, **arguments)
  except (RuntimeError, ValueError) as e:
    raise errors.ConfigError(
        f"--coordinator={address}: {str(e).splitlines()[0]}",
        "start all processes within five minutes, with one address") from e


def is_main() -> bool:
  """Whether this process writes what one process writes for all."""
  return jax.process_index() == 0


def gather(value: Any) -> list[Any]:
  """The JSON values of all processes, by process; all of them must ask."""
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(text)))
  row = np.zeros(int(sizes.max()), np.uint8)
  row[:len(text)] = text
  rows = multihost_utils.process_allgather(row)
  return [json.loads(bytes(r[:n])) for r, n in zip(rows, sizes)]


def fail_together(work: Callable[[], T]) -> T:
  """What `work` returns; if it fails on one process, it fails on all.

  Args:
    work: done by each process alone. It waits for no other.

  Raises:
    UserError: that of the first process that has one, on all of them.
  """
  if jax.process_count() == 1:
    return work()
  failed: errors.UserError | None = None
  try:
    result = work()
  except errors.UserError as e:
    failed = e
  for i, other in enumerate(
      gather([type(failed).__name__, str(failed)] if failed else None)):
    if other:
      here = failed if i == jax.process_index() else None
      error = here or errors.by_name(other[0])(f"process {i}: {other[1]}")
      error.alone = False
      raise error
  return result


def check_same(
    values: Mapping[str, Any], what: str, fix: str = ""
) -> None:
  """Raises ConfigError on all processes if one has other values than the first.

  Args:
    values: of this process, JSON; the error names the keys that differ.
    what: they are.
    fix: what to do about it; "" to give all the same.
  """
  if jax.process_count() == 1:
    return
  found = gather(values)
  for i, other in enumerate(found):
    changed = config_values.changes(found[0], other)
    if changed:
      raise errors.ConfigError(
          f"process {i} has another {what} than process 0: "
          + ", ".join(changed), fix or f"start all with the same {what}")


def wait_for_all(name: str) -> None:
  """Returns once every process is here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)

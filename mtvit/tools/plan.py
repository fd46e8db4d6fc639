r"""Prints what a config costs, without data, training or an accelerator.

  mtvit plan --config=imagenet:variant=S/16
  mtvit plan --config=imagenet:variant=B/16 \
      --topology=v5e:16x16 --views_per_chip=128
  mtvit plan --config=imagenet:variant=g/14 \
      --topology=v5e:16x16 --search --json=g14.json
  mtvit plan --config=imagenet:variant=S/16 \
      --topology=h100 --views_per_chip=1024

The first counts the FLOPs of the matrix products of a train step, forward and
backward. With --topology the real train step is compiled for that slice by the
XLA TPU compiler of `libtpu`, which needs no TPU; it takes seconds to minutes,
less with --config.model.unroll=1. All that it prints is estimated by the
compiler, not measured. Of GPUs it tells the memory and no times; their compiler
is in `jax[cuda12]`, which needs no GPU either.
"""

import math
import pathlib
from typing import Any

from absl import flags
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.models import pretrainer
from mtvit.planning import chips
from mtvit.planning import compiler
from mtvit.planning import estimate
from mtvit.planning import gpus
from mtvit.planning import plans
from mtvit.planning import search
from mtvit.planning import show
from mtvit.run import command_line
from mtvit.run import entry
from mtvit.run import files
from mtvit.run import paths
from mtvit.training import cost
from mtvit.training import run_tasks

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, command_line.config_help())
_TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Slice to compile for, such as v5e:2x4 or v5p:8x8x16, "
    f"or GPUs of one machine: {', '.join(gpus.GPUS)}, h100:8 ...")
_VIEWS = flags.DEFINE_integer(
    "views_per_chip", None, "Sets config.batch_size; of a search the most.",
    lower_bound=1)
_SEARCH = flags.DEFINE_bool(
    "search", False, "Try batch sizes, remat and mesh shapes.")
_JSON = flags.DEFINE_string("json", None, "File to write.")

# Views of a chip that a search begins with.
MOST_VIEWS = 256


def describe(config: config_lib.Config, total: float) -> str:
  """The table of the tasks, and the FLOPs of a step."""
  tasks = run_tasks.create(config)
  gh, gw = run_tasks.geometry(config).grid
  passes = run_tasks.passes(config, tasks)
  lines = [
      f"grid {gh}x{gw}, {gh * gw} patches; "
      f"{len(passes)} forward pass(es) of {config.views * config.batch_size} "
      "views", f"{'task':20} {'mode':8} {'pass':20} {'blocks':>6} "
      f"{'pairs':>5} {'patches':>7} {'weight':>6}"]
  for task in tasks:
    place = pretrainer.pass_of(task.name, passes)
    lines.append(
        f"{task.name:20} {task.mode:8} {place:20} {task.num_blocks:6} "
        f"{task.num_neighbours:5} {task.num_patches:7} {task.weight:6.3g}")
  return "\n".join(lines + [
      f"{total / 1e9:.2f} GFLOPs a step, "
      f"{total / config.batch_size / 1e6:.1f} MFLOPs an image"])


def main() -> None:
  """Describes a config, and compiles it for a slice."""
  values = entry.given_config(_CONFIG)
  config = config_lib.parse(values)
  if not _TOPOLOGY.value:
    for flag in (_VIEWS, _SEARCH, _JSON):
      if flag.value:
        raise errors.ConfigError(
            f"--{flag.name} needs --topology", "--topology=v5e:2x4")
    print(describe(config, cost.flops(config)))
    return
  topology = gpus.parse(_TOPOLOGY.value) or chips.parse(_TOPOLOGY.value)
  if isinstance(topology, gpus.Node) and _SEARCH.value:
    raise errors.ConfigError(
        "--search compares times, and the compiler for GPUs gives none",
        "--views_per_chip, --config.mesh and --config.model.remat by hand")
  compiler.prepare(topology)
  num_chips = len(compiler.devices(topology))
  if _VIEWS.value:
    config = estimate.with_views(config, _VIEWS.value, num_chips)
  total = cost.flops(config)
  print(describe(config, total) + "\n", flush=True)
  file = (
      pathlib.Path(paths.expand(_JSON.value)) if _JSON.value else None)
  if file:
    files.check_writable("--json", file, file.parent)
  if _SEARCH.value and isinstance(topology, chips.Slice):
    _search(config, topology, values, file)
    return
  found = estimate.estimate(config, topology, total)
  print(show.text(found))
  if file:
    show.write(file, values, [found])


def _search(
    config: config_lib.Config, topology: chips.Slice, values: Any,
    file: pathlib.Path | None
) -> None:
  """Prints and writes each estimate as it is made, and then the best."""
  num_chips = math.prod(topology.shape)
  known = show.read(file, values) if file else []
  # By image, since only the batch changes it.
  flops = cost.flops(config) / config.batch_size

  def run(trial: search.Trial) -> plans.Estimate:
    done = [x for x in known
            if x.topology == topology.name and trial.made(x)]
    tried = trial.of(config, num_chips)
    return done[0] if done else estimate.estimate(
        tried, topology, flops * tried.batch_size)

  found: list[plans.Estimate] = []
  print(f"{plans.NOTE}:")
  for one in search.search(num_chips, _VIEWS.value or MOST_VIEWS, run):
    found.append(one)
    print(show.line(one), flush=True)
    if file:
      show.write(file, values, found)
  best = search.best(found)
  print("\n" + (show.text(best) if best else f"nothing fits {topology.name}"))


if __name__ == "__main__":
  entry.run(main)

"""Prints what a config costs, without data and without training.

  python -m mtvit.tools.plan --config=configs/imagenet.py:variant=S/16
  python -m mtvit.tools.plan --config=configs/cifar10.py:strategy=separate

FLOPs are those of the whole train step, as XLA counts them before optimisation
with the layers unrolled (of a scan it counts the body once).
"""

from ml_collections import config_flags

from mtvit import build
from mtvit import config as config_lib
from mtvit import cost
from mtvit import entry
from mtvit.models import pretrainer

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; --config.KEY=VALUE overrides a key.")


def describe(config: config_lib.Config) -> str:
  """The table that the command prints."""
  tasks = build.tasks(config)
  gh, gw = build.geometry(config).grid
  passes = build.passes(config, tasks)
  lines = [
      f"grid {gh}x{gw}, {(gh // 3) * (gw // 3)} blocks of 3x3; "
      f"{len(passes)} forward pass(es) of {config.views * config.batch_size} "
      "views", f"{'task':20} {'mode':8} {'pass':20} {'blocks':>6} "
      f"{'patches':>7} {'weight':>6}"]
  for task in tasks:
    place = pretrainer.pass_of(task.name, passes)
    lines.append(
        f"{task.name:20} {task.mode:8} {place:20} {task.num_blocks:6} "
        f"{task.num_patches:7} {task.weight:6.3g}")
  total = cost.flops(config)
  return "\n".join(lines + [
      f"{total / 1e9:.2f} GFLOPs a step, "
      f"{total / config.batch_size / 1e6:.1f} MFLOPs an image"])


def main() -> None:
  """Describes a config."""
  print(describe(config_lib.parse(entry.config_values(_CONFIG))))


if __name__ == "__main__":
  entry.run(main)

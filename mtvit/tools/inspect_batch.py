"""Writes a PNG of a training batch: what the model sees, and the answers.

  mtvit inspect --config=quickstart \
      --step=0 --output=runs/batch.png

Each row is a view, the two views of an image one below the other: before the
patch corruption, after it, and with each task's patches and answers.
"""

from absl import flags
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.pictures import panels
from mtvit.run import entry
from mtvit.run import paths
from mtvit.tasks import picture
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_data
from mtvit.training import run_tasks

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; --config.KEY=VALUE overrides a key.")
_OUTPUT = flags.DEFINE_string("output", "batch.png", "The PNG to write.")
_STEP = flags.DEFINE_integer("step", 0, "Which step's batch.", lower_bound=0)
_IMAGES = flags.DEFINE_integer(
    "images", 4, "How many of its images.", lower_bound=1)


def main() -> None:
  """Makes one batch as the run would, and draws it."""
  output = paths.parse(_OUTPUT.value)
  if output.suffix != ".png":
    raise errors.ConfigError(f"--output={output} must end in .png")
  paths.check_local(**{"--output": output})
  config = config_lib.parse(entry.given_config(_CONFIG))
  run_data.check_local(config.data)
  tasks = run_tasks.create(config)
  train, _ = inputs.sources(config)
  assembly.total_steps(config, train.num_examples)     # Checks the batch size.
  views = min(config.views * _IMAGES.value, config.views * config.batch_size)
  clean = inputs.sample(config, (), train, _STEP.value)
  batch = inputs.sample(config, tasks, train, _STEP.value)
  shown = {task.name: panels.task_rows(batch, None, task, views)
           for task in tasks}
  rows = []
  for view in range(views):
    title = f"example {batch['index'][view]}, view {view % config.views}"
    row = [picture.Panel(title, clean["image"][view])]
    row += [picture.Panel(f"corrupted ({name})", corrupted["image"][view])
            for name, corrupted in batch["passes"].items()]
    for task_rows in shown.values():
      row += task_rows[view] if len(task_rows) > view else []
    rows.append(row)
  panels.save_grid(rows, config.model.patch_size, output)
  print(output)


if __name__ == "__main__":
  entry.run(main)

"""Measures how much of the position tasks a model answers without looking.

  mtvit cheat_index --workdir=runs/quickstart

For relative position and jigsaw: accuracy on views of the test split, as they
are, with the queried patches blank, with all contents blank, with all position
embeddings blank, and with the last two; with the trained head and with one
refitted on such views. The cheat index is accuracy minus chance. Writes
report/cheat_index.json too.
"""

import dataclasses

from absl import flags

from mtvit import errors
from mtvit.checkpoints import loading
from mtvit.diagnostics import cheat
from mtvit.run import entry
from mtvit.run import paths
from mtvit.run import results
from mtvit.training import inputs
from mtvit.training import run_data
from mtvit.training import saved_runs

_WORKDIR = flags.DEFINE_string("workdir", None, "Of the run.")
_FIT = flags.DEFINE_integer(
    "fit_steps", 300, "Steps to refit a head.", lower_bound=1)
_TEST = flags.DEFINE_integer(
    "test_batches", 40, "Batches to evaluate on.", lower_bound=1)


def main() -> None:
  """Prints the table and writes it as JSON."""
  if not _WORKDIR.value:
    raise errors.ConfigError("--workdir is missing", "--workdir=runs/NAME")
  workdir = paths.parse(_WORKDIR.value)
  run = saved_runs.load(workdir)
  config = dataclasses.replace(
      run.config, data=loading.with_own_folders(run.config.data))
  run_data.check_local(config.data)
  train, test = inputs.sources(config)
  batches = lambda source, steps: inputs.global_batches(
      run.config, run.tasks, source, 0, steps)
  rows = cheat.index(
      run.model, run.params, lambda: batches(train, _FIT.value),
      lambda: batches(test, _TEST.value))
  if not rows:
    raise errors.ConfigError(
        f"{workdir}: no position task trained in this run",
        "train relative_position or jigsaw")
  print(cheat.table(rows))
  results.save_sealed(
      workdir / "report" / "cheat_index.json", {"rows": rows})


if __name__ == "__main__":
  entry.run(main)

"""Pretrains a ViT with many self-supervised tasks in one forward pass.

  python -m mtvit.pretrain --config=configs/quickstart.py \
      --config.tasks.colorize.mode=off --workdir=runs/my_run

Running the same command again continues from the last checkpoint; for that
--workdir is enough. With --config.total_steps=N beside it the run goes on to N
steps, a finished one too.
"""

import time
from typing import Any, Callable, Mapping, Sequence

from absl import flags
from etils import epath
import jax
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import checks
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.diagnostics import gradients
from mtvit.diagnostics import monitor
from mtvit.pictures import run_report
from mtvit.run import config_values
from mtvit.run import distributed
from mtvit.run import entry
from mtvit.run import metrics
from mtvit.run import paths
from mtvit.run import results
from mtvit.run import stop as stop_lib
from mtvit.run import workdir as workdir_lib
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import loop
from mtvit.training import run_data
from mtvit.training import run_tasks
from mtvit.training import saved_runs
from mtvit.training import sharding

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; --config.KEY=VALUE overrides a key.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run is kept; default runs/<config name>.")
_ALLOW_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "Continue a run with another config.")


def main(
    prepare: Callable[[Any, epath.Path], Any] = lambda raw, workdir: raw
) -> None:
  """The command line; `prepare` may complete the config."""
  distributed.initialize()
  given = distributed.together(
      lambda: entry.run_flags(_CONFIG, _WORKDIR.value, prepare))
  pretrain(given.config, given.workdir, overrides=given.overrides,
           allow_config_change=_ALLOW_CHANGE.value)


def pretrain(
    raw: Mapping[str, Any] | None, workdir: paths.Given, *,
    overrides: Sequence[str] = (), allow_config_change: bool = False
) -> dict[str, Any]:
  """One run, from a config to `result.json`; continues what it finds there.

  Args:
    raw: the config as plain values; None takes that of the newest checkpoint.
    workdir: where the run is kept, a folder or gs://.
    overrides: --config.KEY=VALUE, to change the newest checkpoint's config. A
      run may become longer by that: the learning rate then follows the
      schedule of the new length from where it goes on.
    allow_config_change: continue a run that had another config.

  Returns what `result.json` holds; raises UserErrors, see `errors`.
  """
  # ---- Configuration: all that can be wrong is found before data is touched
  own, workdir = raw is not None, paths.parse(workdir)
  raw, config = distributed.together(
      lambda: saved_runs.parse(raw, workdir, overrides))
  distributed.check_same(raw, "config")
  tasks = run_tasks.create(config)
  mesh = sharding.create_mesh(config.mesh)
  assembly.check_batch(config, mesh)
  with (workdir_lib.claimed(workdir) as still_ours,
        workdir_lib.compiled(workdir, own), jax.set_mesh(mesh),
        stop_lib.Stop(mesh, config.watchdog_seconds) as stop):
    checkpointer = saving.Checkpointer(
        workdir, config.keep_checkpoints, still_ours)
    saved = checkpointer.newest()
    if saved:
      checks.check_data(saved.step, saved.meta)
    if saved and not allow_config_change:
      config_values.check_same(
          saved.meta["config"], raw,
          free=() if own else config_values.LENGTH + config_values.PLACES)
    return _run(
        raw, config, tasks, mesh, workdir, stop, checkpointer, saved)


def _run(
    raw: Mapping[str, Any], config: config_lib.Config, tasks: Any,
    mesh: jax.sharding.Mesh, workdir: epath.Path, stop: stop_lib.Stop,
    checkpointer: saving.Checkpointer, saved: saving.Restored | None
) -> dict[str, Any]:
  """The run, in a work directory that it has for itself."""
  began = time.time()
  # ---- Data: two views of each image, disjoint patches of them corrupted
  train, test = run_data.open_sources(
      config, raw, workdir, saved, stop.check)
  total_steps = assembly.total_steps(
      config, train.num_examples, saved.step if saved else 0)
  statistics = (
      saved.meta["statistics"] if run_data.goes_on(saved, raw)
      else inputs.data_statistics(config, tasks, train, poll=stop.check))
  parts = assembly.create(
      config, mesh, train, statistics, total_steps=total_steps,
      start=saved.step if saved else 0)
  model, tasks = parts.model, parts.tasks

  # ---- State: of the newest checkpoint, or the first
  progress = metrics.Progress(
      total_steps, config.batch_size, [t.name for t in tasks if t.trains])
  if saved:
    start, meta, state = checkpointer.restore(parts.shapes)
    evaluated = meta["evaluated"]
    progress.note("; changed: ".join(
        [f"{workdir}: resuming from step {start} of {total_steps}",
         *filter(None, [
             ", ".join(config_values.changes(meta["config"], raw))])]))
  else:
    start, evaluated = 0, True
    state = parts.first_state()
    if config.init_from:
      state = state.started_from(loading.transfer(
          state.params, loading.weights(config.init_from), config.model))
    progress.note(results.overview(workdir, train, state.params))
  results.save_sealed(workdir / "config.json", raw)

  # ---- Training: one forward pass, all losses, one update
  writer = metrics.Writer(workdir, start, evaluated)
  scorer = monitor.Scorer(config, model, mesh, train, test, stop.poll)
  state = loop.Loop(
      step_fn=parts.step,
      evaluate=scorer.during, diagnose=gradients.create(parts.objective, mesh),
      checkpointer=checkpointer, writer=writer, progress=progress,
      meta={"config": raw, "statistics": statistics,
            "data": run_data.describe(train)},
      config=config, mesh=mesh, workdir=workdir, total_steps=total_steps,
      stop=stop,
  ).run(state, start, evaluated, parts.batches.since(start))
  checkpointer.close(total_steps)

  # ---- Report: kNN beside the random-init encoder's, pictures, result.json
  report = metrics.last_report(workdir)
  scores = scorer.final(state.params, parts.first_state().params)
  if stop:
    raise errors.Preempted(
        f"{stop.name}: training is done, the evaluation is not")
  writer.write(total_steps, scores)
  pictures = run_report.save_report(
      workdir, model, state.params, inputs.sample(config, tasks, train), mesh)
  writer.close(total_steps, pictures)
  progress.note(results.summary(tasks, report | scores, pictures))
  return results.save_result(
      workdir, report | scores, total_steps, time.time() - began)


if __name__ == "__main__":
  entry.run(main)

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
from etils import epy
import jax
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.checkpoints import checks
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.diagnostics import gradients
from mtvit.diagnostics import monitor
from mtvit.models import pretrainer
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
from mtvit.training import loop
from mtvit.training import optimizer
from mtvit.training import run_data
from mtvit.training import sharding
from mtvit.training import train_state
from mtvit.training import train_step

with epy.lazy_imports():
  from mtvit.data import pipeline

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
      lambda: assembly.parse(raw, workdir, overrides))
  distributed.check_same(raw, "config")
  tasks = assembly.tasks(config)
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
      else assembly.data_statistics(config, tasks, train, poll=stop.check))
  tasks = tasks_lib.with_statistics(tasks, statistics)
  batches = pipeline.Batches(
      train, assembly.pipeline_spec(config, tasks, sharding.share(mesh)),
      saved.step if saved else 0, total_steps)

  # ---- Model: one ViT, and one head for each task
  model = pretrainer.Pretrainer(config.model, tasks)
  objective = train_step.Objective(
      model, config.weighting, config.optimizer.trainable, config.accumulate)
  tx = optimizer.create(config.optimizer, config.batch_size, total_steps)
  init = train_state.initializer(
      model, tx, assembly.input_shapes(batches.element_spec), config.weighting)
  progress = metrics.Progress(
      total_steps, config.batch_size, [t.name for t in tasks if t.trains])
  shapes = train_state.shapes(init, mesh)
  if saved:
    start, meta, state = checkpointer.restore(shapes)
    evaluated = meta["evaluated"]
    progress.note("; changed: ".join(
        [f"{workdir}: resuming from step {start} of {total_steps}",
         *filter(None, [
             ", ".join(config_values.changes(meta["config"], raw))])]))
  else:
    start, evaluated = 0, True
    state = train_state.create(init, config.seed, mesh)
    if config.init_from:
      state = state.started_from(loading.transfer(
          state.params, loading.weights(config.init_from)))
    progress.note(results.overview(workdir, train, state.params))
  results.save_sealed(workdir / "config.json", raw)

  # ---- Training: one forward pass, all losses, one update
  writer = metrics.Writer(workdir, start, evaluated)
  scorer = monitor.Scorer(config, model, mesh, train, test, stop.poll)
  state = loop.Loop(
      step_fn=train_step.create(
          objective, tx, optimizer.schedule(
              config.optimizer, config.batch_size, total_steps),
          total_steps, shapes, mesh),
      evaluate=scorer.during, diagnose=gradients.create(objective, mesh),
      checkpointer=checkpointer, writer=writer, progress=progress,
      meta={"config": raw, "statistics": statistics,
            "data": run_data.describe(train)},
      config=config, mesh=mesh, workdir=workdir, total_steps=total_steps,
      stop=stop,
  ).run(state, start, evaluated, batches.since(start))
  checkpointer.close(total_steps)

  # ---- Report: kNN beside the random-init encoder's, pictures, result.json
  report = metrics.last_report(workdir)
  scores = scorer.final(
      state.params, train_state.create(init, config.seed, mesh).params)
  if stop:
    raise errors.Preempted(
        f"{stop.name}: training is done, the evaluation is not")
  writer.write(total_steps, scores)
  pictures = run_report.save_report(
      workdir, model, state.params, assembly.sample(config, tasks, train), mesh)
  writer.close(total_steps, pictures)
  progress.note(results.summary(tasks, report | scores, pictures))
  return results.save_result(
      workdir, report | scores, total_steps, time.time() - began)


if __name__ == "__main__":
  entry.run(main)

r"""Pretrains a ViT with many self-supervised tasks in one forward pass.

  mtvit pretrain --config=quickstart \
      --config.tasks.colorize.mode=off --workdir=runs/my_run

Running the same command again continues from the last checkpoint; for that
--workdir is enough. With --config.total_steps=N beside it the run goes on to N
steps, a finished one too.
"""

import dataclasses
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from absl import flags
from etils import epath
import jax
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit.checkpoints import checks
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.diagnostics import collapse
from mtvit.diagnostics import gradients
from mtvit.pictures import run_report
from mtvit.probes import classifiers
from mtvit.probes import features
from mtvit.probes import run_heldout
from mtvit.probes import run_knn
from mtvit.probes import run_retrieval
from mtvit.run import command_line
from mtvit.run import config_values
from mtvit.run import distributed
from mtvit.run import entry
from mtvit.run import metrics
from mtvit.run import paths
from mtvit.run import progress as progress_lib
from mtvit.run import results
from mtvit.run import stop as stop_lib
from mtvit.run import workdir as workdir_lib
from mtvit.training import assembly
from mtvit.training import evaluation
from mtvit.training import evaluators as evaluators_lib
from mtvit.training import inputs
from mtvit.training import loop
from mtvit.training import run_data
from mtvit.training import run_tasks
from mtvit.training import saved_runs
from mtvit.training import sharding
from mtvit.training import train_state

if TYPE_CHECKING:
  from mtvit.data import datasets

# What looks at a run, in this order; see `training.evaluation`.
EVALUATORS = (
    gradients.Gradients,
    run_knn.Knn,
    run_retrieval.Retrieval,
    run_heldout.HeldOut,
    collapse.Collapse,
    classifiers.Classifiers,
    run_report.Report,
)


def define_flags() -> None:
  """Not on import: a program that imports this has flags of its own."""
  config_flags.DEFINE_config_file(
      "config", None, command_line.config_help())
  flags.DEFINE_string(
      "workdir", None, "Where the run is kept; default runs/<config name>.")
  flags.DEFINE_bool(
      "allow_config_change", False, "Continue a run with another config.")
  distributed.define_flags()


def main(
    prepare: Callable[[Any, epath.Path], Any] = lambda raw, workdir: raw
) -> None:
  """The command line; `prepare` may complete the config."""
  distributed.initialize()
  given = distributed.fail_together(lambda: entry.run_flags(
      flags.FLAGS["config"], flags.FLAGS.workdir, prepare))
  pretrain(given.config, given.workdir, overrides=given.overrides,
           allow_config_change=flags.FLAGS.allow_config_change)


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
  own, folder = raw is not None, paths.parse(workdir)
  raw, config = distributed.fail_together(
      lambda: saved_runs.parse(raw, folder, overrides))
  distributed.check_same(raw, "config")
  run_tasks.create(config)
  evaluators_lib.check(EVALUATORS, config)
  mesh = sharding.create_mesh(config.mesh)
  assembly.check_batch(config, mesh)
  with (workdir_lib.claimed(folder) as still_ours,
        workdir_lib.compiled(folder, own), jax.set_mesh(mesh),
        stop_lib.Stop(mesh, config.watchdog_seconds) as stop):
    checkpointer = saving.Checkpointer(
        folder, config.keep_checkpoints, still_ours)
    saved = checkpointer.newest()
    if saved:
      checks.check_data(saved.step, saved.meta)
    if saved and not allow_config_change:
      config_values.check_same(
          saved.meta["config"], raw,
          free=() if own else config_values.LENGTH + config_values.PLACES)
    return _run(_Job(
        raw=raw, config=config, mesh=mesh, workdir=folder, stop=stop,
        checkpointer=checkpointer, saved=saved))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
  """What a run has before its data.

  Attributes:
    raw: its config as plain values.
    config: the same, parsed.
    mesh: where it runs.
    workdir: which it has for itself.
    stop: the flag to poll.
    checkpointer: of `workdir`.
    saved: the checkpoint to continue; None for a new run.
  """
  raw: Mapping[str, Any]
  config: config_lib.Config
  mesh: jax.sharding.Mesh
  workdir: epath.Path
  stop: stop_lib.Stop
  checkpointer: saving.Checkpointer
  saved: saving.Restored | None


class _Start(NamedTuple):
  """Where training begins.

  Attributes:
    step: how many have been made.
    state: after it.
    evaluated: False if a signal cut the evaluation of that step short.
    note: what to tell.
  """
  step: int
  state: train_state.TrainState
  evaluated: bool
  note: str


def _run(job: _Job) -> dict[str, Any]:
  """The run, in a work directory that it has for itself."""
  began = time.time()
  # ---- Data: two views of each image, disjoint patches of them corrupted
  train, test = run_data.open_sources(
      job.config, job.raw, job.workdir, job.saved, job.stop.check)
  parts = _assemble(job, train)

  # ---- State: of the newest checkpoint, or the first
  start = _resume(job, parts) if job.saved else _begin(job, parts, train)
  progress = progress_lib.Progress(
      parts.total_steps, job.config.batch_size,
      [task.name for task in parts.tasks if task.trains])
  progress.note(start.note)
  results.save_sealed(job.workdir / "config.json", job.raw)

  # ---- Training: one forward pass, all losses, one update
  context = evaluation.Context(
      parts=parts, train=train, test=test, workdir=job.workdir,
      should_stop=job.stop.poll)
  members = [kind(context) for kind in EVALUATORS]
  writer = metrics.Writer(
      job.workdir, start.step, evaluators_lib.written_again(
          members, start.step, start.evaluated))
  evaluators = evaluators_lib.Evaluators(
      members=members, features=features.RunImages(context), writer=writer,
      progress=progress, stop=job.stop, workdir=job.workdir,
      random_start=not job.config.init_from)
  state = loop.Loop(
      step_fn=parts.step, evaluators=evaluators,
      checkpointer=job.checkpointer, writer=writer, progress=progress,
      meta={"config": job.raw, "statistics": parts.statistics,
            "data": run_data.describe(train)},
      config=job.config, mesh=job.mesh, workdir=job.workdir,
      total_steps=parts.total_steps, stop=job.stop,
  ).run(start.state, start.step, start.evaluated,
        parts.batches.since(start.step))
  job.checkpointer.close(parts.total_steps)

  # ---- Report: scores beside the random-init encoder's, pictures, result.json
  report = metrics.last_report(job.workdir)
  ended = evaluators.end(parts.total_steps, state, parts.first_state)
  writer.close()
  scores = report | ended.scalars
  progress.note(results.summary(parts.tasks, scores, ended.pictures))
  return results.save_result(
      job.workdir, scores, parts.total_steps, time.time() - began)


def _assemble(job: _Job, train: "datasets.Source") -> assembly.Parts:
  """The run's parts, with what its tasks knew of the data before."""
  start = job.saved.step if job.saved else 0
  total_steps = assembly.total_steps(job.config, train.num_examples, start)
  statistics = (
      job.saved.meta["statistics"]
      if job.saved and run_data.goes_on(job.saved, job.raw)
      else inputs.data_statistics(
          job.config, run_tasks.create(job.config), train,
          poll=job.stop.check))
  return assembly.create(
      job.config, job.mesh, train, statistics, total_steps=total_steps,
      start=start)


def _resume(job: _Job, parts: assembly.Parts) -> _Start:
  """The state of the newest checkpoint."""
  step, meta, state = job.checkpointer.restore(parts.shapes)
  changed = ", ".join(config_values.changes(meta["config"], job.raw))
  note = f"{job.workdir}: resuming from step {step} of {parts.total_steps}"
  return _Start(step, state, meta["evaluated"],
                "; changed: ".join(filter(None, [note, changed])))


def _begin(
    job: _Job, parts: assembly.Parts, train: "datasets.Source"
) -> _Start:
  """The first state."""
  state = parts.first_state()
  if job.config.init_from:
    state = state.started_from(loading.transfer(
        state.params, loading.weights(job.config.init_from), job.config.model))
  return _Start(
      0, state, True, results.overview(job.workdir, train, state.params))


if __name__ == "__main__":
  define_flags()
  entry.run(main)

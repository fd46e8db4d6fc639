"""Pretrains a ViT with many self-supervised tasks in one forward pass.

  python -m mtvit.pretrain --config=configs/quickstart.py \
      --config.tasks.colorize.mode=off --workdir=runs/my_run

Running the same command again continues from the last checkpoint.
"""

import importlib.metadata
import pathlib
import time
from typing import Any, Mapping

from absl import flags
from etils import epy
import jax
from ml_collections import config_flags

from mtvit import build
from mtvit import checkpoint
from mtvit import config as config_lib
from mtvit import entry
from mtvit import errors
from mtvit import loop
from mtvit import metrics
from mtvit import optimizer
from mtvit import sharding
from mtvit import tasks as tasks_lib
from mtvit import train_state
from mtvit import train_step
from mtvit.evals import gradients
from mtvit.evals import monitor
from mtvit.models import pretrainer

with epy.lazy_imports():
  from mtvit.data import pipeline

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file; --config.KEY=VALUE overrides a key.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run is kept; default runs/<config name>.")
_ALLOW_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "Continue a run with another config.")


def main() -> None:
  """The command line."""
  raw = entry.config_values(_CONFIG)
  workdir = _WORKDIR.value or entry.default_workdir(_CONFIG)
  pretrain(
      raw, pathlib.Path(workdir), allow_config_change=_ALLOW_CHANGE.value)


def pretrain(
    raw: Mapping[str, Any], workdir: pathlib.Path, *,
    allow_config_change: bool = False
) -> dict[str, Any]:
  """One run, from a config to `result.json`; continues what it finds there.

  Args:
    raw: the config as plain values.
    workdir: where the run is kept.
    allow_config_change: continue a run that had another config.

  Returns:
    What `result.json` holds.

  Raises:
    UserError: see `errors` for the kinds.
  """
  began = time.time()
  # ---- Configuration: all that can be wrong is found before data is touched
  config = config_lib.parse(raw)
  tasks = build.tasks(config)
  mesh = sharding.create_mesh(config.mesh)
  build.check_batch(config, mesh)
  checkpointer = checkpoint.Checkpointer(workdir, config.keep_checkpoints)
  start = checkpointer.latest_step() or 0
  saved = checkpointer.meta(start) if start else None
  if saved and not allow_config_change:
    build.check_same(saved["config"], raw)

  # ---- Data: two views of each image, disjoint patches of them corrupted
  train, test = build.sources(config.data)
  total_steps = build.total_steps(config, train.num_examples)
  statistics = (
      saved["statistics"] if saved else build.measure(config, tasks, train))
  tasks = tasks_lib.with_statistics(tasks, statistics)
  batches = pipeline.train_batches(
      train, build.pipeline_spec(config, tasks), start, total_steps)

  # ---- Model: one ViT, and one head for each task
  model = pretrainer.Pretrainer(config.model, tasks)
  objective = train_step.Objective(model, config.weighting)
  tx = optimizer.create(config.optimizer, config.batch_size, total_steps)
  init = train_state.initializer(
      model, tx, build.input_shapes(batches.element_spec), config.weighting)
  progress = metrics.Progress(
      total_steps, config.batch_size, [t.name for t in tasks if t.trains])
  with jax.set_mesh(mesh), loop.StopSignal() as stop:
    state = train_state.create(init, config.seed, mesh)
    if start:
      state = checkpointer.restore(start, state)
      progress.note(f"{workdir}: resuming from step {start} of {total_steps}")
    else:
      if config.init_from:
        state = state.started_from(checkpoint.transfer(
            state.params, checkpoint.load(config.init_from).params))
      build.save_json(workdir / "config.json", raw)
      progress.note(build.overview(workdir, train, state.params))

    # ---- Training: one forward pass, all losses, one update
    writer = metrics.Writer(workdir, start)
    knn = monitor.Knn(config, model, mesh, train, test, lambda: bool(stop))
    state = loop.Loop(
        step_fn=train_step.create(
            objective, tx, optimizer.schedule(
                config.optimizer, config.batch_size, total_steps),
            total_steps, state, mesh),
        evaluate=knn.during, evaluate_every=config.knn.every_steps,
        diagnose=gradients.create(objective, mesh),
        checkpointer=checkpointer, writer=writer, progress=progress,
        meta={"config": raw, "statistics": statistics}, config=config,
        mesh=mesh, workdir=workdir, total_steps=total_steps, stop=stop,
    ).run(state, start, batches.as_numpy_iterator())
    checkpointer.close()

    # ---- Report: kNN beside the random-init encoder's, pictures, result.json
    report = metrics.last_report(workdir)
    scores = knn.final(state.params)
    at_random = knn.final(train_state.create(init, config.seed, mesh).params)
    scores |= {f"{key}_random_init": x for key, x in at_random.items()}
    if stop:
      raise errors.Preempted(
          f"{stop.name}: training is done, the evaluation is not",
          "run the same command again to evaluate")
    writer.write(total_steps, scores)
    writer.close()
    pictures = monitor.save_report(
        workdir, model, state.params, build.sample(config, tasks, train))
  print(build.summary(tasks, report | scores, pictures))
  result = report | scores | {
      "steps": total_steps, "seconds": time.time() - began,
      "versions": {name: importlib.metadata.version(name) for name in (
          "jax", "flax", "optax", "orbax-checkpoint")}}
  build.save_json(workdir / "result.json", result)
  return result


if __name__ == "__main__":
  entry.run(main)

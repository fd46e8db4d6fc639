"""The parts of a run, made and checked from its configuration."""

import dataclasses
import math
import pathlib
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

import jax
from etils import epy

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.checkpoints import loading
from mtvit.checkpoints import saving
from mtvit.models import pretrainer
from mtvit.run import command_line
from mtvit.tasks import base
from mtvit.training import sharding

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline
  from mtvit.data import source as source_lib

# `data_statistics` learns from so many batches of so many images.
STATISTICS_BATCHES, STATISTICS_BATCH = 16, 64
# `sample` makes at least so many images, so that no host makes a slice's batch.
SAMPLE = 128


def geometry(config: config_lib.Config) -> base.Geometry:
  """The views of a run."""
  return base.Geometry(
      config.model.image_size, config.model.patch_size,
      config.views * config.batch_size, config.views)


def tasks(config: config_lib.Config) -> tuple[base.Task, ...]:
  """The tasks that are not off, checked against each other and the readout.

  Raises:
    ConfigError: they need more patches than there are, contradict each other,
      or have no such readout.
  """
  created = tasks_lib.create(config.tasks, geometry(config))
  for pass_tasks in passes(config, created).values():
    tasks_lib.check_capacity(pass_tasks, geometry(config).grid)
    mixing = [t.name for t in pass_tasks if t.mixes]
    if mixing and len(pass_tasks) > 1:
      raise errors.ConfigError(
          f"mixup or cutmix of {mixing[0]} would mix the images of the other "
          "tasks too", "both 0, or forward=separate")
  corrupting = [t.name for t in created if not t.trains]
  if config.forward == "separate" and corrupting:
    raise errors.ConfigError(
        f"mode=corrupt of {' and '.join(corrupting)} with forward=separate: a "
        "task without a loss has no forward pass", "use off, or forward=shared")
  _check_positions(created)
  momenta = {t.teacher_momentum for t in created if t.trains} - {None}
  if len(momenta) > 1:
    raise errors.ConfigError(
        f"the tasks want momentum encoders of {sorted(momenta)}",
        "there is one; use one momentum")
  pairs = [t.name for t in created if not t.single_views]
  if config.views == 1 and pairs:
    raise errors.ConfigError(
        f"views=1: {' and '.join(pairs)} compare or count two views of an "
        "image", "views=2")
  model = pretrainer.Pretrainer(config.model, created)
  readouts = {*model.encoder().token_names, "gap"}
  asked = {"knn.readout": config.knn.readout} | {
      f"tasks.{t.name}.readout": t.readout for t in created if t.readout}
  for key, readout in asked.items():
    if readout not in readouts:
      raise errors.ConfigError(
          f"{key}={readout}: the tasks that train give no such readout",
          f"choose one of {', '.join(sorted(readouts))}")
  return created


def _check_positions(tasks: Sequence[base.Task]) -> None:
  """Raises ConfigError if one encoder can't follow all position policies."""
  policies = {t.position_policy: t.name for t in tasks if t.position_policy}
  both = lambda a, b: (
      f"{policies[a]}.position={a} and {policies[b]}.position={b}: ")
  if "drop" in policies and "mask_token" in policies:
    raise errors.ConfigError(
        both("drop", "mask_token") + "a hidden embedding is either dropped or "
        "masked", "use the same for both")
  others = policies.keys() - {"drop_all"}
  if "drop_all" in policies and others:
    raise errors.ConfigError(
        both("drop_all", min(others)) + "the model has no embeddings at all",
        "use drop_all for both")


def passes(
    config: config_lib.Config, tasks: Sequence[base.Task]
) -> dict[str, tuple[base.Task, ...]]:
  """Which tasks share a forward pass, and so the patches of a view."""
  if config.forward == "shared":
    return {pretrainer.SHARED: tuple(tasks)}
  return {task.name: (task,) for task in tasks if task.trains}


def check_batch(config: config_lib.Config, mesh: jax.sharding.Mesh) -> None:
  """Raises ConfigError unless the views divide among devices and hosts."""
  shards = mesh.shape["data"] * mesh.shape["fsdp"]
  hosts = sharding.share(mesh).count
  views = shards * config.accumulate
  unit = views // math.gcd(views, config.views)
  if hosts > 1:
    # The views of an image stay on one device, since the rows of a host need
    # not be neighbours; and tasks that mix images take them in pairs.
    unit = math.lcm(unit, shards, 2 * hosts)
  if config.batch_size % unit:
    below = config.batch_size // unit * unit
    sizes = [str(s) for s in (below, below + unit) if s]
    pieces = f", in {config.accumulate} pieces" * (config.accumulate > 1)
    raise errors.ConfigError(
        f"batch_size={config.batch_size} images can't be divided among "
        f"{shards} devices and {hosts} hosts{pieces}",
        f"--config.batch_size={' or '.join(sizes)}")


def total_steps(
    config: config_lib.Config, num_examples: int, done: int = 0
) -> int:
  """Steps of the run.

  Args:
    config: of the run.
    num_examples: of the training split.
    done: steps that the run has made.

  Raises:
    ConfigError: it has made more than there are to be, or they are too many.
    DataError: the batch is larger than the data set.
  """
  if config.batch_size > num_examples:
    raise errors.DataError(
        f"{num_examples} training images are fewer than "
        f"batch_size={config.batch_size}",
        f"--config.batch_size={max(2, num_examples // 2 * 2)} or more images")
  steps = config.total_steps or max(
      1, round(config.total_epochs * num_examples / config.batch_size))
  if steps > config_lib.MAX_STEPS:
    raise errors.ConfigError(
        f"total_epochs={config.total_epochs} are {steps:.3g} steps; there can "
        f"be {config_lib.MAX_STEPS}", "fewer")
  if done > steps:
    raise errors.ConfigError(
        f"the run is at step {done}, and the config has {steps} steps",
        "more steps, or another --workdir")
  return steps


def pipeline_spec(
    config: config_lib.Config, tasks: Sequence[base.Task],
    share: sharding.Share | None = None
) -> "pipeline.Spec":
  """What the training pipeline makes: a share of each batch; all if None."""
  share = share or sharding.Share(0, 1)
  return pipeline.Spec(
      batch_size=config.batch_size, views=config.views,
      image_size=config.model.image_size,
      patch_size=config.model.patch_size, augment=config.augment,
      passes=passes(config, tasks) if tasks else {},
      gray_input=config.input == "gray", seed=config.seed,
      part=share.index, parts=share.count)


def sources(
    config: config_lib.Config, poll: Callable[[], None] = lambda: None,
    began: "source_lib.Began | None" = None
) -> tuple["datasets.Source", "datasets.Source"]:
  """The training and the test split.

  Args:
    config: of the run.
    poll: called regularly; may raise to stop.
    began: what the run goes on with; None takes what there is.

  Raises:
    ConfigError: no such data set, folder or split.
    DataError: not prepared, no images, or other classes in the two splits.
  """
  return datasets.open_splits(
      config.data, config.model.image_size // config.model.patch_size, poll,
      began)


def global_batches(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", start: int, stop: int
) -> Iterator[dict[str, Any]]:
  """Global batches of a run's steps, in numpy, however many hosts there are."""
  return iter(pipeline.Batches(
      source, pipeline_spec(config, tasks), start, stop))


def sample(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", step: int = 0
) -> dict[str, Any]:
  """The first images of a step's training batch, in numpy: all, if not many."""
  images = next(
      (n for n in range(SAMPLE, config.batch_size, 2)
       if config.batch_size % n == 0), config.batch_size)
  spec = pipeline_spec(
      config, tasks, sharding.Share(0, config.batch_size // images))
  return next(iter(pipeline.Batches(source, spec, step, step + 1)))


def data_statistics(
    config: config_lib.Config, tasks: Sequence[base.Task],
    source: "datasets.Source", num_batches: int = STATISTICS_BATCHES,
    poll: Callable[[], None] = lambda: None
) -> dict[str, Any]:
  """What the tasks need to know of the training views, by task name.

  `poll` is called for each batch; it may raise.
  """
  for task in tasks:
    task.check_classes(source.classes)
  config = dataclasses.replace(config, batch_size=STATISTICS_BATCH)
  batches = []
  for batch in global_batches(config, (), source, 0, num_batches):
    poll()
    batches.append(batch)
  return {task.name: task.statistics_of(batches) for task in tasks}


class TrainedRun(NamedTuple):
  """A checkpoint of a run, and what is needed to use it.

  Attributes:
    config: of the run.
    tasks: built, with the run's statistics.
    model: a `Pretrainer`.
    params: its parameters, numpy.
    step: of the checkpoint.
  """
  config: config_lib.Config
  tasks: tuple[base.Task, ...]
  model: pretrainer.Pretrainer
  params: Any
  step: int


def load_run(path: pathlib.Path, step: int | None = None) -> TrainedRun:
  """Rebuilds the model of a run from a checkpoint.

  Args:
    path: the work directory, or one of its checkpoints.
    step: of a run: which checkpoint; None for the newest.

  Raises:
    CheckpointError: there is none, or it is of no run.
  """
  return rebuild_run(loading.load_checkpoint(str(path), step), path)


def rebuild_run(loaded: saving.Restored, path: pathlib.Path) -> TrainedRun:
  """The model of a loaded checkpoint; raises as `load_run` does."""
  try:
    config = config_lib.parse(loaded.meta["config"])
    created = tasks_lib.with_statistics(
        tasks(config), loaded.meta["statistics"])
    model = pretrainer.Pretrainer(config.model, created)
    loading.check_encoder(
        model.encoder(), config.model.image_size, loaded.state["encoder"])
  except Exception as e:      # Its JSON may be anything.
    raise errors.CheckpointError(
        f"checkpoint {path} of step {loaded.step}: its metadata are of no "
        f"run: {command_line.one_line(e).partition(' fix: ')[0][:200]}",
        "use the mtvit that wrote it, or another checkpoint") from e
  return TrainedRun(config, created, model, loaded.state, loaded.step)


def input_shapes(element_spec: Mapping[str, Any]) -> dict[str, Any]:
  """Shapes of what the model sees of two views, from a batch's TensorSpecs."""
  shapes = batch_shapes(element_spec, 2)
  return {key: shapes[key] for key in ("passes", "queries")}


def batch_shapes(element_spec: Mapping[str, Any], rows: int) -> Any:
  """Shapes and dtypes of a batch of so many views, from its TensorSpecs."""
  return jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(
          (rows, *s.shape[1:]), s.dtype.as_numpy_dtype), dict(element_spec))


def parse(
    raw: Mapping[str, Any] | None, workdir: pathlib.Path,
    overrides: Sequence[str] = ()
) -> tuple[Mapping[str, Any], config_lib.Config]:
  """A run's config, plain and parsed.

  Args:
    raw: plain; None takes that of the newest checkpoint, which may be a
      stranger's, and does not say where caches go.
    workdir: of the run.
    overrides: --config.KEY=VALUE to change that one with.

  Raises:
    ConfigError: it is wrong, or there is no checkpoint.
  """
  if raw is not None:
    return raw, config_lib.parse(raw)
  raw = command_line.overridden(loading.saved_config(workdir), overrides)
  config = config_lib.parse(raw)
  given = {key: raw["data"][key] for key in ("cache_dir", "data_dir")
           if f"data.{key}" in command_line.keys(overrides)}
  return raw, dataclasses.replace(
      config, data=loading.own_places(config.data, **given))

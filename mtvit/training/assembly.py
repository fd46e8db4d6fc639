"""The one assembly of a run's parts, from its configuration and its data."""

import dataclasses
import functools
import math
from typing import Any, Callable, Mapping

from etils import epy
import jax
import optax

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.models import pretrainer
from mtvit.tasks import base
from mtvit.training import inputs
from mtvit.training import optimizer
from mtvit.training import run_tasks
from mtvit.training import sharding
from mtvit.training import train_state
from mtvit.training import train_step

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
  """What a run consists of. `dataclasses.replace` puts it on another mesh.

  Attributes:
    config: of the run.
    mesh: its devices; for planning, such as don't exist.
    tasks: built, with what they know of the data.
    statistics: that, as JSON, by task name.
    batches: this host's share of each, from the step where it goes on.
    total_steps: of the run.
  """
  config: config_lib.Config
  mesh: jax.sharding.Mesh
  tasks: tuple[base.Task, ...]
  statistics: Mapping[str, Any]
  batches: "pipeline.Batches"
  total_steps: int

  @functools.cached_property
  def model(self) -> pretrainer.Pretrainer:
    """One ViT, and one head for each task."""
    return pretrainer.Pretrainer(self.config.model, self.tasks)

  @functools.cached_property
  def objective(self) -> train_step.Objective:
    """What the run minimises."""
    return train_step.Objective(
        self.model, self.config.weighting, self.config.optimizer.trainable,
        self.config.accumulate)

  @functools.cached_property
  def schedule(self) -> optax.Schedule:
    """Learning rate by step."""
    return optimizer.schedule(
        self.config.optimizer, self.config.batch_size, self.total_steps)

  @functools.cached_property
  def tx(self) -> optax.GradientTransformation:
    """The optimizer."""
    return optimizer.create(
        self.config.optimizer, self.config.batch_size, self.total_steps)

  @functools.cached_property
  def init(self) -> Callable[[jax.Array], train_state.TrainState]:
    """A function from a key to the first state."""
    return train_state.initializer(
        self.model, self.tx, inputs.model_shapes(self.batches.element_spec),
        self.config.weighting)

  @functools.cached_property
  def shapes(self) -> train_state.TrainState:
    """Shapes, dtypes and shardings of a state."""
    return train_state.shapes(self.init, self.mesh)

  @functools.cached_property
  def step(self) -> Callable[[Any, Any], tuple[Any, train_step.Metrics]]:
    """The jitted train step, (state, batch) -> (state, metrics)."""
    return train_step.create(
        self.objective, self.tx, self.schedule, self.total_steps, self.shapes,
        self.mesh)

  def first_state(self) -> train_state.TrainState:
    """The state that the run's seed gives, made where its arrays belong."""
    return train_state.create(self.init, self.config.seed, self.mesh)

  def batch_shapes(self) -> Any:
    """Shapes, dtypes and shardings of a global batch."""
    place = sharding.batch_sharding(self.mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        inputs.batch_shapes(
            self.batches.element_spec,
            self.config.views * self.config.batch_size))


def create(
    config: config_lib.Config, mesh: jax.sharding.Mesh,
    source: "datasets.Source", statistics: Mapping[str, Any] | None = None, *,
    total_steps: int, start: int = 0
) -> Parts:
  """Assembles a run.

  Args:
    config: of the run.
    mesh: where it runs.
    source: the training split.
    statistics: of `inputs.data_statistics`; None learns from one batch, which
      does for everything but training.
    total_steps: of the run.
    start: the step after which it goes on.

  Raises:
    ConfigError: the config contradicts itself, or does not fit the mesh.
  """
  tasks = check(config, mesh)
  if statistics is None:
    statistics = inputs.data_statistics(config, tasks, source, num_batches=1)
  tasks = tasks_lib.with_statistics(tasks, statistics)
  tasks_lib.check_foreign(
      tasks, pretrainer.Pretrainer(config.model, tasks).encoder())
  batches = pipeline.Batches(
      source, inputs.pipeline_spec(config, tasks, sharding.share(mesh)),
      start, total_steps)
  return Parts(
      config=config, mesh=mesh, tasks=tasks, statistics=statistics,
      batches=batches, total_steps=total_steps)


def check(
    config: config_lib.Config, mesh: jax.sharding.Mesh
) -> tuple[base.Task, ...]:
  """The tasks, not yet built; raises ConfigError as `create` does."""
  tasks = run_tasks.create(config)
  check_batch(config, mesh)
  return tasks


def check_batch(config: config_lib.Config, mesh: jax.sharding.Mesh) -> None:
  """Raises ConfigError unless the views divide among devices and hosts."""
  unit = batch_unit(config, mesh)
  if config.batch_size % unit:
    below = config.batch_size // unit * unit
    sizes = [str(s) for s in (below, below + unit) if s]
    shards, hosts = _shards(mesh), sharding.share(mesh).count
    pieces = f", in {config.accumulate} pieces" * (config.accumulate > 1)
    raise errors.ConfigError(
        f"batch_size={config.batch_size} images can't be divided among "
        f"{shards} devices and {hosts} hosts{pieces}",
        f"--config.batch_size={' or '.join(sizes)}")


def batch_unit(config: config_lib.Config, mesh: jax.sharding.Mesh) -> int:
  """What the number of images in a batch must be a multiple of."""
  shards, hosts = _shards(mesh), sharding.share(mesh).count
  views = shards * config.accumulate
  unit = views // math.gcd(views, config.views)
  if hosts > 1:
    # The views of an image stay on one device, since the rows of a host need
    # not be neighbours; and tasks that mix images take them in pairs.
    unit = math.lcm(unit, shards, 2 * hosts)
  return unit


def _shards(mesh: jax.sharding.Mesh) -> int:
  """In how many pieces the devices take a batch."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


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

"""What is measured of a run of a study, once, when it has ended.

`measure` gives a flat dict; accuracies are percentages, of the test split.

  knn, linear                  of the readout that validation chose
  knn/readout, linear/readout  which one that is
  knn/R, linear/R              of each readout R
  knn_val/R, linear_val/R      on the validation tenth of the training images
  knn/correct, linear/correct  which test images are right, in order; see
                               `packed`
  knn_gray, linear_gray        the same readout, on test images without colour;
                               if the run's input has colour
  linear_shuffled_labels       after training labels were permuted: chance
  rankme, rankme/R             of test images; the first of kNN's readout
  loss/T, skill/T              of each task T that trains, on corrupted views of
                               test images
  cheat/T/B/trained, refitted  accuracy (a share) of a position task if B is
                               blank, see `diagnostics.cheat`: with the trained
                               head, and with one refitted on such views
  cheat/T/chance, slot_bound, count
  layers/M                     a list by layer, first the input of the blocks;
                               see `diagnostics.smoothing`
  position/r2                  leave-one-out, mean of position/r2_row and
                               position/r2_column
  position/distance_correlation
  mosaic/accuracy, low, high, chance
  gradients/W/G/T~T            cosine of two tasks' gradients: W is the third of
                               training, G the group of layers
  flops_step, seconds_step     of a train step; by the clock of the run itself
  steps, skipped               made, and of these without an update
  images_digest, digest        of the first two and the last batches' pixels,
                               and of the final parameters: SHA-256
  num_train, num_test          images of the probes
  num_classes                  of their labels
  seconds/P                    that the parts of measuring took

What a run does not have is left out: probes without labels, tasks of which
there is nothing, embeddings that a model lacks.
"""

import functools
import time
from typing import TYPE_CHECKING, Any, Callable, Mapping

from etils import epath
import jax

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.checkpoints import saving
from mtvit.probes import options
from mtvit.probes import subject as subject_lib
from mtvit.run import metrics
from mtvit.run import paths
from mtvit.study.measures import common
from mtvit.study.measures import inside
from mtvit.study.measures import probes
from mtvit.study.measures import training
from mtvit.training import assembly
from mtvit.training import inputs
from mtvit.training import run_tasks
from mtvit.training import saved_runs
from mtvit.training import sharding
from mtvit.training import train_state

if TYPE_CHECKING:
  from mtvit.data import datasets

Measures = common.Measures
DEFAULT = Measures()
_PARTS: Mapping[str, Callable[[common.Run, Measures], common.Found]] = {
    "probes": probes.probes, "tasks": inside.tasks, "cheat": inside.cheat,
    "layers": inside.layers, "position": inside.position,
    "mosaic": inside.mosaic, "training": training.training,
    "digests": training.digests}


def measure(
    raw: Mapping[str, Any], workdir: paths.Given | None,
    sizes: Measures = DEFAULT
) -> common.Found:
  """Measures a run.

  Args:
    raw: its config as plain values.
    workdir: where it is kept; None measures the first parameters, of a run
      that was not trained.
    sizes: see there.

  Returns:
    See the module.

  Raises:
    CheckpointError: the run has not ended.
    UserError: of the config or its data.
  """
  config = config_lib.parse(raw)
  mesh = sharding.create_mesh(config.mesh)
  with jax.set_mesh(mesh):
    found: common.Found = {}
    spent: common.Found = {}

    def timed(name: str, part: Callable[[], Any]) -> Any:
      began = time.perf_counter()
      value = part()
      spent[f"seconds/{name}"] = round(time.perf_counter() - began, 2)
      return value

    run = timed("open", lambda: _open(config, mesh, workdir))
    for name, part in _PARTS.items():
      found |= timed(name, functools.partial(part, run, sizes))
  return found | spent


def _open(
    config: config_lib.Config, mesh: jax.sharding.Mesh,
    workdir: paths.Given | None
) -> common.Run:
  """The run with its state and its data."""
  train, test = inputs.sources(config)
  total = assembly.total_steps(config, train.num_examples)
  lines: list[dict[str, float]] = []
  if workdir is None:
    parts = assembly.create(config, mesh, train, inputs.data_statistics(
        config, run_tasks.create(config), train), total_steps=total)
    state = parts.first_state()
  else:
    folder = paths.parse(workdir)
    parts, state = _trained(config, mesh, train, folder, total)
    lines = metrics.read(folder / metrics.METRICS)
  trained = saved_runs.TrainedRun(
      config, parts.tasks, parts.model, state.params, int(state.step))
  subject = subject_lib.Subject(
      encoder=encoder_lib.from_run(workdir or "first parameters", trained),
      mesh=mesh, train=train, test=test, folder=epath.Path(),
      options=options.Options())
  return common.Run(parts, trained, state, lines, subject)


def _trained(
    config: config_lib.Config, mesh: jax.sharding.Mesh,
    train: "datasets.Source", folder: epath.Path, total: int
) -> tuple[assembly.Parts, train_state.TrainState]:
  """The parts and the last state of a run."""
  checkpointer = saving.Checkpointer(folder, config.keep_checkpoints)
  saved = checkpointer.newest()
  if saved is None or saved.step != total:
    raise errors.CheckpointError(
        f"{folder}: the newest checkpoint is of step "
        f"{saved.step if saved else 0}, and the run has {total}",
        "let the run end first")
  parts = assembly.create(
      config, mesh, train, saved.meta["statistics"], total_steps=total)
  state = checkpointer.restore(parts.shapes).state
  checkpointer.close(total)
  return parts, state

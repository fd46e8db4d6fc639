"""The only training loop: step, log, checkpoint, evaluate, stop."""

import dataclasses
import functools
import pathlib
import shutil
import tempfile
import time
from typing import Any, Callable, Iterator, Mapping

from absl import logging
from etils import epath
import jax
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import saving
from mtvit.run import metrics as metrics_lib
from mtvit.run import paths
from mtvit.run import progress as progress_lib
from mtvit.run import skipped_steps
from mtvit.run import stop as stop_lib
from mtvit.training import evaluators as evaluators_lib
from mtvit.training import sharding

# Token features whose directions spread less than this have collapsed.
COLLAPSE_SPREAD = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
  """What a training loop needs beside the state.

  Attributes:
    step_fn: (state, batch) -> (state, metrics), donating the state.
    evaluators: that look at the run when it is time to.
    checkpointer: where states go.
    meta: JSON to save with every state.
    writer: where scalars go.
    progress: the lines on the terminal.
    config: of the run.
    mesh: of the run.
    workdir: for the profile.
    total_steps: where to stop.
    stop: the flag to poll.
  """
  step_fn: Callable[[Any, Any], tuple[Any, Mapping[str, jax.Array]]]
  evaluators: evaluators_lib.Evaluators
  checkpointer: saving.Checkpointer
  meta: dict[str, Any]
  writer: metrics_lib.Writer
  progress: progress_lib.Progress
  config: config_lib.Config
  mesh: jax.sharding.Mesh
  workdir: epath.Path
  total_steps: int
  stop: stop_lib.Stop

  def run(
      self, state: Any, start: int, evaluated: bool,
      batches: Iterator[Mapping[str, np.ndarray]]
  ) -> Any:
    """Trains from step `start` to the last and returns the final state.

    Args:
      state: after step `start`.
      start: 0 for a new run.
      evaluated: False if a signal cut the evaluation of step `start` short.
      batches: of the steps after `start`.

    Raises:
      Preempted: a signal came; the state has been saved.
      NonFiniteError: the loss is not finite, again and again.
    """
    if start:
      self.evaluators.recall()
    else:
      self.evaluators.begin(state)
    if not evaluated:
      evaluated = self.evaluators.after(start, state)
    pending: list[tuple[Any, jax.Array]] = []
    waited, since = 0.0, time.perf_counter()
    for step in range(start + 1, self.total_steps + 1):
      if self.stop.poll():
        self._report(step - 1, pending, waited, since)
        self._leave(step - 1, state, evaluated)
      self._start_profile(step, start)
      before = time.perf_counter()
      batch = next(batches)
      waited += time.perf_counter() - before
      batch = sharding.global_batch(batch, self.mesh)
      since += self.evaluators.before(step, state, batch)
      state, metrics = self.step_fn(state, batch)
      pending.append((metrics, batch["index"]))
      self._stop_profile(step, metrics)
      last = step == self.total_steps
      save = step % self.config.checkpoint_every == 0 or last
      if step % self.config.log_every == 0 or save:
        self._report(step, pending, waited, since)
        pending, waited, since = [], 0.0, time.perf_counter()
      before = time.perf_counter()
      evaluated = last or self.evaluators.after(step, state)
      since += time.perf_counter() - before
      if save:            # After the report, which may end the run.
        self._save(step, state, evaluated)
    return state

  def _save(self, step: int, state: Any, evaluated: bool) -> None:
    self.checkpointer.save(step, state, self.meta | {"evaluated": evaluated})

  def _leave(self, step: int, state: Any, evaluated: bool) -> None:
    """Saves the state after a step, if there was one, and ends the run."""
    if step:
      self._save(step, state, evaluated)
    self.checkpointer.close(step)
    raise errors.Preempted(
        f"{self.stop.name}: saved step {step} of {self.total_steps}" if step
        else f"{self.stop.name}: before the first step; nothing is lost")

  def _report(
      self, step: int, pending: list[tuple[Any, jax.Array]], waited: float,
      since: float
  ) -> None:
    """Averages, checks, writes and shows the metrics since the last report."""
    if not pending:
      return
    steps, indices = zip(*pending)
    steps = jax.device_get(steps)                # Waits for the device.
    seconds = time.perf_counter() - since
    per_step = seconds / len(pending)
    skipped_steps.check(
        step - len(steps) + 1, steps, indices, self.config.max_skipped_steps,
        self.writer.skipped_steps)
    scalars = metrics_lib.mean(steps)
    scalars["train/images_per_second"] = self.config.batch_size / per_step
    scalars["train/data_wait"] = waited / seconds
    self.writer.write(step, scalars)
    self.progress.show(step, per_step, waited / seconds, scalars)
    for key, value in scalars.items():
      if key.endswith("_spread") and value < COLLAPSE_SPREAD:
        token = key.removeprefix("features/").removesuffix("_spread").upper()
        logging.warning(
            "step %d: [%s] features have collapsed (spread %.4f); try a lower "
            "learning rate or a higher contrastive temperature", step, token,
            value)

  def _start_profile(self, step: int, start: int) -> None:
    """Starts a jax.profiler trace before the first chosen step."""
    first, last = self.config.profile_steps
    if step == max(first, start + 1) and step <= last:
      jax.profiler.start_trace(str(self._profile))

  def _stop_profile(self, step: int, metrics: Any) -> None:
    """Ends the trace once the last chosen step is done."""
    if step == self.config.profile_steps[1]:
      jax.block_until_ready(metrics)
      jax.profiler.stop_trace()
      if paths.is_remote(self.workdir):
        paths.upload(self._profile, self.workdir / "profile")
        shutil.rmtree(self._profile)
      self.progress.note(f"profile written to {self.workdir / 'profile'}")

  @functools.cached_property
  def _profile(self) -> pathlib.Path:
    """Where the profiler writes, which knows no gs://."""
    if not paths.is_remote(self.workdir):
      return pathlib.Path(self.workdir / "profile")
    return pathlib.Path(tempfile.mkdtemp(prefix="mtvit_profile_"))

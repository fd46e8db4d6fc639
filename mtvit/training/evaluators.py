"""Calls a run's evaluators when it is time to, and keeps what they find."""

import dataclasses
import functools
import time
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from absl import logging
from etils import epath
import jax

from mtvit import config as config_lib
from mtvit import errors
from mtvit.run import distributed
from mtvit.run import metrics
from mtvit.run import paths
from mtvit.run import progress as progress_lib
from mtvit.run import stop as stop_lib
from mtvit.training import evaluation
from mtvit.training import train_state

RANDOM = "_random_init"      # Ends the names of what random parameters give.
CHANCE = "/chance"           # Ends those of what they have no part in.


def check(
    kinds: Sequence[type[evaluation.Evaluator]], config: config_lib.Config
) -> None:
  """Raises ConfigError if a section is of no evaluator, or wrong."""
  known = [kind.name for kind in kinds if kind.settings]
  for name in config.evaluators:
    if name not in known:
      raise errors.ConfigError(
          f"evaluators.{name}: no listed evaluator has such a section"
          + errors.suggest(name, known))
  for kind in kinds:
    evaluation.section(kind, config)


class Outcome(NamedTuple):
  """What the end of a run has found.

  Attributes:
    scalars: by name.
    pictures: files in `report/`, on the first process.
  """
  scalars: dict[str, float]
  pictures: list[epath.Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluators:
  """All of a run, called when it is time to.

  Attributes:
    members: in the order in which they run.
    features: (params, split, limit) -> `evaluation.Features`.
    writer: where scalars go.
    progress: the lines on the terminal.
    stop: the flag to poll.
    workdir: of the run.
    random_start: whether a new run starts from random parameters.
  """
  members: Sequence[evaluation.Evaluator]
  features: Callable[[Any, str, int], evaluation.Features]
  writer: metrics.Writer
  progress: progress_lib.Progress
  stop: stop_lib.Stop
  workdir: epath.Path
  random_start: bool = True
  # Of members' names, what they found with random parameters.
  _at_random: dict[str, Mapping[str, float]] = dataclasses.field(
      init=False, repr=False, default_factory=dict)
  # The same of scalars, for people.
  _beside: dict[str, float] = dataclasses.field(
      init=False, repr=False, default_factory=dict)

  def begin(self, state: Any) -> None:
    """Looks at the state that a new run starts from: a curve's first point."""
    due = [m for m in self.members if m.at_end == "compare" and m.every]
    found = self._looked(0, state, due) or []
    if self.random_start:
      self._at_random.update(
          (m.name, each.scalars) for m, each in zip(due, found))
      self._beside.update(_merged(found))
      self._show_score(_merged(found))

  def recall(self) -> None:
    """Takes what is shown on the terminal from what a run has written."""
    lines = metrics.read(self.workdir / metrics.METRICS)
    if self.random_start:
      for line in lines:
        self._beside.update(line if line["step"] == 0 else {})
    self._show_score({key: x for line in lines for key, x in line.items()})

  def before(self, step: int, state: Any, batch: Any) -> float:
    """Looks at a step before it is made; the seconds it took."""
    due = self._due("before", step)
    if not due:
      return 0.0
    jax.block_until_ready(state)       # What was under way is not their cost.
    since = time.perf_counter()
    look = self._look(step=step, state=state, batch=batch)
    for member in due:
      began = time.perf_counter()
      found = self._found(member, look)
      self.writer.write(step, found.scalars)
      seconds = time.perf_counter() - began
      self.progress.note(
          f"step {step} · {member.title or member.name}: {seconds:.1f} s")
      self._draw_meanwhile(step, [found])
    return time.perf_counter() - since

  def after(self, step: int, state: Any) -> bool:
    """Looks at the state after a step; False if a signal cut it short."""
    return self._looked(step, state, self._due("after", step)) is not None

  def _looked(
      self, step: int, state: Any, due: Sequence[evaluation.Evaluator]
  ) -> list[evaluation.Found] | None:
    """What those that are due have found; None if a signal cut it short."""
    look = self._look(step=step, state=state)
    found = [self._found(member, look) for member in due]
    if self.stop:
      return None
    scalars = _merged(found)
    if scalars:
      self.writer.write(step, scalars)
      self._show_score(scalars)
      self.progress.found(step, self._told(step, due, found))
    self._draw_meanwhile(step, found)
    return found

  def _told(
      self, step: int, members: Sequence[evaluation.Evaluator],
      found: Sequence[evaluation.Found]
  ) -> list[str]:
    """What the log says of a look: headlines, or all of who has none."""
    texts = [] if step or not self.random_start else ["random init"]
    for member, each in zip(members, found):
      for key, x in each.scalars.items():
        if key == member.headline:
          beside = (f" (random init {self._beside[key]:.3f})"
                    if key in self._beside else "")
          texts.append(f"{member.title or key} {x:.3f}{beside}")
        elif not member.headline:
          texts.append(f"{key} {x:.3f}")
    return texts

  def _show_score(self, scalars: Mapping[str, float]) -> None:
    """Has the lines of progress show the first headline that there is."""
    for member in self.members:
      if member.headline in scalars:
        self.progress.score(
            member.title or member.name, scalars[member.headline],
            self._beside.get(member.headline))
        return

  def end(
      self, step: int, state: Any, first: Callable[[], train_state.TrainState]
  ) -> Outcome:
    """Looks at the trained state, and at the one that `first` makes.

    Raises:
      Preempted: a signal came.
    """
    ending = [m for m in self.members if m.at_end != "nothing"]
    found = self._ended(ending, step, state)
    scalars = _merged(found)
    compared = [m for m in ending if m.at_end == "compare"]
    known = [m for m in compared if m.same_images and m.name in self._at_random]
    at_random = [self._at_random[m.name] for m in known]
    others = [m for m in compared if m not in known]
    if others:
      at_random += [
          each.scalars for each in self._ended(others, step, first())]
    scalars |= {f"{key}{RANDOM}": x
                for each in at_random for key, x in each.items()
                if not key.endswith(CHANCE)}
    self.writer.write(step, scalars)
    return Outcome(scalars, self._draw(step, found))

  def _ended(
      self, members: Sequence[evaluation.Evaluator], step: int, state: Any
  ) -> list[evaluation.Found]:
    look, found = self._look(step=step, state=state, final=True), []
    for member in members:
      found.append(self._found(member, look))
      if self.stop:
        raise errors.Preempted(
            f"{self.stop.name}: training is done, the evaluation is not")
    return found

  def _due(self, when: str, step: int) -> list[evaluation.Evaluator]:
    return [m for m in self.members
            if m.when == when and m.every and step % m.every == 0]

  def _look(self, *, state: Any, **moment: Any) -> evaluation.Look:
    return evaluation.Look(state=state, features=functools.cache(
        functools.partial(self.features, state.params)), **moment)

  def _found(
      self, member: evaluation.Evaluator, look: evaluation.Look
  ) -> evaluation.Found:
    found = member.run(look)
    for key in found.scalars:
      if not member.owns(key):
        raise ValueError(
            f"evaluator {member.name!r} has a scalar {key!r}; call it "
            f"{member.name}/{key}, or let `owns` know it")
    return found

  def _draw(
      self, step: int, found: Sequence[evaluation.Found]
  ) -> list[epath.Path]:
    """Lets them draw, for `report/` and TensorBoard, on the first process."""
    draws = [each.draw for each in found if each.draw]
    if not draws or not distributed.is_main():
      return []
    folder = self.workdir / "report"
    with paths.on_disk(folder) as disk:
      files = [file for draw in draws for file in draw(disk)]
      self.writer.pictures(step, files)
    return [folder / file.name for file in files]

  def _draw_meanwhile(
      self, step: int, found: Sequence[evaluation.Found]
  ) -> None:
    """The same while a run trains, which goes on without them."""
    try:
      self._draw(step, found)
    except OSError as e:
      logging.warning("step %d has no pictures: %s", step, e)


def _merged(found: Sequence[evaluation.Found]) -> dict[str, float]:
  return {key: x for each in found for key, x in each.scalars.items()}


def written_again(
    members: Sequence[evaluation.Evaluator], start: int, evaluated: bool
) -> Callable[[Mapping[str, Any]], bool]:
  """Which lines of metrics.jsonl a run will write again when it goes on.

  Args:
    members: its evaluators.
    start: the step that it goes on from.
    evaluated: False if a signal cut the evaluation of that step short.
  """
  looked = [m for m in members if m.when == "after"]

  def again(line: Mapping[str, Any]) -> bool:
    if not start:            # A new run, in the place of one that was killed.
      return True
    if any(key.endswith((RANDOM, "/final_accuracy")) for key in line):
      return True
    return not evaluated and line["step"] == start and any(
        m.owns(key) for m in looked for key in line)
  return again

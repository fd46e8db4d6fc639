"""The cheat index: how much of a position task needs no picture.

Accuracy minus chance on views whose contents are all blank, or whose position
embeddings are; with the trained head, which has never seen such features and so
understates, and with a head that is refitted on them. A third kind blanks only
the patches that the task asks about: what is left to read then are their slots
and their surroundings. It bounds from above what those give away, since blank
patches can be told from the rest.
"""

import dataclasses
import math
from typing import (
    TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence)

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from mtvit.models import parameter_names
from mtvit.models import pretrainer
from mtvit.training import inputs
from mtvit.training import saved_runs

if TYPE_CHECKING:
  from mtvit.data import datasets
  from mtvit.tasks import base

# What is blank -> whether the queried patches, all contents, all positions are.
_PARTS = {
    "nothing": (False, False, False), "queried": (True, False, False),
    "contents": (False, True, False), "positions": (False, False, True),
    "both": (False, True, True)}
BLANKS = tuple(_PARTS)
GRAY = 128
LEARNING_RATE = 3e-3
RUN_BATCH = 64     # Images.


def blank(
    views: Mapping[str, jax.Array], what: str, ids: jax.Array
) -> dict[str, jax.Array]:
  """Takes contents or position embeddings from views.

  Args:
    views: `image` uint8 [b, h, w, 3] and `hide_position` bool [b, n].
    what: one of `BLANKS`: "queried" are the contents of `ids`, "contents" those
      of all patches, "positions" all embeddings, "both" the last two.
    ids: int32 [b, ...], the patches that the task asks about.
  """
  return _blank(views, jnp.array(_PARTS[what]), ids)


def _blank(
    views: Mapping[str, jax.Array], parts: jax.Array, ids: jax.Array
) -> dict[str, jax.Array]:
  """The same of a row of `_PARTS`, so that one program does for all of them."""
  queried, contents, positions = parts
  image, hide = views["image"], views["hide_position"]
  (b, h, w, _), n = image.shape, hide.shape[1]
  side = math.isqrt(h * w // n)                             # of a patch
  mask = jnp.zeros((b, n), bool).at[
      jnp.arange(b)[:, None], ids.reshape(b, -1)].set(queried) | contents
  mask = mask.reshape(b, h // side, w // side)
  mask = mask.repeat(side, axis=1).repeat(side, axis=2)     # [b, h, w]
  return dict(views) | {
      "image": jnp.where(mask[..., None], GRAY, image).astype(jnp.uint8),
      "hide_position": hide | positions}


@dataclasses.dataclass(frozen=True)
class Result:
  """Accuracy of one task on one kind of input.

  Attributes:
    blank: one of `BLANKS`.
    trained: accuracy of the head as it was trained.
    refitted: accuracy of a head refitted on such inputs.
    count: how many answers were asked for.
  """
  blank: str
  trained: float
  refitted: float
  count: int


def accuracy_of_heads(
    model: pretrainer.Pretrainer, params: Mapping[str, Any], task: "base.Task",
    blanks: Sequence[str], fit: Iterable[Mapping[str, Any]],
    test: Iterable[Mapping[str, Any]]
) -> list[Result]:
  """Evaluates a task on views that are blanked in several ways.

  Args:
    model: of the run.
    params: of the model; the encoder stays as it is.
    task: whose queries hold `ids` and whose answers hold `label`.
    blanks: some of `BLANKS`.
    fit: batches to refit heads on, one Adam step of each head each.
    test: other batches, to count right answers on.
  """
  encoder, head = model.encoder(), task.head()

  @jax.jit
  def encode(parts, batch):
    views = batch["passes"][pretrainer.pass_of(task.name, batch["passes"])]
    views = _blank(views, parts, batch["queries"][task.name]["ids"])
    return encoder.apply(
        {"params": params["encoder"]}, views["image"], views["hide_position"])

  predict: Callable[..., Any] = lambda head_params, features, batch: head.apply(
      {"params": head_params}, features, batch["queries"][task.name])
  correct = jax.jit(lambda head_params, features, batch: jnp.sum(
      predict(head_params, features, batch).argmax(-1)
      == batch["answers"][task.name]["label"]))

  def seen(batches):
    for batch in batches:
      batch = _arrays(batch, task)
      yield batch, [encode(jnp.array(_PARTS[x]), batch) for x in blanks]

  refitted = _refit(head, task, predict, seen(fit))
  trained = params[parameter_names.head(task.name)]
  right, count = np.zeros((len(blanks), 2)), 0
  for batch, features in seen(test):
    right += [[float(correct(h, x, batch)) for h in (trained, refit)]
              for x, refit in zip(features, refitted)]
    count += batch["answers"][task.name]["label"].size
  return [Result(what, trained=one, refitted=other, count=count)
          for what, (one, other) in zip(blanks, (right / count).tolist())]


def interval(chance: float, count: int) -> tuple[float, float]:
  """Where 99 % of accuracies of pure guessing lie: a binomial interval."""
  low, high = stats.binom.interval(0.99, count, chance)
  return float(low / count), float(high / count)


def index(
    model: pretrainer.Pretrainer, params: Mapping[str, Any],
    fit: Callable[[], Iterable[Any]], test: Callable[[], Iterable[Any]],
    blanks: Sequence[str] = BLANKS
) -> list[dict[str, Any]]:
  """One row for each position task that trained and each kind of blanking.

  Args:
    model: of the run.
    params: of the model.
    fit: makes the batches to refit heads on.
    test: makes other batches, to count right answers on.
    blanks: some of `BLANKS`.
  """
  rows = []
  for task in model.tasks:
    if not (task.trains and task.position_policy) or task.chance is None:
      continue
    for found in accuracy_of_heads(
        model, params, task, blanks, fit(), test()):
      low, high = interval(task.chance, found.count)
      rows.append({
          "task": task.name, "position": task.position_policy,
          "chance": task.chance, "slot_bound": task.slot_bound,
          "chance_low": low, "chance_high": high,
          **dataclasses.asdict(found)})
  return rows


def table(rows: list[dict[str, Any]]) -> str:
  """The rows as text."""
  lines = []
  for row in rows:
    if row["blank"] == BLANKS[0]:
      bound = row["slot_bound"]
      lines += [
          "", f"{row['task']}, position={row['position']}, "
          f"{row['count']} answers; chance {row['chance']:.3f}, 99 % of "
          f"guessing {row['chance_low']:.3f} .. {row['chance_high']:.3f}"
          + ("" if bound is None else f"; slots alone {bound:.3f}"),
          f"{'blank':12} {'trained head':>12} {'index':>7} "
          f"{'refitted':>12} {'index':>7}"]
    lines.append(
        f"{row['blank']:12} {row['trained']:12.3f} "
        f"{row['trained'] - row['chance']:+7.3f} {row['refitted']:12.3f} "
        f"{row['refitted'] - row['chance']:+7.3f}")
  return "\n".join(lines[1:])


def _refit(
    head: Any, task: "base.Task", predict: Callable[..., Any],
    seen: Iterable[tuple[Mapping[str, Any], Sequence[Any]]]
) -> list[Any]:
  """Trains fresh heads on frozen features, by the task's own loss.

  Args:
    head: the module.
    task: of the head.
    predict: (head's parameters, features, batch) -> predictions.
    seen: batches, each with what the encoder makes of k blankings of it.

  Returns:
    The parameters of k heads, which began alike.
  """
  tx = optax.adam(LEARNING_RATE)

  @jax.jit
  def step(head_params, opt_state, features, batch):
    loss = lambda p: task.loss(
        predict(p, features, batch), batch["answers"][task.name])[0]
    updates, opt_state = tx.update(jax.grad(loss)(head_params), opt_state)
    return optax.apply_updates(head_params, updates), opt_state

  fitted: list[tuple[Any, Any]] = []
  for batch, features in seen:
    if not fitted:
      first = head.init(
          jax.random.key(0), features[0], batch["queries"][task.name])["params"]
      fitted = [(first, tx.init(first))] * len(features)
    fitted = [step(*one, x, batch) for one, x in zip(fitted, features)]
  return [head_params for head_params, _ in fitted]


def _arrays(batch: Mapping[str, Any], task: "base.Task") -> dict[str, Any]:
  """What a task needs of a batch."""
  place = pretrainer.pass_of(task.name, batch["passes"])
  return {
      "passes": {place: batch["passes"][place]},
      "queries": {task.name: batch["queries"][task.name]},
      "answers": {task.name: batch["answers"][task.name]}}


def of_run(
    run: saved_runs.TrainedRun | None, train: "datasets.Source",
    test: "datasets.Source", fit_steps: int, blanks: Sequence[str] = BLANKS
) -> list[dict[str, Any]]:
  """The cheat index of a run's position tasks, in batches of few images.

  Args:
    run: None for a file of weights, which has no tasks, and so no rows.
    train: heads are refitted on its images.
    test: answers are counted on its images, in a third as many batches.
    fit_steps: steps to refit a head; 0 for no rows.
    blanks: some of `BLANKS`.
  """
  if not fit_steps or run is None:
    return []
  size = min(RUN_BATCH, run.config.batch_size, train.num_examples,
             test.num_examples)
  config = dataclasses.replace(run.config, batch_size=size // 2 * 2)
  if config.batch_size < 2:
    return []
  batches = lambda source, steps: inputs.global_batches(
      config, run.tasks, source, 0, steps)
  return index(
      run.model, run.params, lambda: batches(train, fit_steps),
      lambda: batches(test, max(1, fit_steps // 3)), blanks)

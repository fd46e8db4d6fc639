"""What a new task does wrong is answered with what to write.

`declaration` looks at the class when it is listed. `behaviour` corrupts a tiny
batch and traces head and loss, before anything compiles: a run does that with
tasks from outside this package; those in it are checked by its tests.
"""

import dataclasses
import math
from typing import Any, Mapping, NoReturn

from etils import epy
import flax.linen as nn
import jax
import numpy as np

from mtvit import errors
from mtvit.models import interface
from mtvit.tasks import base

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import corruption
  from mtvit.data import draws

_DATACLASS = "@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)"
IMAGES = 2       # Of the tiny batch.


def declaration(
    key: str, task: type[base.Task], others: Mapping[str, type[base.Task]]
) -> None:
  """Raises ConfigError unless a class may be listed under a key.

  Args:
    key: under which it is listed.
    task: the class.
    others: the table that it joins.
  """
  kind = f"the task {task.__name__}"
  name, token = getattr(task, "name", ""), task.token
  tokens = {"cls": "every encoder", "gap": "the mean patch"} | {
      x.token: x.name for x in others.values() if x.token}
  lacks = [method for method in ("head", "loss", "trivial_loss")
           if getattr(task, method) is getattr(base.Task, method)]
  decorated = vars(task).get("__dataclass_params__")
  if not isinstance(name, str) or not name:
    _refuse(f"{kind} has no name", 'name = "..." in its class body')
  if not name.isidentifier():
    _refuse(f"{kind} has the name {name!r}, which can't be a config key",
            "letters, digits and _")
  if name != key:
    _refuse(f"{kind} has the name {name!r} and is listed as {key!r}",
            f'tasks.TASKS["{name}"]')
  if name in others:
    _refuse(f"{kind} has the name {name!r} of {others[name].__name__}",
            "another name")
  if decorated is None or decorated.eq:
    _refuse(f"{kind} is no dataclass that is its own identity",
            f"{_DATACLASS} above the class")
  if lacks:
    _refuse(f"{kind} has no {' and no '.join(lacks)}",
            "define what `base.Task` says of it")
  if token is not None and (not token.isidentifier() or token in tokens):
    _refuse(f"{kind} has the token {token!r} of {tokens.get(token, 'nobody')}",
            "another name, of letters, digits and _")


def behaviour(task: base.Task, encoder: interface.Encoder) -> None:
  """Raises ConfigError unless a task does what `base.Task` says.

  Args:
    task: built, with its statistics.
    encoder: of the run, whose outputs its head reads.
  """
  queries, answers, images = _corrupted(task)
  if not task.trains:
    return
  if not 0 < task.trivial_loss < math.inf:
    _refuse(f"{task.name}: trivial_loss is {task.trivial_loss}",
            "the loss of a constant guess; the step divides by it")
  head = task.head()
  if not isinstance(head, nn.Module) or head.name is not None:
    _refuse(f"{task.name}: head() gives {type(head).__name__} of the name "
            f"{getattr(head, 'name', None)!r}", "a Flax module without name=")
  features, _ = jax.eval_shape(
      encoder.init_with_output, jax.random.key(0), images)
  predicted, _ = jax.eval_shape(
      lambda rng, *inputs: head.init_with_output(
          rng, inputs[0], _Fields(task, "head", "queries", inputs[1])),
      jax.random.key(0), features, queries)
  if task.teacher_momentum is not None:
    answers["teacher"] = predicted
  if state := task.init_state():
    answers["state"] = state
  given = jax.eval_shape(
      lambda predicted, answers: task.loss(
          predicted, _Fields(task, "loss", "answers", answers)),
      predicted, answers)
  _check_loss(task.name, given)


def _check_loss(name: str, given: Any) -> None:
  """Refuses what `loss` gave unless it is a scalar and metrics."""
  if not (isinstance(given, tuple) and len(given) == 2
          and isinstance(given[1], dict)):
    _refuse(f"{name}: loss gives {type(given).__name__}",
            "return loss, {metric: scalar}")
  shapes = {"the loss": given[0].shape} | {
      f"the metric {key}": x.shape for key, x in given[1].items()}
  for what, shape in shapes.items():
    if shape != ():
      _refuse(f"{name}: {what} has the shape {shape}",
              "a scalar, such as a mean over the batch")
  if "skill" not in given[1]:
    _refuse(f"{name}: loss gives no metric skill",
            '{"skill": 1 - loss / loss of a constant guess}')


class _Fields(dict):
  """Queries or answers, whose missing fields are named."""

  def __init__(
      self, task: base.Task, reader: str, what: str, fields: Mapping[str, Any]
  ):
    super().__init__(fields)
    self._task, self._reader, self._what = task, reader, what

  def __missing__(self, key: str) -> NoReturn:
    _refuse(
        f"{self._task.name}: {self._reader} reads {self._what}[{key!r}]; there "
        f"are: {', '.join(self) or 'none'}",
        f"give it among the {self._what} of corrupt")


def _corrupted(
    task: base.Task
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
  """Queries and answers of a tiny batch, and its images [b, h, w, 3]."""
  geometry = task.geometry
  b, (gh, gw) = IMAGES * geometry.views, geometry.grid
  images = np.random.default_rng(0).integers(
      0, 256, (b, *(geometry.image_size,) * 2, 3), np.uint8)
  draw = draws.for_step(0, 0, b, 0, b)
  whole = task.corrupt_image(tf.constant(images), draw.fold("image"))
  _check_pixels(task.name, "corrupt_image", whole, images.shape)
  layout = corruption.Layout(
      (gh, gw), corruption.block_partition((gh, gw), draw),
      tf.zeros([b, gh * gw], tf.bool), whole.pixels, whole.pixels,
      tf.zeros([b], tf.bool), tf.zeros([b], tf.int32))
  ids = task.claim(layout, draw.fold("claim"))
  _check_claim(task, ids, (b, gh * gw))
  patches = None
  if ids is not None:
    patches = layout.cut(whole.pixels, ids)                 # [b, k, p, p, 3]
    layout = layout.claimed(ids)
  after = task.corrupt(patches, ids, layout, draw)
  _check_pixels(
      task.name, "corrupt", after,
      None if patches is None else tuple(patches.shape))
  layout = dataclasses.replace(layout, changed=layout.taken)
  queries = whole.queries | after.queries
  answers = whole.answers | after.answers | task.context(layout, queries)
  numpy = lambda tree: {key: np.asarray(x) for key, x in tree.items()}
  for key, x in (numpy(queries) | numpy(answers)).items():
    if x.shape[:1] != (b,):
      _refuse(f"{task.name}: {key!r} of corrupt has the shape {x.shape}",
              f"a row for each of the {b} views")
  return numpy(queries), numpy(answers), images


def _check_claim(
    task: base.Task, ids: Any, shape: tuple[int, int]
) -> None:
  """Refuses ids of another kind; of views and patches `shape` [b, n]."""
  count = 9 * task.num_blocks + 2 * task.num_neighbours + task.num_patches
  want = f"int32 [{shape[0]}, {count}] of different patches"
  if ids is None and count:
    _refuse(f"{task.name}: claim gives nothing", f"{want}, as num_patches says")
  if ids is None:
    return
  if ids.dtype != tf.int32 or ids.shape != (shape[0], count):
    _refuse(f"{task.name}: claim gives {ids.dtype.name} {tuple(ids.shape)}",
            f"{want}: num_patches, 9 num_blocks and 2 num_neighbours")
  found = ids.numpy()
  if found.size and not 0 <= found.min() <= found.max() < shape[1]:
    _refuse(f"{task.name}: claim gives ids beyond the {shape[1]} patches", want)
  if any(len(set(row)) != count for row in found.tolist()):
    _refuse(f"{task.name}: claim gives a patch twice", want)


def _check_pixels(
    name: str, method: str, given: Any, shape: tuple[int, ...] | None
) -> None:
  """Refuses what a corruption gave unless its pixels are as they were."""
  if not isinstance(given, base.Corrupted):
    _refuse(f"{name}: {method} gives {type(given).__name__}",
            "return base.Corrupted(pixels, queries, answers)")
  pixels = given.pixels
  if shape is None:
    if pixels is not None:
      _refuse(f"{name}: {method} gives pixels and claim no patches",
              "claim the patches that change")
  elif pixels is None:
    _refuse(f"{name}: {method} gives no pixels", f"uint8 {shape}")
  elif pixels.dtype != tf.uint8 or tuple(pixels.shape) != shape:
    _refuse(f"{name}: {method} gives pixels {pixels.dtype.name} "
            f"{tuple(pixels.shape)}", f"uint8 {shape}, as they come")


def _refuse(what: str, fix: str) -> NoReturn:
  raise errors.ConfigError(what, fix)

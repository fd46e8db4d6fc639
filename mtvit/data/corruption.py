"""Patch corruption: tasks claim disjoint patches and corrupt them.

Everything works on a whole batch of views with static shapes. Tasks are used
through their methods alone, so nothing here knows which tasks there are.
"""

import dataclasses
from typing import Any, Mapping, Protocol, Sequence

import tensorflow as tf

from mtvit.data import draws as draw_lib
from mtvit.data import patch_ops


@dataclasses.dataclass(frozen=True)
class Layout:
  """The grid of a batch of views and who has claimed what.

  Attributes:
    grid: patches per column and per row.
    blocks: int32 [b, m, 9], the shared partition into 3x3 blocks.
    taken: bool [b, n], patches that a task has claimed.
    originals: uint8 [b, h, w, 3], the views before patches are corrupted.
    inputs: the same as the model would see them: gray if its input is.
    gray_view: bool [b], views that the augmentation made gray.
    label: int32 [b], classes, for supervised runs.
    changed: bool [b, n], patches with other pixels than their inputs have, once
      every task has corrupted; None before.
  """
  grid: tuple[int, int]
  blocks: Any
  taken: Any
  originals: Any
  inputs: Any
  gray_view: Any
  label: Any
  changed: Any = None
  # Of `_clean_sums`: tasks ask for the same ones.
  _sums: dict[int, Any] = dataclasses.field(
      init=False, repr=False, default_factory=dict)

  @property
  def patch_size(self) -> int:
    """Side of a patch, pixels."""
    return self.originals.shape[1] // self.grid[0]

  def random_patches(self, k: int, draw: draw_lib.Draw) -> Any:
    """int32 [b, k]: k free patches of each view, uniformly."""
    order = draw.uniform("patches", (self.grid[0] * self.grid[1],))
    return _first_free(order, self.taken, k)

  def random_blocks(self, k: int, draw: draw_lib.Draw) -> Any:
    """int32 [b, 9 k]: the patches of k free blocks of each view, uniformly."""
    taken = tf.reduce_any(
        tf.gather(self.taken, self.blocks, batch_dims=1), axis=-1)  # [b, m]
    order = draw.uniform("blocks", (self.blocks.shape[1],))
    chosen = _first_free(order, taken, k)                   # [b, k]
    ids = tf.gather(self.blocks, chosen, batch_dims=1)      # [b, k, 9]
    return tf.reshape(ids, [-1, 9 * k])

  def random_pairs(self, matchings: Any, k: int, draw: draw_lib.Draw) -> Any:
    """int32 [b, k, 2]: k pairs of free patches, in random order and turn.

    Args:
      matchings: int32 [r, q, 2], disjoint pairs in each of r rows. Each view
        gets pairs of one row; k of them must be free.
      k: how many.
      draw: the task's.
    """
    rows, q, _ = matchings.shape
    pairs = tf.gather(matchings, draw.integers("matching", (), rows))
    taken = tf.reduce_any(                                  # [b, q]
        tf.gather(self.taken, pairs, batch_dims=1), axis=-1)
    chosen = _first_free(draw.uniform("pairs", (q,)), taken, k)
    pairs = tf.gather(pairs, chosen, batch_dims=1)          # [b, k, 2]
    turned = draw.uniform("turned", (k, 1)) < 0.5
    return tf.where(turned, pairs[..., ::-1], pairs)

  def claimed(self, ids: Any) -> "Layout":
    """The layout once `ids` [b, k] are taken."""
    return dataclasses.replace(self, taken=patch_ops.mark(self.taken, ids))

  def cut(self, images: Any, ids: Any, rows: Any = None) -> Any:
    """Patches of `originals` or `inputs`, see `patch_ops.cut`."""
    return patch_ops.cut(images, ids, self.patch_size, rows)

  def colored(self, patches: Any, ids: Any) -> Any:
    """The patches `ids` of `originals`; `patches` are those of `inputs`."""
    if self.inputs is self.originals:
      return patches
    return self.cut(self.originals, ids)

  def clean_neighbours(self, images: Any, ids: Any) -> tuple[Any, Any]:
    """Mean colour of the unchanged ones among the eight neighbours of patches.

    Args:
      images: `originals` or `inputs`.
      ids: int32 [b, k].

    Returns:
      float32 [b, k, 3] in 0 .. 255, and bool [b, k], whether there are any.
    """
    if id(images) not in self._sums:
      self._sums[id(images)] = self._clean_sums(images)
    x = tf.gather(self._sums[id(images)], ids, batch_dims=1)  # [b, k, 4]
    total, count = x[..., :3], x[..., 3:]
    return total / tf.maximum(count, 1), count[..., 0] > 0

  def _clean_sums(self, images: Any) -> Any:
    """For each patch the sum of its unchanged neighbours' colours: [b, n, 4].

    The fourth number is how many there are.
    """
    gh, gw = self.grid
    n, p = gh * gw, self.patch_size
    means = tf.reshape(patch_ops.sums(images, p), [-1, n, 3]) / p**2
    clean = tf.cast(~self.changed[..., None], tf.float32)   # [b, n, 1]
    own = tf.concat([means * clean, clean], axis=-1)        # [b, n, 4]
    # Sums over 3x3 windows, without the patch itself.
    x = tf.reshape(own, [-1, gh, gw, 4])
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    x = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]          # [b, gh, gw, 4]
    return tf.reshape(x, [-1, n, 4]) - own


def _first_free(order: Any, taken: Any, k: int) -> Any:
  """The k free places of [b, m] that come first in a random order."""
  return tf.math.top_k(-order - tf.cast(taken, tf.float32), k).indices


def block_partition(grid: tuple[int, int], draw: draw_lib.Draw) -> Any:
  """Cuts the grid into 3x3 blocks, from either end: int32 [b, m, 9].

  Rows that are left over are at one end or the other, never at both: else the
  patches of the border would be in blocks even less often than so.
  """
  gh, gw = grid
  rows = tf.range(gh // 3 * 3)[None] + (gh % 3) * draw.integers(
      "row_offset", (), 2)[:, None]                         # [b, 3 mh]
  columns = tf.range(gw // 3 * 3)[None] + (gw % 3) * draw.integers(
      "column_offset", (), 2)[:, None]                      # [b, 3 mw]
  ids = rows[:, :, None] * gw + columns[:, None, :]         # [b, 3 mh, 3 mw]
  ids = tf.reshape(ids, [-1, gh // 3, 3, gw // 3, 3])
  ids = tf.transpose(ids, [0, 1, 3, 2, 4])                  # [b, mh, mw, 3, 3]
  return tf.reshape(ids, [-1, (gh // 3) * (gw // 3), 9])


class Corrupter(Protocol):
  """What is used of a task here; `tasks.base.Task` says what each does."""

  @property
  def name(self) -> str:
    """Keys its randomness."""

  def corrupt_image(self, images: Any, draw: draw_lib.Draw) -> Any:
    """Changes whole views."""

  def claim(self, layout: Layout, draw: draw_lib.Draw) -> Any:
    """Which patches are its alone."""

  def corrupt(
      self, patches: Any, ids: Any, layout: Layout, draw: draw_lib.Draw
  ) -> Any:
    """Changes these."""

  def context(
      self, layout: Layout, queries: Mapping[str, Any]) -> dict[str, Any]:
    """More answers, once all tasks have corrupted."""


def _claimed(
    tasks: Sequence[Corrupter], draw: draw_lib.Draw, layout: Layout
) -> tuple[Layout, dict[str, Any]]:
  """The layout once every task has claimed its patches, and these by task."""
  claims = {}
  for task in tasks:
    ids = task.claim(layout, draw.fold(f"{task.name}/claim"))
    claims[task.name] = ids
    layout = layout if ids is None else layout.claimed(ids)
  return layout, claims


def corrupt(
    images: Any, gray_view: Any, label: Any, tasks: Sequence[Corrupter],
    patch_size: int, draw: draw_lib.Draw, gray_input: bool = False
) -> dict[str, Any]:
  """Lets every task claim its patches, then corrupt them, then look around.

  Args:
    images: uint8 [b, h, w, 3].
    gray_view: bool [b].
    label: int32 [b].
    tasks: in claiming order.
    patch_size: p, pixels.
    draw: the randomness of this step; each task's is keyed by its name.
    gray_input: every view loses its colour (harmonised inputs).

  Returns:
    `image` uint8 [b, h, w, 3], `hide_position` bool [b, n], `queries` and
    `answers`: task name -> field -> [b, ...].
  """
  grid = (images.shape[1] // patch_size, images.shape[2] // patch_size)
  gray = patch_ops.luminance if gray_input else lambda x: x
  queries: dict[str, dict[str, Any]] = {task.name: {} for task in tasks}
  answers: dict[str, dict[str, Any]] = {task.name: {} for task in tasks}
  for task in tasks:
    result = task.corrupt_image(images, draw.fold(f"{task.name}/image"))
    images = result.pixels
    queries[task.name] |= result.queries
    answers[task.name] |= result.answers
  inputs = gray(images)
  nothing = tf.zeros([images.shape[0], grid[0] * grid[1]], tf.bool)  # [b, n]
  layout, claims = _claimed(tasks, draw, Layout(
      grid, block_partition(grid, draw.fold("layout")), nothing, images,
      inputs, gray_view, label))
  before = _cut(layout, claims)
  after, hide = {}, nothing
  for task in tasks:
    result = task.corrupt(
        before[task.name], claims[task.name], layout, draw.fold(task.name))
    if claims[task.name] is not None:
      # Again gray, for tasks that fill patches with colours of their own.
      after[task.name] = gray(result.pixels)
    queries[task.name] |= result.queries
    answers[task.name] |= result.answers
    if result.hide_ids is not None:
      hide = patch_ops.mark(hide, result.hide_ids)
  image, changed = _pasted(layout, claims, before, after)
  layout = dataclasses.replace(layout, changed=changed)
  for task in tasks:
    answers[task.name] |= task.context(layout, queries[task.name])
  return {
      "image": image,
      "hide_position": hide,
      "queries": {k: v for k, v in queries.items() if v},
      "answers": {k: v for k, v in answers.items() if v},
  }


def _cut(layout: Layout, claims: Mapping[str, Any]) -> dict[str, Any]:
  """The patches that each task has claimed, as the model would see them."""
  # All in one pass.
  real = [x for x in claims.values() if x is not None]
  parts = iter(tf.split(
      layout.cut(layout.inputs, tf.concat(real, axis=1)),
      [x.shape[1] for x in real], axis=1) if real else ())
  return {name: None if ids is None else next(parts)
          for name, ids in claims.items()}


def _pasted(
    layout: Layout, claims: Mapping[str, Any], before: Mapping[str, Any],
    after: Mapping[str, Any]
) -> tuple[Any, Any]:
  """The views with what tasks made of their patches, and which differ.

  uint8 [b, h, w, 3] and bool [b, n].
  """
  if not after:
    return layout.inputs, layout.taken
  joined = lambda found: tf.concat([found[name] for name in after], axis=1)
  ids, pixels = joined(claims), joined(after)               # [b, k, p, p, 3]
  differ = tf.reduce_any(                                   # [b, k]
      pixels != joined(before), axis=(2, 3, 4))
  changed = patch_ops.scatter(tf.zeros_like(layout.taken), ids, differ)
  return patch_ops.paste(layout.inputs, ids, pixels), changed

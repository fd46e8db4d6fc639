"""Eight-way relative position (report, section 2; Doersch et al. 2015).

Predicted is where the second patch of a pair lies, seen from the first: 0 to 7
in reading order. With `pairs="block"` the centre of a claimed 3x3 block and one
of its neighbours form a pair, in random order. With "any" a pair is any two
patches, and the label the nearest of the eight directions. Each patch is
cropped and jittered on its own, so that the answer is not read off matching
edges or colours.

The answer can be read off the position embeddings (report: the ViT "can
cheat"). `position` says what is done about it:

- "keep" allows it, as the report does.
- "drop" takes the embeddings of the pairs' patches away, "mask_token" puts one
  learned vector in their place. Which slots lack one still tells something;
  the metric `slot_bound` says how much.
- "drop_all" is a model without embeddings.
- "swap" keeps embeddings with the slots and moves contents: those of each pair
  go, in order, to the slots of another pair. The label is the direction
  between the places that the contents came from.
"""

import dataclasses
import functools
import math
from typing import Any, Mapping

import flax.linen as nn
import jax
import numpy as np
from etils import epy

from mtvit import errors
from mtvit.models import heads
from mtvit.tasks import base

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import image_ops
  from mtvit.data import patch_ops

PAIRS = ("block", "any")
# Places of the eight neighbours within a 3x3 block; the centre is place 4.
NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)
# Rows and columns from the centre to each of them.
OFFSETS = tuple((place // 3 - 1, place % 3 - 1) for place in NEIGHBOURS)


def direction_table(grid: tuple[int, int]) -> np.ndarray:
  """The nearest of the eight directions for each offset between two patches.

  tan(22.5 degrees) is irrational, so no offset lies between two directions.

  Args:
    grid: patches per column and per row, gh and gw.

  Returns:
    int32 [2 gh - 1, 2 gw - 1], 0 to 7 in reading order, the offset (dy, dx) at
    (dy + gh - 1, dx + gw - 1). The offset (0, 0) has -1.
  """
  gh, gw = grid
  dy, dx = np.mgrid[1 - gh:gh, 1 - gw:gw]
  least = np.tan(np.pi / 8)
  row = np.sign(dy) * (np.abs(dy) > least * np.abs(dx))     # -1, 0 or 1
  column = np.sign(dx) * (np.abs(dx) > least * np.abs(dy))
  place = 3 * (row + 1) + column + 1                        # In a 3x3 block.
  label = np.where(place == 4, -1, place - (place > 4))
  return label.astype(np.int32)                             # [2gh-1, 2gw-1]


def direction_shares(grid: tuple[int, int]) -> np.ndarray:
  """How often each direction occurs among all ordered pairs of patches: [8]."""
  (gh, gw), table = grid, direction_table(grid)
  # An offset fits into the grid as often as its rectangle does.
  times = np.outer(
      gh - np.abs(np.arange(1 - gh, gh)), gw - np.abs(np.arange(1 - gw, gw)))
  counts = np.bincount(table[table >= 0], times[table >= 0], minlength=8)
  return counts / counts.sum()


@functools.cache
def block_slot_bound(num_pairs: int) -> float:
  """Accuracy of an ideal reader of which slots lack an embedding.

  The slots of m pairs in known blocks tell each pair's axis but neither its
  order nor which pair is asked for, so the best guess is the commonest of the
  four axes, and one of its two directions: E[max count of m in 4] / (2 m).
  """
  m, expected = num_pairs, 0.0
  for a in range(m + 1):
    for b in range(m - a + 1):
      for c in range(m - a - b + 1):
        counts = (a, b, c, m - a - b - c)
        ways = math.factorial(m) / math.prod(map(math.factorial, counts))
        expected += max(counts) * ways / 4 ** m
  return expected / (2 * m)


@functools.cache
def any_slot_bound(num_pairs: int, grid: tuple[int, int]) -> float:
  """The same reader's accuracy if any two patches may form a pair.

  It knows the set of 2m slots. Each ordered pair of them is equally likely to
  be asked for, so the best guess is the commonest direction among them:
  E[max count of directions] / (2m (2m - 1)), estimated from 20,000 sets.
  """
  (gh, gw), k = grid, 2 * num_pairs
  table, rng = direction_table(grid), np.random.default_rng(0)
  # Both orders of a pair lie on one axis and add one to either direction.
  first, second = np.triu_indices(k, 1)
  rounds, sets, total = 200, 100, 0
  for _ in range(rounds):
    order = rng.random((sets, gh * gw)).argpartition(k - 1, axis=1)
    y, x = np.divmod(order[:, :k], gw)                      # [sets, k]
    label = table[y[:, second] - y[:, first] + gh - 1,
                  x[:, second] - x[:, first] + gw - 1]
    axis = np.minimum(label, 7 - label)                     # 0, 1, 2 or 3
    counts = [np.count_nonzero(axis == a, axis=1) for a in range(4)]
    total += np.max(counts, axis=0).sum()
  return float(total / (rounds * sets * k * (k - 1)))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RelativePosition(base.Task):
  """Tells in which of eight directions the second patch of a pair lies.

  Attributes:
    pairs: "block" (neighbours, each pair in a 3x3 block of its own) or "any"
      (any two patches).
    num_pairs: m, disjoint pairs in each view.
    position: what becomes of the position embeddings of the pairs; see above.
    crop: a patch of side p is cropped to round(p / crop) and resized back.
    jitter: probability of colour jitter of a patch.
    jitter_strength: of it; 1 is SimCLR's.
    gray: probability that a patch turns gray.
    hidden_dim: width of the MLP's hidden layer.
  """
  name = "relative_position"

  pairs: str
  num_pairs: int
  position: str
  crop: float
  jitter: float
  jitter_strength: float
  gray: float
  hidden_dim: int

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("pairs", PAIRS)
    self.check_choice("position", base.POSITION_POLICIES)
    if self.num_pairs < 1:
      raise ValueError(f"num_pairs={self.num_pairs} must be at least 1")
    if self.position == "swap" and self.num_pairs < 2:
      raise ValueError(
          f"position='swap' with num_pairs={self.num_pairs}: contents move "
          "from pair to pair, so it takes at least 2")
    if not self.crop >= 1:
      raise ValueError(f"crop={self.crop} must be at least 1")
    errors.check_ranges(
        jitter=(self.jitter, 0, 1), gray=(self.gray, 0, 1),
        jitter_strength=(self.jitter_strength, 0, 1))

  @property
  def num_blocks(self) -> int:
    return self.num_pairs if self.pairs == "block" else 0

  @property
  def num_patches(self) -> int:
    return 2 * self.num_pairs if self.pairs == "any" else 0

  @property
  def position_policy(self) -> str:
    return self.position

  @property
  def label_shares(self) -> np.ndarray:
    """Of the directions: [8]. "any": as if the whole grid were free."""
    if self.pairs == "block":
      return np.full(8, 1 / 8)
    return direction_shares(self.geometry.grid)

  @property
  def chance(self) -> float:
    return float(self.label_shares.max())

  @property
  def slot_bound(self) -> float | None:
    if self.position not in ("drop", "mask_token"):
      return None
    if self.pairs == "block":
      return block_slot_bound(self.num_pairs)
    return any_slot_bound(self.num_pairs, self.geometry.grid)

  @property
  def trivial_loss(self) -> float:
    shares = self.label_shares
    return float(-np.sum(shares * np.log(shares)))

  def claim(self, layout: Any, draw: Any) -> Any:
    if self.pairs == "block":
      return layout.random_blocks(self.num_pairs, draw)     # [b, m * 9]
    return layout.random_patches(2 * self.num_pairs, draw)  # [b, 2m]

  def corrupt(
      self, patches: Any, ids: Any, layout: Any, draw: Any
  ) -> base.Corrupted:
    if self.pairs == "block":
      home, label = self._neighbours(ids, draw)
    else:
      home, label = self._any_two(ids, layout.grid)
    # Pairs come in random order, so a roll is a random cycle of them.
    slots = tf.roll(home, 1, axis=1) if self.position == "swap" else home
    flat = lambda pairs: tf.reshape(pairs, [-1, 2 * self.num_pairs])
    pixels = tf.gather(patches, flat(home), batch_dims=1)   # [b,2m,p,p,3]
    pixels = self._augment(pixels, draw)
    hides = self.position in ("drop", "mask_token")
    return base.Corrupted(
        pixels=patch_ops.scatter(patches, flat(slots), pixels),
        queries={"ids": slots},                             # [b, m, 2]
        answers={"label": label, "home": home},         # [b, m], [b, m, 2]
        hide_ids=flat(slots) if hides else None)

  def _neighbours(self, ids: Any, draw: Any) -> tuple[Any, Any]:
    """A pair [b, m, 2] of each block of ids [b, 9m], and its label [b, m]."""
    m = self.num_pairs
    direction = draw.integers("direction", (m,), 8)         # [b, m]
    reverse = draw.uniform("order", (m,)) < 0.5             # [b, m]
    blocks = tf.reshape(ids, [-1, m, 9])                    # [b, m, 9]
    neighbour = tf.gather(
        blocks, tf.gather(NEIGHBOURS, direction), batch_dims=2)
    pairs = tf.stack([blocks[:, :, 4], neighbour], axis=-1)  # [b, m, 2]
    pairs = tf.where(reverse[..., None], pairs[..., ::-1], pairs)
    # Opposite directions are i and 7 - i in reading order.
    return pairs, tf.where(reverse, 7 - direction, direction)

  def _any_two(self, ids: Any, grid: tuple[int, int]) -> tuple[Any, Any]:
    """Pairs [b, m, 2] of patches in random order [b, 2m], labels [b, m]."""
    gh, gw = grid
    pairs = tf.reshape(ids, [-1, self.num_pairs, 2])        # [b, m, 2]
    place = tf.stack([pairs // gw, pairs % gw], axis=-1)    # [b, m, 2, 2]
    offset = place[:, :, 1] - place[:, :, 0]                # [b, m, 2]
    return pairs, tf.gather_nd(
        direction_table(grid), offset + [gh - 1, gw - 1])

  def _augment(self, pixels: Any, draw: Any) -> Any:
    """Crops and jitters each of uint8 [b, 2m, p, p, 3] on its own."""
    k, p = pixels.shape[1], pixels.shape[2]
    side = min(p, round(p / self.crop))
    corner = draw.integers("crop", (k, 2), p - side + 1)    # [b, k, 2]
    corner = tf.cast(tf.reshape(corner, [-1, 2]), tf.float32)
    x = tf.reshape(tf.cast(pixels, tf.float32), [-1, p, p, 3])
    x = image_ops.resample(
        x, image_ops.crop_matrices(corner[:, 0], side, p, p),
        image_ops.crop_matrices(corner[:, 1], side, p, p))
    flat = lambda value: tf.reshape(value, [-1])
    matrix = image_ops.color_matrices(
        jitter=flat(draw.uniform("jitter", (k,)) < self.jitter),
        gray=flat(draw.uniform("gray", (k,)) < self.gray),
        amounts=tf.reshape(draw.uniform("amounts", (k, 4), -1, 1), [-1, 4]),
        strength=self.jitter_strength, mean=tf.reduce_mean(x, axis=(1, 2)))
    x = image_ops.to_uint8(image_ops.apply_color(x, matrix))
    return tf.reshape(x, [-1, k, p, p, 3])

  def head(self) -> nn.Module:
    return heads.GroupHead(
        (self.hidden_dim,), 8, name="head_relative_position")

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    loss, metrics = base.classification(predicted, answers["label"])
    metrics["skill"] = 1 - loss / self.trivial_loss
    return loss, metrics

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[base.Panel]:
    pairs, labels = queries["ids"], answers["label"]
    boxes = tuple((int(i), "cyan") for i in pairs.flat)

    def panel(title, answer, colors):
      return base.Panel(
          title, image, boxes, tuple(
              (int(first), OFFSETS[i], color)
              for first, i, color in zip(pairs[:, 0], answer, colors)),
          tuple((int(first), color, str(i))
                for first, i, color in zip(pairs[:, 0], answer, colors)))

    # Swapped contents keep the direction that they had where they came from.
    title = "pairs, true direction" + (
        " of the contents" if self.position == "swap" else "")
    panels = [panel(title, labels, ["cyan"] * len(pairs))]
    if predicted is not None:
      guesses = predicted.argmax(-1)
      colors = np.where(guesses == labels, "lime", "red")
      panels.append(panel("predicted direction", guesses, colors))
    return panels

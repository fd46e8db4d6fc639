"""Eight-way relative position (report, section 2; Doersch et al. 2015).

Predicted is where the second patch of a pair lies, seen from the first: 0 to 7
in reading order. With `pairs="neighbours"` a pair is two neighbouring patches
anywhere on the grid (see `neighbours`). With "any" it is any two patches, and
the label the nearest of the eight directions. Each patch is cropped and
jittered on its own, so that the answer is not read off matching edges or
colours.

The answer can be read off the position embeddings (report: the ViT "can
cheat"). `position` says what is done about it:

- "keep" allows it, as the report does.
- "drop" takes the embeddings of the pairs' patches away, "mask_token" puts one
  learned vector in their place. Which slots lack one still tells something.
- "drop_all" is a model without embeddings.
- "swap" keeps embeddings with the slots and moves contents: those of each pair
  go, in order, to the slots of another pair. The label is the direction
  between the places that the contents came from. A pair's own slots say
  nothing; those of the other pairs do, if the model sees that they are pairs.

How much an ideal reader of slots could know is the metric `slot_bound`.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Mapping

import flax.linen as nn
import jax
import numpy as np
from etils import epy

from mtvit import errors
from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import directions
from mtvit.tasks import losses
from mtvit.tasks import neighbours
from mtvit.tasks import picture

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import image_ops
  from mtvit.data import patch_ops

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

PAIRS = ("neighbours", "any")
# Of pairs in pictures; arrows say right and wrong in green and red.
FRAMES = ("cyan", "yellow", "magenta", "orange", "white")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RelativePosition(base.Task):
  """Tells in which of eight directions the second patch of a pair lies.

  Attributes:
    pairs: "neighbours" or "any" (any two patches).
    num_pairs: m, disjoint pairs in each view.
    position: what becomes of the position embeddings of the pairs; see above.
    crop: a patch of side p is cropped to round(p / crop) and resized back.
    jitter: probability of colour jitter of a patch.
    jitter_strength: of it; 1 is SimCLR's.
    gray: probability that a patch turns gray.
    hidden_dim: width of the MLP's hidden layer.
  """
  name = "relative_position"
  shows = ("The two patches of a pair have frames of one colour. The model "
           "says where the other lies from the one with the arrow. "
           "Green: right; red: wrong.")

  pairs: str = "neighbours"
  num_pairs: int = 4
  position: str = "keep"
  crop: float = 1.15
  jitter: float = 0.8
  jitter_strength: float = 0.5
  gray: float = 0.2
  hidden_dim: int = 256

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("pairs", PAIRS)
    self.check_choice("position", base.POSITION_POLICIES)
    self.check_least(num_pairs=1, hidden_dim=1)
    if self.position == "swap" and self.num_pairs < 2:
      raise ValueError(
          f"position='swap' with num_pairs={self.num_pairs}: contents move "
          "from pair to pair, so it takes at least 2")
    if not 1 <= self.crop < 2 * (
        self.geometry.patch_size if self.geometry else float("inf")):
      raise ValueError(
          f"crop={self.crop} must be at least 1 and leave a pixel of a patch")
    errors.check_ranges(
        jitter=(self.jitter, 0, 1), gray=(self.gray, 0, 1),
        jitter_strength=(self.jitter_strength, 0, 1))

  @property
  def num_neighbours(self) -> int:
    return self.num_pairs if self.pairs == "neighbours" else 0

  @property
  def num_patches(self) -> int:
    return 2 * self.num_pairs if self.pairs == "any" else 0

  @property
  def position_policy(self) -> str:
    return self.position

  @property
  def label_shares(self) -> np.ndarray:
    """Of the directions: [8]. "any": as if the whole grid were free."""
    if self.pairs == "neighbours":
      return neighbours.direction_shares(self.geometry.grid[0])
    return directions.direction_shares(self.geometry.grid)

  @property
  def chance(self) -> float:
    return float(self.label_shares.max())

  @property
  def slot_bound(self) -> float | None:
    if self.position not in ("drop", "mask_token", "swap"):
      return None
    # Swapped contents come from one of the other pairs' slots.
    pairs = self.num_pairs - (self.position == "swap")
    if self.pairs == "neighbours":
      return neighbours.slot_bound(pairs, self.geometry.grid[0])
    return directions.any_slot_bound(pairs, self.geometry.grid)

  @property
  def trivial_loss(self) -> float:
    shares = self.label_shares
    return float(-np.sum(shares * np.log(shares)))

  def claim(self, layout: "corruption.Layout", draw: "draws.Draw") -> Any:
    if self.pairs == "any":
      return layout.random_patches(2 * self.num_pairs, draw)  # [b, 2m]
    pairs = layout.random_pairs(                            # [b, m, 2]
        neighbours.matchings(layout.grid[0]).pairs, self.num_pairs, draw)
    return tf.reshape(pairs, [-1, 2 * self.num_pairs])

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> base.Corrupted:
    home = tf.reshape(ids, [-1, self.num_pairs, 2])         # [b, m, 2]
    label = self._directions(home, layout.grid)             # [b, m]
    # Pairs come in random order, so a roll is a random cycle of them.
    slots = tf.roll(home, 1, axis=1) if self.position == "swap" else home
    # In the order of the slots, which tells nothing of where contents go.
    order = tf.argsort(slots[:, :, 0], axis=1)              # [b, m]
    slots, home, label = (
        tf.gather(x, order, batch_dims=1) for x in (slots, home, label))
    pixels = self._augment(patches, tf.argsort(order, axis=1), draw)
    if self.position == "swap":       # Each pair gets the next one's.
      pixels = tf.roll(pixels, -2, axis=1)
    flat = lambda pairs: tf.reshape(pairs, [-1, 2 * self.num_pairs])
    hides = self.position in ("drop", "mask_token")
    return base.Corrupted(
        pixels=pixels,
        queries={"ids": slots},                             # [b, m, 2]
        answers={"label": label, "home": home},         # [b, m], [b, m, 2]
        hide_ids=flat(slots) if hides else None)

  def _directions(self, pairs: Any, grid: tuple[int, int]) -> Any:
    """The label [b, m] of each of the pairs [b, m, 2]."""
    gh, gw = grid
    place = tf.stack([pairs // gw, pairs % gw], axis=-1)    # [b, m, 2, 2]
    offset = place[:, :, 1] - place[:, :, 0]                # [b, m, 2]
    return tf.gather_nd(
        directions.direction_table(grid), offset + [gh - 1, gw - 1])

  def _augment(self, pixels: Any, rank: Any, draw: "draws.Draw") -> Any:
    """Crops and jitters each of uint8 [b, 2m, p, p, 3] on its own.

    What is drawn for pair i is for the one of rank [b, m] i.
    """
    k, p = pixels.shape[1], pixels.shape[2]
    side = min(p, round(p / self.crop))

    def drawn(values):                                      # [b, k, ...]
      pairs = tf.reshape(values, [-1, self.num_pairs, 2, *values.shape[2:]])
      pairs = tf.gather(pairs, rank, batch_dims=1)
      return tf.reshape(pairs, [-1, k, *values.shape[2:]])

    flat = lambda values: tf.reshape(drawn(values), [-1, *values.shape[2:]])
    amounts = flat(draw.uniform("amounts", (k, 4), -1, 1))  # [b * k, 4]
    matrix = image_ops.color_matrices(                      # [b * k, 3, 4]
        jitter=flat(draw.uniform("jitter", (k,)) < self.jitter),
        gray=flat(draw.uniform("gray", (k,)) < self.gray), amounts=amounts,
        strength=self.jitter_strength, mean=tf.ones_like(amounts[:, :3]))
    return patch_ops.recrop(
        pixels, drawn(draw.integers("crop", (k, 2), p - side + 1)), side,
        tf.reshape(matrix, [-1, k, 3, 4]))

  def head(self) -> nn.Module:
    return heads.GroupHead((self.hidden_dim,), 8)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    loss, metrics = losses.classification(predicted, answers["label"])
    metrics["skill"] = 1 - loss / self.trivial_loss
    return loss, metrics

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    pairs, labels = queries["ids"], answers["label"]
    boxes = tuple((int(i), FRAMES[pair % len(FRAMES)])
                  for pair, ids in enumerate(pairs) for i in ids)

    def panel(title, answer, colors):
      return picture.Panel(
          title, image, boxes, tuple(
              (int(first), directions.OFFSETS[i], color)
              for first, i, color in zip(pairs[:, 0], answer, colors)))

    # Swapped contents keep the direction that they had where they came from.
    title = "true directions" + (
        " of the contents" if self.position == "swap" else "")
    panels = [panel(title, labels, ["white"] * len(pairs))]
    if predicted is not None:
      guesses = predicted.argmax(-1)
      colors = np.where(guesses == labels, "lime", "red")
      panels.append(panel("what the model says", guesses, colors))
    return panels

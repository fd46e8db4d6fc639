"""Eight-way relative position (report, section 2; Doersch et al. 2015).

Of each claimed 3x3 block, the centre and one of its neighbours form a pair, in
random order. Predicted is where the second lies, seen from the first: 0 to 7 in
reading order. Each patch is cropped and jittered on its own, so that the answer
is not read off matching edges or colours.

The answer can be read off the position embeddings (report: the ViT "can
cheat"). `position="keep"` allows it, as the report does. With "drop" the
patches of the pairs get no embedding; which slots lack one still tells
something, and the metric `slot_bound` says how much.
"""

import dataclasses
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

POSITIONS = ("keep", "drop")
# Places of the eight neighbours within a 3x3 block; the centre is place 4.
NEIGHBOURS = (0, 1, 2, 3, 5, 6, 7, 8)
# Rows and columns from the centre to each of them.
OFFSETS = tuple((place // 3 - 1, place % 3 - 1) for place in NEIGHBOURS)


def slot_bound(num_pairs: int) -> float:
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


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RelativePosition(base.Task):
  """Tells in which of eight directions the second patch of a pair lies.

  Attributes:
    num_pairs: disjoint pairs in each view, each in a 3x3 block of its own.
    position: policy for the pairs' position embeddings: "keep" or "drop".
    crop: a patch of side p is cropped to round(p / crop) and resized back.
    jitter: probability of colour jitter of a patch.
    jitter_strength: of it; 1 is SimCLR's.
    gray: probability that a patch turns gray.
    hidden_dim: width of the MLP's hidden layer.
  """
  name = "relative_position"

  num_pairs: int
  position: str
  crop: float
  jitter: float
  jitter_strength: float
  gray: float
  hidden_dim: int

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("position", POSITIONS)
    if self.num_pairs < 1:
      raise ValueError(f"num_pairs={self.num_pairs} must be at least 1")
    if not self.crop >= 1:
      raise ValueError(f"crop={self.crop} must be at least 1")
    errors.check_ranges(
        jitter=(self.jitter, 0, 1), gray=(self.gray, 0, 1),
        jitter_strength=(self.jitter_strength, 0, 1))

  @property
  def num_blocks(self) -> int:
    return self.num_pairs

  @property
  def trivial_loss(self) -> float:
    return float(np.log(8))

  def claim(self, layout: Any, draw: Any) -> Any:
    return layout.random_blocks(self.num_pairs, draw)       # [b, m * 9]

  def corrupt(
      self, patches: Any, ids: Any, layout: Any, draw: Any
  ) -> base.Corrupted:
    m = self.num_pairs
    direction = draw.integers("direction", (m,), 8)         # [b, m]
    swapped = draw.uniform("order", (m,)) < 0.5             # [b, m]
    blocks = tf.reshape(ids, [-1, m, 9])                    # [b, m, 9]
    neighbour = tf.gather(
        blocks, tf.gather(NEIGHBOURS, direction), batch_dims=2)
    pairs = tf.stack([blocks[:, :, 4], neighbour], axis=-1)  # [b, m, 2]
    pairs = tf.where(swapped[..., None], pairs[..., ::-1], pairs)
    flat = tf.reshape(pairs, [-1, 2 * m])                   # [b, 2m]
    pixels = tf.gather(patches, flat, batch_dims=1)
    return base.Corrupted(
        patches=patch_ops.scatter(patches, flat, self._augment(pixels, draw)),
        queries={"ids": pairs},
        # Opposite directions are i and 7 - i in reading order.
        answers={"label": tf.where(swapped, 7 - direction, direction)},
        hide_ids=flat if self.position == "drop" else None)

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
    return heads.PairHead(
        (self.hidden_dim,), 8, name="head_relative_position")

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    loss, metrics = base.classification(predicted, answers["label"])
    if self.position == "drop":
      metrics["slot_bound"] = jax.numpy.float32(slot_bound(self.num_pairs))
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

    panels = [panel("pairs, true direction", labels, ["cyan"] * len(pairs))]
    if predicted is not None:
      guesses = predicted.argmax(-1)
      colors = np.where(guesses == labels, "lime", "red")
      panels.append(panel("predicted direction", guesses, colors))
    return panels

"""Jigsaw (report, section 2; Noroozi & Favaro 2016, arXiv:1603.09246).

With `kind="patch"` the contents of k chosen patches are moved around by one
random cycle, so that none stays, and each slot predicts its content's home
among all n places of the grid. With "permutation" the nine contents of each
claimed 3x3 block are permuted by one of M permutations that differ much, and
the block's nine outputs together predict which.

Position embeddings stay with the slots, so "keep" gives little away. If all
contents were blank, an ideal reader of the embeddings would know that a
content's home is not its slot and no more: an accuracy of 1 / (n - 1). Patches
that other tasks have visibly changed are no homes either, so on a crowded grid
the rest is found more easily; `tools.cheat_index` bounds it. Under "drop" and
"mask_token" the slots without an embedding are the possible homes, which is the
metric `slot_bound`, 1 / k. A permutation can't be read off slots. "swap" is
refused: contents move anyway.
"""

import dataclasses
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any, Mapping

import flax.linen as nn
import jax
import numpy as np
from etils import epy
from scipy import optimize

from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import losses
from mtvit.tasks import picture

with epy.lazy_imports():
  import tensorflow as tf

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

KINDS = ("patch", "permutation")
POSITIONS = tuple(p for p in base.POSITION_POLICIES if p != "swap")


@functools.cache
def max_hamming(num: int, seed: int = 0, items: int = 9) -> np.ndarray:
  """Permutations far from each other, chosen greedily among all.

  Each next one is farthest from its nearest among those chosen so far; of
  equally far ones, that with the largest sum of distances, then a random one
  (algorithm 1 of the paper, with its minimum rather than its average first).
  With 9 items the first 9 differ in all places; 100 differ in at least 6, and
  1000 in at least 5.

  Args:
    num: how many, at most items!.
    seed: of the first one and of ties.
    items: how many things are permuted.

  Returns:
    int32 [num, items], read-only.
  """
  if not 1 <= num <= math.factorial(items):
    raise ValueError(f"num={num} must lie in 1 .. {math.factorial(items)}")
  every = np.array(list(itertools.permutations(range(items))), np.int8)
  # A random order of the candidates makes ties random. RandomState never
  # changes its stream, and checkpoints rely on the order of the classes.
  every = np.random.RandomState(seed).permutation(every)
  places = np.ascontiguousarray(every.T)                    # [items, items!]
  nearest = np.full(len(every), items, np.int32)            # [items!]
  total = np.zeros(len(every), np.int32)
  chosen = [0]
  for _ in range(num - 1):
    last = every[chosen[-1]]
    distance = np.zeros(len(every), np.int8)
    for place, item in zip(places, last):
      distance += place != item
    np.minimum(nearest, distance, out=nearest)
    total += distance
    # A sum is below items * num + 1, so the nearest decides first.
    chosen.append(int(np.argmax(nearest * (items * num + 1) + total)))
  result = every[chosen].astype(np.int32)                   # [num, items]
  result.flags.writeable = False        # The cache hands it out again.
  return result


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Jigsaw(base.Task):
  """Tells where shuffled patches belong.

  Attributes:
    kind: "patch" (each predicts its home) or "permutation" (each 3x3 block
      predicts how it was permuted).
    num_pieces: k, patches of each view that are shuffled, for "patch".
    num_groups: g, 3x3 blocks of each view that are permuted, for
      "permutation".
    num_permutations: M, for "permutation".
    position: what becomes of the position embeddings of shuffled patches:
      "keep", "drop", "drop_all" (of all patches) or "mask_token".
    hidden_dim: width of the MLP's hidden layer.
  """
  name = "jigsaw"
  shows = ("Framed patches have changed places, and the model says where they "
           "belong. Green: the right one is there; red: another.")

  kind: str = "patch"
  num_pieces: int = 6
  num_groups: int = 1
  num_permutations: int = 100
  position: str = "keep"
  hidden_dim: int = 256

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("kind", KINDS)
    self.check_choice("position", POSITIONS)
    self.check_least(num_pieces=2, num_groups=1, hidden_dim=1)
    if not 2 <= self.num_permutations <= 1000:
      raise ValueError(
          f"num_permutations={self.num_permutations} must lie in 2 .. 1000")

  @property
  def num_patches(self) -> int:
    return self.num_pieces if self.kind == "patch" else 0

  @property
  def num_blocks(self) -> int:
    return self.num_groups if self.kind == "permutation" else 0

  @property
  def num_classes(self) -> int:
    """Places of the grid, or permutations."""
    if self.kind == "permutation":
      return self.num_permutations
    return math.prod(self.geometry.grid)

  @property
  def position_policy(self) -> str:
    return self.position

  @property
  def chance(self) -> float:
    return 1 / self.num_classes

  @property
  def slot_bound(self) -> float | None:
    if self.kind == "patch" and self.position in ("drop", "mask_token"):
      return 1 / self.num_pieces
    return None

  @property
  def trivial_loss(self) -> float:
    return math.log(self.num_classes)

  def claim(self, layout: "corruption.Layout", draw: "draws.Draw") -> Any:
    if self.kind == "patch":
      return layout.random_patches(self.num_pieces, draw)   # [b, k]
    return layout.random_blocks(self.num_groups, draw)      # [b, 9g]

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> base.Corrupted:
    del layout
    p = patches.shape[2]
    if self.kind == "patch":
      # Patches come in random order, so a roll is a random cycle of them.
      slots, home = tf.roll(ids, 1, axis=1), ids            # [b, k]
      # In the order of the slots, which tells nothing of the cycle.
      order = tf.argsort(slots, axis=1)
      slots, home = (
          tf.gather(x, order, batch_dims=1) for x in (slots, home))
      queries, answers = {"ids": slots}, {"label": home}
      pixels = tf.roll(patches, -1, axis=1)     # Each gets the next one's.
    else:
      g, slots = self.num_groups, ids
      blocks = tf.reshape(ids, [-1, g, 9])                  # [b, g, 9]
      label = draw.integers("permutation", (g,), self.num_permutations)
      # Slot j gets the content of place permutation[j].
      place = tf.gather(                                    # [b, g, 9]
          max_hamming(self.num_permutations), label)
      order = tf.gather(blocks, place, batch_dims=2)        # [b, g, 9]
      pixels = tf.reshape(tf.gather(
          tf.reshape(patches, [-1, g, 9, p, p, 3]), place, batch_dims=2),
          [-1, 9 * g, p, p, 3])
      queries = {"ids": blocks}
      answers = {"label": label, "order": order}
    hides = self.position in ("drop", "mask_token")
    return base.Corrupted(
        pixels, queries, answers,
        hide_ids=slots if hides else None)

  def head(self) -> nn.Module:
    head = heads.PatchHead if self.kind == "patch" else heads.GroupHead
    return head((self.hidden_dim,), self.num_classes)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    return losses.classification(predicted, answers["label"])

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    slots = queries["ids"].reshape(-1)                      # [k] or [9g]
    home = answers["label" if self.kind == "patch" else "order"].reshape(-1)
    boxes = tuple((int(i), "cyan") for i in slots)
    panels = [picture.Panel("what the model sees", image, boxes)]
    if predicted is not None:
      panels.append(self._assembled(image, queries["ids"], home, predicted))
    truth = picture.paste(image, home, self._contents(image, slots))
    return panels + [picture.Panel("true order", truth, boxes)]

  def _assembled(
      self, image: np.ndarray, ids: np.ndarray, home: np.ndarray,
      predicted: np.ndarray
  ) -> picture.Panel:
    """The contents where the prediction puts them, and which are right.

    Patches fill the shuffled places in the likeliest way, one in each.
    """
    slots = ids.reshape(-1)                                 # [k] or [9g]
    if self.kind == "permutation":
      order = max_hamming(self.num_permutations)[predicted.argmax(-1)]
      guess = np.take_along_axis(ids, order, axis=-1).reshape(-1)  # [9g]
    else:
      scores = np.asarray(jax.nn.log_softmax(predicted))[:, slots]  # [k, k]
      _, chosen = optimize.linear_sum_assignment(scores, maximize=True)
      guess = slots[chosen]                                 # [k]
    right = dict(zip(guess.tolist(), guess == home))
    return picture.Panel(
        "put where the model says",
        picture.paste(image, guess, self._contents(image, slots)), tuple(
            (int(i), "lime" if right[int(i)] else "red") for i in slots))

  def _contents(self, image: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The patches `ids` [k] of a view: uint8 [k, p, p, 3]."""
    p = self.geometry.patch_size
    columns = image.shape[1] // p
    return np.stack([
        image[y:y + p, x:x + p]
        for y, x in zip(ids // columns * p, ids % columns * p)])

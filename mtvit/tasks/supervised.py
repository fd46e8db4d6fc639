"""Supervised classification: the upper reference, and fine-tuning.

No pretext task: the alternative that uses labels (method: random init, and
supervised from scratch), in the same trainer. Pictures may be mixed: `mixup`
(Zhang et al. 2018, arXiv:1710.09412) blends two, `cutmix` (Yun et al. 2019,
arXiv:1905.04899) puts a rectangle of one into the other.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from etils import epy
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from mtvit import errors
from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import picture

with epy.lazy_imports():
  import tensorflow as tf

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

QUANTILES = 1001        # Steps of the inverse of a Beta distribution.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Supervised(base.Task):
  """Tells the class of a view, from labelled data.

  Attributes:
    num_classes: of the data set.
    readout: what the head reads: a special token, or "gap".
    smoothing: share of the label that is spread over all classes (Szegedy et
      al. 2016, arXiv:1512.00567).
    mixup: a of Beta(a, a), the share of one picture in a blend; 0 for none.
    cutmix: likewise, its share of the area. With both, each view has either.
  """
  name = "supervised"
  single_views = True
  shows = "The model says the class of a view."

  num_classes: int = 10
  readout: str = "cls"
  smoothing: float = 0.0
  mixup: float = 0.0
  cutmix: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    self.check_least(num_classes=2, mixup=0, cutmix=0)
    errors.check_ranges(smoothing=(self.smoothing, 0, 0.999))

  @property
  def mixes(self) -> bool:
    return bool(self.mixup or self.cutmix)

  @property
  def trivial_loss(self) -> float:
    return float(np.log(self.num_classes))

  @property
  def chance(self) -> float:
    return 1 / self.num_classes

  def corrupt_image(self, images: Any, draw: "draws.Draw") -> base.Corrupted:
    if not self.mixes:
      return base.Corrupted(images)
    _, h, w, _ = images.shape
    u = draw.uniform("share", (3,))                         # [b, 3]
    kinds = [a for a in (self.mixup, self.cutmix) if a]
    cut = u[:, 0] < (0.5 if len(kinds) == 2 else float(self.cutmix > 0))
    share = tf.where(
        cut, _beta(u[:, 1], kinds[-1]), _beta(u[:, 1], kinds[0]))
    # The rectangle lies within the view, with 1 - share of its area.
    side = tf.sqrt(1 - share)
    rows = _inside(draw.uniform("top"), side, h)            # [b, h]
    columns = _inside(draw.uniform("left"), side, w)        # [b, w]
    box = rows[:, :, None] * columns[:, None, :]            # [b, h, w]
    share = tf.where(cut, 1 - tf.reduce_mean(box, axis=(1, 2)), share)
    kept = tf.where(
        cut[:, None, None], 1 - box, share[:, None, None])[..., None]
    other = tf.cast(tf.gather(images, self._partners(images)), tf.float32)
    mixed = kept * tf.cast(images, tf.float32) + (1 - kept) * other
    mixed = tf.cast(tf.round(mixed), tf.uint8)
    return base.Corrupted(
        tf.ensure_shape(mixed, images.shape), answers={"share": share})

  def _partners(self, images):
    """The row of the next image of each pair, the same view: int32 [b]."""
    views = self.geometry.views
    rows = tf.range(tf.shape(images)[0])
    image = rows // views
    other = image + 1 - 2 * (image % 2)
    other = tf.where(other < tf.shape(images)[0] // views, other, image)
    return other * views + rows % views

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> base.Corrupted:
    answers = {"label": layout.label}
    if self.mixes:
      answers["other"] = tf.ensure_shape(
          tf.gather(layout.label, self._partners(layout.label)),
          layout.label.shape)
    return base.Corrupted(patches, answers=answers)

  def head(self) -> nn.Module:
    return heads.ReadoutHead(self.readout, self.num_classes)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    logits = predicted.astype(jnp.float32)                  # [b, classes]
    onehot = lambda label: optax.losses.smooth_labels(
        jax.nn.one_hot(label, self.num_classes), self.smoothing)
    label, target = answers["label"], onehot(answers["label"])
    if "other" in answers:
      share = answers["share"][:, None]                     # [b, 1]
      target = share * target + (1 - share) * onehot(answers["other"])
      label = jnp.where(answers["share"] < 0.5, answers["other"], label)
    loss = optax.losses.softmax_cross_entropy(logits, target).mean()
    return loss, {
        "accuracy": jnp.mean(logits.argmax(-1) == label),
        "skill": 1 - loss / self.trivial_loss}

  def check_classes(self, classes: tuple[str, ...]) -> None:
    if len(classes) > self.num_classes:
      raise errors.ConfigError(
          f"tasks.supervised.num_classes={self.num_classes}: the data have "
          f"{len(classes)} classes", f"set it to {len(classes)}")

  def statistics_of(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """Nothing to know; refuses data without labels, or with too many."""
    labels = np.concatenate([batch["label"] for batch in batches])
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
      raise errors.ConfigError(
          "tasks.supervised: the data have images without labels",
          "--config.tasks.supervised.mode=off and another task, or data with "
          "labels: class folders, and --config.data.labels=folders if they "
          "weren't taken for such")
    if high >= self.num_classes:
      raise errors.ConfigError(
          f"tasks.supervised.num_classes={self.num_classes}: the data have "
          f"labels {low} .. {high}", f"set it to {high + 1} at least")
    return {}

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    title = f"class {answers['label']}"
    if "other" in answers:
      share = float(answers["share"])
      title = (f"{share:.0%} class {answers['label']}, "
               f"{1 - share:.0%} class {answers['other']}")
    if predicted is not None:
      title += f"\nsays {np.argmax(predicted)}"
    return [picture.Panel(title, image)]


def _beta(u: Any, a: float) -> Any:
  """Draws from Beta(a, a), by its inverse: uniform [b] -> float32 [b]."""
  table = stats.beta.ppf(np.linspace(0, 1, QUANTILES), a, a)
  table = tf.constant(table, tf.float32)
  place = u * (QUANTILES - 1)
  low = tf.cast(place, tf.int32)                            # [b]
  high = tf.minimum(low + 1, QUANTILES - 1)
  part = place - tf.cast(low, tf.float32)
  return (1 - part) * tf.gather(table, low) + part * tf.gather(table, high)


def _inside(u: Any, side: Any, size: int) -> Any:
  """1 for the pixels of an interval of share `side` at a random place.

  [b], [b] -> float32 [b, size].
  """
  length = tf.round(side * size)
  start = tf.floor(u * (size - length + 1))
  at = tf.range(size, dtype=tf.float32)[None]               # [1, size]
  inside = (at >= start[:, None]) & (at < (start + length)[:, None])
  return tf.cast(inside, tf.float32)

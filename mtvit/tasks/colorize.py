"""Colorization of k gray patches (report, section 2; Zhang et al. 2016).

The patches are replaced by their luminance. Predicted are the a and b channels
of CIE Lab, for each pixel or as the patch's mean, standardised by the mean and
deviation of the training views. A view that its augmentation made gray has no
colour to predict and is left out of the loss.
"""

import dataclasses
import functools
from typing import Any, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epy

from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import color

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import patch_ops

TARGETS = ("mean", "pixel")


@functools.partial(jax.jit, static_argnames="p")
def _sums(
    image: jax.Array, colored: jax.Array, p: int
) -> dict[str, tuple[jax.Array, jax.Array, jax.Array]]:
  """Target -> number of colours, sum of (a, b), sum of their squares.

  Args:
    image: uint8 [b, h, w, 3].
    colored: bool [b], the views that count.
    p: side of a patch, pixels.
  """
  b, h, w, _ = image.shape
  ab = color.rgb_to_lab(image / jnp.float32(255))[..., 1:]
  ab = ab.reshape(b, h // p, p, w // p, p, 2)
  targets = {"mean": ab.mean(axis=(2, 4)), "pixel": ab}
  sums = {}
  for name, x in targets.items():
    x = jnp.where(colored[:, None, None], x.reshape(b, -1, 2), 0)
    sums[name] = (
        colored.sum() * x.shape[1], x.sum(axis=(0, 1)),
        jnp.square(x).sum(axis=(0, 1)))
  return sums


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Colorize(base.Task):
  """Predicts the colours of gray patches.

  Attributes:
    num_patches: k, patches of each view that turn gray.
    target: "mean" (one colour for a patch) or "pixel" (one for each pixel).
    hidden_dim: width of the shared MLP's hidden layer.
  """
  name = "colorize"

  num_patches: int
  target: str
  hidden_dim: int

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("target", TARGETS)
    if self.num_patches < 1:
      raise ValueError(f"num_patches={self.num_patches} must be at least 1")

  @property
  def trivial_loss(self) -> float:
    return 1.0    # Targets are standardised: the mean predicts them with 1.

  def claim(self, layout: Any, draw: Any) -> Any:
    return layout.random_patches(self.num_patches, draw)

  def corrupt(
      self, patches: Any, ids: Any, layout: Any, draw: Any
  ) -> base.Corrupted:
    pixels = tf.gather(layout.originals, ids, batch_dims=1)  # [b, k, p, p, 3]
    around, found = layout.clean_neighbours(ids)            # [b, k, 3], [b, k]
    return base.Corrupted(
        pixels=patch_ops.scatter(patches, ids, patch_ops.luminance(pixels)),
        queries={"ids": ids},
        answers={
            "pixels": pixels, "around": around, "around_found": found,
            "gray_view": layout.gray_view})                 # [b]

  def head(self) -> nn.Module:
    p = self.geometry.patch_size
    out = 2 if self.target == "mean" else 2 * p * p
    return heads.PatchHead((self.hidden_dim,), out, name="head_colorize")

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    target = self._standardise(self._targets(answers["pixels"]))
    b, k, q, _ = target.shape                               # q colours a patch
    predicted = predicted.astype(jnp.float32).reshape(target.shape)
    has_color = ~answers["gray_view"]                       # [b]
    count = jnp.maximum(has_color.sum() * k * q * 2, 1)

    def mean(error):                                        # [b, k, q, 2] -> []
      return jnp.sum(error * has_color[:, None, None, None]) / count

    around = color.rgb_to_lab(answers["around"] / 255)[..., None, 1:]
    local = jnp.where(
        answers["around_found"][..., None, None],
        self._standardise(around), 0)                       # [b, k, 1, 2]
    loss = mean(jnp.square(predicted - target))
    deviation = jnp.asarray(self.statistics[self.target]["deviation"])
    safe = lambda x: jnp.maximum(x, 1e-6)    # A batch may be all gray.
    return loss, {
        "skill": 1 - loss / safe(mean(jnp.square(target))),
        "skill_local": 1 - loss / safe(mean(jnp.square(local - target))),
        "error_ab": mean(jnp.abs(predicted - target) * deviation),
    }

  def measure(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """Mean and deviation of a and b, for each kind of target."""
    sums = None
    for batch in batches:
      found = jax.device_get(_sums(
          batch["image"], ~batch["gray_view"], self.geometry.patch_size))
      found = jax.tree.map(np.float64, found)
      sums = found if sums is None else jax.tree.map(np.add, sums, found)
    result = {}
    for target, (count, first, second) in sums.items():
      count = max(count, 1.0)       # Gray data: the skill will say so.
      mean = first / count
      deviation = np.sqrt(np.maximum(second / count - mean**2, 1.0))
      result[target] = {
          "mean": mean.tolist(), "deviation": deviation.tolist()}
    return result

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[base.Panel]:
    ids = queries["ids"]
    boxes = tuple((int(i), "yellow") for i in ids)
    truth = base.paste(image, ids, answers["pixels"])
    panels = [base.Panel("gray patches", image, boxes)]
    if predicted is not None:
      pixels = self._colorise(answers["pixels"], predicted)
      image = base.paste(image, ids, pixels)
      panels.append(base.Panel("predicted colour", image, boxes))
    if answers["gray_view"]:
      return panels + [base.Panel("gray view: no loss", truth, boxes)]
    return panels + [base.Panel("true colour", truth, boxes)]

  def _targets(self, pixels: jax.Array) -> jax.Array:
    """uint8 [b, k, p, p, 3] -> a and b, [b, k, q, 2] with q = 1 or p * p."""
    ab = color.rgb_to_lab(pixels.astype(jnp.float32) / 255)[..., 1:]
    b, k, p, _, _ = ab.shape
    ab = ab.reshape(b, k, p * p, 2)
    return ab.mean(axis=2, keepdims=True) if self.target == "mean" else ab

  def _standardise(self, ab: jax.Array) -> jax.Array:
    found = self.statistics[self.target]
    return (ab - jnp.asarray(found["mean"])) / jnp.asarray(found["deviation"])

  def _colorise(
      self, pixels: np.ndarray, predicted: np.ndarray
  ) -> np.ndarray:
    """The true lightness with the predicted colour, uint8 [k, p, p, 3]."""
    k, p = pixels.shape[:2]
    found = self.statistics[self.target]
    ab = predicted.reshape(k, -1, 2) * found["deviation"] + found["mean"]
    ab = np.broadcast_to(ab, (k, p * p, 2)).reshape(k, p, p, 2)
    lightness = color.rgb_to_lab(pixels / np.float32(255))[..., :1]
    rgb = color.lab_to_rgb(jnp.concatenate([lightness, ab], axis=-1))
    return np.asarray(jnp.round(rgb * 255)).astype(np.uint8)

"""Inpainting of k patches (report, section 2: "part of the patch" or "whole").

A patch, or a rectangle inside it, is replaced by a constant, by noise or by
what another image has there. Predicted are the pixels, standardised for each
patch (He et al. 2021, arXiv:2111.06377) or for the data set. Patches are chosen
one by one or block-wise (SiT, Atito et al. 2021, arXiv:2104.03602).

A learned mask token would need an encoder that knows of the task. A constant
patch is one: the linear patch embedding makes it a learned vector, to which the
position embedding is added.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epy

from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import picture
from mtvit.tasks import regions
from mtvit.tasks import stored

with epy.lazy_imports():
  import tensorflow as tf
  from mtvit.data import patch_ops

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

_CHOICES = {
    "region": ("whole", "part"),
    "fill": ("mask", "noise", "other", "mixed"),
    "shape": ("random", "blocks"),
    "target": ("normalised", "pixels"),
    "error": ("squared", "absolute"),
    "scope": ("missing", "all"),
}
VIEWS = 2              # of each image, adjacent rows
MASK = 128             # the constant that fills a patch


def _noise(shape: tuple[int, ...], draw: "draws.Draw") -> Any:
  """Uniform noise: uint8 [b, *shape, 3]."""
  # One number a pixel: they are drawn for the global batch and take memory.
  return tf.bitcast(draw.integers("noise", shape, 1 << 24), tf.uint8)[..., :3]


def _partners(rows: Any) -> Any:
  """The row of another image, in the same view: int32 [rows].

  Image i takes from image i ^ 1, the last of an odd count from the one before.
  The same for any number of hosts, since several have an even number of images
  each (`assembly.check_batch`).
  """
  row = tf.range(rows)
  image = row // VIEWS
  other = tf.bitwise.bitwise_xor(image, 1)
  other = tf.where(other < rows // VIEWS, other, image - 1)
  return other * VIEWS + row % VIEWS


def _patch_scale(pixels: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean and deviation of each patch, [..., 1, 1, 1].

  With 1e-6 on the variance, as in He et al., a flat patch has values of 0.

  Args:
    pixels: in 0 .. 1, [..., p, p, 3].
  """
  axes = (-3, -2, -1)
  return (jnp.mean(pixels, axes, keepdims=True),
          jnp.sqrt(jnp.var(pixels, axes, keepdims=True) + 1e-6))


@functools.partial(jax.jit, static_argnames="p")
def _absolute_sum(image: jax.Array, p: int) -> jax.Array:
  """Sum of |normalised value| over the patches of uint8 [b, h, w, 3]."""
  b, h, w, _ = image.shape
  x = image.reshape(b, h // p, p, w // p, p, 3).swapaxes(2, 3)
  x = x / jnp.float32(255)                                  # [b,gh,gw,p,p,3]
  mean, deviation = _patch_scale(x)
  return jnp.sum(jnp.abs((x - mean) / deviation))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inpaint(base.Task):
  """Predicts the pixels of missing patches or of missing parts of patches.

  Attributes:
    num_patches: k, patches of each view of which something is missing.
    region: "whole" patch or "part", a random rectangle inside each.
    fill: what replaces it: "mask" (constant gray), "noise", "other" (the same
      patch of another image) or "mixed" (either of the last two, as in SiT).
    shape: patches are chosen at "random" or in "blocks" (SiT).
    target: "normalised" pixels of each patch, or "pixels", standardised by the
      mean and deviation of the training views.
    error: "squared" or "absolute".
    scope: the loss counts the "missing" pixels or "all" of the view (SiT).
    hidden_dim: width of the shared MLP's hidden layer.
  """
  name = "inpaint"
  shows = ("Of framed patches pixels are missing, and the model predicts them.")

  num_patches: int = 6
  region: str = "whole"
  fill: str = "mask"
  shape: str = "random"
  target: str = "normalised"
  error: str = "squared"
  scope: str = "missing"
  hidden_dim: int = 256

  def __post_init__(self):
    super().__post_init__()
    for field, choices in _CHOICES.items():
      self.check_choice(field, choices)
    self.check_least(num_patches=1, hidden_dim=1)
    if self.fill in ("other", "mixed") and self.geometry and (
        self.geometry.num_views < 2 * VIEWS):
      raise ValueError(f"fill={self.fill!r} needs two images in a batch")

  def check_statistics(self) -> None:
    for key in ("mean", "deviation"):
      stored.numbers(self.statistics[key], 3)
    for key in ("normalised", "pixels"):
      stored.numbers(self.statistics["absolute"][key])

  @property
  def trivial_loss(self) -> float:
    if self.error == "squared":
      return 1.0    # Targets are standardised: 0 predicts them with 1.
    return self.statistics["absolute"][self.target]

  def claim(self, layout: "corruption.Layout", draw: "draws.Draw") -> Any:
    if self.shape == "random":
      return layout.random_patches(self.num_patches, draw)
    return regions.block_patches(layout, self.num_patches, draw)

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> base.Corrupted:
    missing = tf.ones_like(patches[..., 0], tf.bool)        # [b, k, p, p]
    if self.region == "part":
      k, p = patches.shape[1:3]
      missing = regions.rectangles(k, p, draw)
    new, truth = self._fill(patches, ids, layout, draw), patches
    if self.region == "part":
      new = tf.where(missing[..., None], new, patches)
    if self.scope == "all":
      every = tf.zeros_like(layout.taken, tf.int32) + tf.range(
          layout.taken.shape[1])                            # [b, n]
      truth = layout.cut(layout.inputs, every)              # [b, n, p, p, 3]
      missing = patch_ops.scatter(
          tf.zeros_like(truth[..., 0], tf.bool), ids, missing)
      ids = every
    return base.Corrupted(
        new, queries={"ids": ids},
        answers={"pixels": truth, "missing": missing})

  def context(
      self, layout: "corruption.Layout", queries: Mapping[str, Any]
  ) -> dict[str, Any]:
    around, found = layout.clean_neighbours(                # [b, q, 3], [b, q]
        layout.inputs, queries["ids"])
    return {"around": around, "around_found": found}

  def _fill(
      self, truth: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> Any:
    """What replaces the patches `ids`: uint8 [b, k, p, p, 3] like `truth`."""
    if self.fill == "mask":
      return tf.ones_like(truth) * tf.constant(MASK, tf.uint8)
    noise = lambda: _noise(truth.shape[1:4], draw)
    if self.fill == "noise":
      return noise()
    other = layout.cut(layout.inputs, ids, _partners(tf.shape(ids)[0]))
    if self.fill == "other":
      return other
    noisy = draw.uniform("mixed", (ids.shape[1], 1, 1, 1)) < 0.5
    return tf.where(noisy, noise(), other)

  def head(self) -> nn.Module:
    return heads.PatchHead((self.hidden_dim,), 3 * self.geometry.patch_size**2)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    truth = answers["pixels"].astype(jnp.float32) / 255     # [b, q, p, p, 3]
    mean, deviation = self._scale(truth)
    target = (truth - mean) / deviation
    predicted = predicted.astype(jnp.float32).reshape(target.shape)
    measure = jnp.square if self.error == "squared" else jnp.abs

    def error(guess, where):                                # bool [b, q, p, p]
      return jnp.mean(measure(guess - target), where=where[..., None])

    counted, missing = self._counted(answers), answers["missing"]
    around, found = (x[:, :, None, None] for x in (         # [b, q, 1, 1, ...]
        answers["around"] / 255, answers["around_found"][..., None]))
    local = jnp.where(found, (around - mean) / deviation, 0)
    skill = lambda guess, where: 1 - error(predicted, where) / jnp.maximum(
        error(guess, where), 1e-6)    # A batch may be flat.
    # The patch's mean is given away by "normalised": there 0 beats the
    # neighbours' colour, and nearly flat patches weigh most in its error.
    return error(predicted, counted), {
        "skill": skill(0, counted), "skill_local": skill(local, missing)}

  def statistics_of(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """Mean and deviation of each channel in 0 .. 1, mean absolute targets."""
    # How often each level occurs tells all about single pixels, in one pass.
    counts, absolute = np.zeros((3, 256)), 0.0
    for image in (batch["input"] for batch in batches):     # [b, h, w, 3]
      counts += [
          np.bincount(image[..., c].ravel(), minlength=256) for c in range(3)]
      absolute += float(_absolute_sum(image, self.geometry.patch_size))
    share = counts / counts.sum(1, keepdims=True)           # [3, 256]
    levels = np.arange(256) / 255
    mean = share @ levels                                   # [3]
    distance = levels - mean[:, None]                       # [3, 256]
    # A floor of one level, for flat data.
    deviation = np.maximum(np.sqrt((share * distance**2).sum(1)), 1 / 255)
    pixels = (share * np.abs(distance)).sum(1) / deviation  # [3]
    return {
        "mean": mean.tolist(), "deviation": deviation.tolist(),
        "absolute": {
            "normalised": max(float(absolute / counts.sum()), 1e-6),
            "pixels": max(float(pixels.mean()), 1e-6)}}

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    ids, truth = queries["ids"], answers["pixels"]
    boxes = tuple(
        (int(i), "yellow")
        for i, missing in zip(ids, answers["missing"]) if missing.any())
    panels = [picture.Panel("what the model sees", image, boxes)]
    if predicted is not None:
      # With the truth's own mean and deviation, as in He et al.
      mean, deviation = map(np.asarray, self._scale(truth / np.float32(255)))
      pixels = predicted.reshape(truth.shape) * deviation + mean
      pixels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
      pixels = np.where(self._counted(answers)[..., None], pixels, truth)
      panels.append(picture.Panel(
          "predicted pixels", picture.paste(image, ids, pixels), boxes))
    restored = picture.paste(image, ids, truth)
    return panels + [picture.Panel("true pixels", restored, boxes)]

  def _counted(self, answers: Mapping[str, Any]) -> Any:
    """The pixels that the loss counts: bool [..., p, p]."""
    missing = answers["missing"]
    return missing if self.scope == "missing" else jnp.ones_like(missing)

  def _scale(self, pixels: Any) -> tuple[jax.Array, jax.Array]:
    """Mean and deviation that standardise pixels [..., p, p, 3] in 0 .. 1."""
    if self.target == "normalised":
      return _patch_scale(pixels)
    return (jnp.asarray(self.statistics["mean"], jnp.float32),
            jnp.asarray(self.statistics["deviation"], jnp.float32))

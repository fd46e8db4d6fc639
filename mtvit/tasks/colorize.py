"""Colorization of k gray patches (report, section 2; Zhang et al. 2016).

The patches are replaced by their luminance. Predicted are a and b of CIE Lab:
the patch's mean, or each pixel's, standardised by the mean and deviation of the
training views; or a distribution over quantised colours, for each cell of 4x4
pixels. A view that its augmentation made gray has no colour to predict and is
left out of the loss.
"""

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epy

from mtvit.models import heads
from mtvit.tasks import base
from mtvit.tasks import color
from mtvit.tasks import color_targets
from mtvit.tasks import picture

with epy.lazy_imports():
  from mtvit.data import patch_ops

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

TARGETS = ("mean", "pixel", "bins")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Colorize(base.Task):
  """Predicts the colours of gray patches.

  Attributes:
    num_patches: k, patches of each view that turn gray.
    target: "mean" (one colour for a patch), "pixel" (one for each pixel) or
      "bins" (a distribution over colours for each cell of 4x4 pixels, or of
      gcd(4, p) for a patch side p).
    hidden_dim: width of the shared MLP's hidden layer.
  """
  name = "colorize"
  shows = ("Framed patches have lost their colours. The model sees how light "
           "they are, and predicts the colours.")

  num_patches: int = 8
  target: str = "pixel"
  hidden_dim: int = 256

  def __post_init__(self):
    super().__post_init__()
    self.check_choice("target", TARGETS)
    self.check_least(num_patches=1, hidden_dim=1)

  @property
  def trivial_loss(self) -> float:
    return self._target.trivial_loss

  def claim(self, layout: "corruption.Layout", draw: "draws.Draw") -> Any:
    return layout.random_patches(self.num_patches, draw)

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> base.Corrupted:
    pixels = layout.colored(patches, ids)                   # [b, k, p, p, 3]
    return base.Corrupted(
        pixels=patch_ops.luminance(pixels),
        queries={"ids": ids},
        answers={"pixels": pixels, "gray_view": layout.gray_view})  # [b]

  def context(
      self, layout: "corruption.Layout", queries: Mapping[str, Any]
  ) -> dict[str, Any]:
    around, found = layout.clean_neighbours(                # [b, k, 3], [b, k]
        layout.originals, queries["ids"])
    return {"around": around, "around_found": found}

  def head(self) -> nn.Module:
    count = (self.geometry.patch_size // self._cell) ** 2
    return heads.PatchHead(
        (self.hidden_dim,), count * self._target.channels)

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, base.Metrics]:
    target = self._target
    ab = color_targets.cell_colors(
        answers["pixels"], self._cell)                      # [b, k, q, 2]
    predicted = predicted.astype(jnp.float32).reshape(*ab.shape[:3], -1)
    decoded = target.decode(predicted)                      # [b, k, q, 2]
    around = color.rgb_to_lab(answers["around"] / 255)[..., None, 1:]
    around = jnp.where(                                     # [b, k, 1, 2]
        answers["around_found"][..., None, None], around, target.mean)
    has_color = ~answers["gray_view"]                       # [b]
    count = jnp.maximum(has_color.sum() * math.prod(ab.shape[1:3]), 1)

    def mean(error):                                        # [b, k, q] -> []
      return jnp.sum(error * has_color[:, None, None]) / count

    def skill(error, other):
      return 1 - mean(error) / jnp.maximum(   # A batch may be all gray.
          mean(other), 1e-6)

    error = target.error(predicted, ab)                     # [b, k, q]
    return mean(error), {
        "skill": skill(error, target.constant_error(ab)),
        "skill_local": skill(
            target.distance(decoded, ab), target.distance(around, ab)),
        "error_ab": mean(jnp.abs(decoded - ab).mean(-1)),
    }

  def check_statistics(self) -> None:
    _ = self._target          # Made of them, and kept.

  def statistics_of(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """Mean and deviation of a and b; for "bins" their distribution too."""
    found = color_targets.Measured()
    for batch in batches:
      ab = color_targets.cell_colors(batch["image"], self._cell)  # [b, q, 2]
      found.add(np.asarray(ab)[~batch["gray_view"]])
    return found.bins() if self.target == "bins" else found.regression()

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    ids = queries["ids"]
    boxes = tuple((int(i), "yellow") for i in ids)
    truth = picture.paste(image, ids, answers["pixels"])
    panels = [picture.Panel("what the model sees", image, boxes)]
    if predicted is not None:
      pixels = self._colorise(answers["pixels"], predicted)
      image = picture.paste(image, ids, pixels)
      panels.append(picture.Panel("predicted colours", image, boxes))
    if answers["gray_view"]:
      return panels + [
          picture.Panel("a gray view: nothing to predict", truth, boxes)]
    return panels + [picture.Panel("true colours", truth, boxes)]

  @property
  def _cell(self) -> int:
    """Side of what has one colour, pixels."""
    p = self.geometry.patch_size
    return {"mean": p, "pixel": 1,
            "bins": math.gcd(color_targets.BINS_CELL, p)}[self.target]

  @functools.cached_property
  def _target(self) -> color_targets.Regression:
    kind = (color_targets.Bins if self.target == "bins"
            else color_targets.Regression)
    return kind.create(self.statistics)

  def _colorise(
      self, pixels: np.ndarray, predicted: np.ndarray
  ) -> np.ndarray:
    """The true lightness with the predicted colour, uint8 [k, p, p, 3]."""
    k, p = pixels.shape[:2]
    side = p // self._cell                                  # cells in a row
    ab = self._target.decode(predicted.reshape(k, side, side, -1))
    ab = np.asarray(ab).repeat(self._cell, 1).repeat(self._cell, 2)
    lightness = color.rgb_to_lab(pixels / np.float32(255))[..., :1]
    rgb = color.lab_to_rgb(jnp.concatenate([lightness, ab], axis=-1))
    return np.asarray(jnp.round(rgb * 255)).astype(np.uint8)

"""A trained encoder for notebooks: images in, features out, no TensorFlow.

  encoder = mtvit.load("runs/quickstart")
  features = encoder.features(images, readout="gap")        # [m, d]

The outputs of any layer and the attention weights are there on request.
"""

import dataclasses
import functools
from typing import Any, Callable, Iterator, NamedTuple, Sequence

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from mtvit import errors
from mtvit.checkpoints import loading
from mtvit.data import given_images
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.run import paths
from mtvit.training import saved_runs

Images = np.ndarray | Sequence[Any]


class Outputs(NamedTuple):
  """What comes out of an encoder for m images, under its final norm.

  Attributes:
    tokens: name -> float32 [m, d], for each of `Encoder.token_names`: "cls",
      then the tokens of tasks, such as "ct", the contrastive one.
    patches: float32 [m, n, d], in reading order; n is the product of
      `Encoder.grid`.
  """
  tokens: dict[str, np.ndarray]
  patches: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Encoder:
  """A trained Vision Transformer.

  Attributes:
    name: the path that it was loaded from.
    model: the `model` section of its config.
    module: the Flax module.
    params: of the module, a nested dict of float32 numpy arrays.
    gray: it was trained on gray images, and makes its input gray.
    step: of the checkpoint; 0 for a file of weights.
  """
  name: str
  model: interface.EncoderConfig
  module: interface.Encoder
  params: interface.Params
  gray: bool
  step: int

  def __repr__(self) -> str:
    """One line, whatever the parameters: which encoder, and its tokens."""
    return (f"<mtvit.Encoder {self.name!r}: {self.model.kind} "
            f"{self.model.variant}, {self.image_size} px, step {self.step}, "
            f"tokens {', '.join(self.token_names)}>")

  @property
  def image_size(self) -> int:
    """Side of the images, pixels."""
    return self.model.image_size

  @property
  def patch_size(self) -> int:
    """Side of a patch, pixels."""
    return self.model.patch_size

  @property
  def grid(self) -> tuple[int, int]:
    """Patches per column and per row."""
    side = self.image_size // self.patch_size
    return side, side

  @property
  def token_names(self) -> tuple[str, ...]:
    """The special tokens, in the order of the sequence; the first is "cls"."""
    return self.module.token_names

  @property
  def position_param(self) -> str | None:
    """Name of the parameter [n, d] of position embeddings, if it has one."""
    return next(
        (x for x in self.model.position_params if x in self.params), None)

  @property
  def readouts(self) -> tuple[str, ...]:
    """What `features` can read: each token, the mean patch, and both."""
    both = ("ct+gap",) if "ct" in self.token_names else ()
    return (*self.token_names, "gap", *both)

  def features(
      self, images: Images, readout: str = "gap", *, layer: int | None = None,
      batch_size: int = 256
  ) -> np.ndarray:
    """One vector for each image: float32 [m, d].

    Args:
      images: uint8 [m, s, s, 3] of the model's size, or any sequence of
        pictures: PIL images, or uint8 arrays [h, w, 3] or [h, w].
      readout: one of `readouts`; "a+b" puts two side by side, [m, 2 d].
      layer: 0 for the input of the first block, l for the output of block l,
        under the final norm; None for the last.
      batch_size: images at a time.

    Raises:
      ConfigError: there is no such readout or layer, or an image is no image.
    """
    parts = readout.split("+")
    for part in parts:
      if part not in (*self.token_names, "gap"):
        raise errors.ConfigError(
            f"readout {readout!r}: this encoder has none",
            f"choose one of {', '.join(self.readouts)}")
    run = self._run("readouts", layer)

    def read(params, image):
      found = run(params, image)
      return jnp.concatenate([found[part] for part in parts], -1)

    return self._map(read, images, batch_size)

  def tokens(
      self, images: Images, *, layer: int | None = None, batch_size: int = 256
  ) -> Outputs:
    """All outputs: `.tokens["ct"]` [m, d] and `.patches` [m, n, d], numpy.

    The arguments are those of `features`.
    """
    return self._map(self._run("tokens", layer), images, batch_size)

  def attention(
      self, images: Images, *, layer: int = -1, batch_size: int = 64
  ) -> np.ndarray:
    """Attention weights of one block: float32 [m, heads, t + n, t + n].

    Rows are queries and sum to 1. The special tokens come first, then the
    patches in reading order.

    Args:
      images: as in `features`.
      layer: of the depth many blocks, from 0; -1 is the last.
      batch_size: images at a time.
    """
    depth = self.module.depth
    if not -depth <= layer < depth:
      raise errors.ConfigError(
          f"attention of layer {layer}", f"there are {depth} blocks, from 0")
    return self._map(
        self._run("attention", layer % depth), images, batch_size)

  def prepare(self, images: Images) -> Iterator[np.ndarray]:
    """Each picture as the model wants it; see `data.given_images.square`."""
    for i, image in enumerate(images):
      yield given_images.square(
          image, f"image {i}", self.image_size, self.gray)

  def _run(self, what: str, layer: int | None) -> Callable[[Any, Any], Any]:
    depth = self.module.depth
    if layer is not None and not 0 <= layer <= depth:
      raise errors.ConfigError(
          f"layer {layer}", f"there are 0, the input, to {depth}, the last")
    return _compiled(self.module, what, layer)

  def _map(
      self, run: Callable[[Any, np.ndarray], Any], images: Images,
      batch_size: int
  ) -> Any:
    """Runs batches of one size and puts the results together."""
    if isinstance(images, Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim == 3
        and images.shape[-1] in (3, 4)):
      raise errors.ConfigError("this is one image", "give [image]")
    images = images if hasattr(images, "__getitem__") else list(images)
    if len(images) == 0 or batch_size < 1:
      raise errors.ConfigError(
          f"there are {len(images)} images, in batches of {batch_size}",
          "give one of each at least")
    params = jax.device_put(self.params)      # Once, not for each batch.
    found, batch_size = [], min(batch_size, len(images))
    for start in range(0, len(images), batch_size):
      batch = np.stack(list(self.prepare(images[start:start + batch_size])))
      rows = len(batch)
      batch = np.pad(batch, [(0, batch_size - rows)] + [(0, 0)] * 3)
      found.append(jax.tree.map(
          lambda x, rows=rows: np.asarray(x)[:rows], run(params, batch)))
    return jax.tree.map(lambda *x: np.concatenate(x), *found)


@functools.cache
def _compiled(
    module: interface.Encoder, what: str, layer: int | None
) -> Callable[[Any, Any], Any]:
  """A jitted (params, image [b, s, s, 3]) -> what was asked for."""

  def run(params, image):
    out = module.apply(
        {"params": params}, image,
        layers=layer is not None and what != "attention",
        attention=what == "attention")
    if what == "attention":
      return out.attention[layer]
    if layer is not None:
      out = at_layer(module, params, out, layer)
    if what == "readouts":
      out = readouts(out)
    else:
      out = Outputs(out.tokens, out.patches)
    return jax.tree.map(lambda x: x.astype(jnp.float32), out)

  return jax.jit(run)


def at_layer(
    module: interface.Encoder, params: interface.Params,
    features: interface.Features, layer: int
) -> interface.Features:
  """Another layer's outputs under the final norm.

  As DINOv2's get_intermediate_layers has them, so that the last layer's are
  the encoder's.

  Args:
    module: the encoder.
    params: of the encoder.
    features: with `layers`.
    layer: from 0, the input of the first block, to the depth.
  """
  if features.layers is None:
    raise ValueError("features without layers")
  x = module.final_norm(params, features.layers[layer])     # [b, t+n, d]
  token_names = module.token_names
  return interface.Features(
      tokens={name: x[:, i] for i, name in enumerate(token_names)},
      patches=x[:, len(token_names):])


def readouts(features: interface.Features) -> dict[str, jax.Array]:
  """Readout name -> [b, d]: each token, and "gap", the mean of the patches."""
  return dict(features.tokens) | {"gap": features.readout("gap")}


def load(path: paths.Given, step: int | None = None) -> Encoder:
  """Loads an encoder.

  Args:
    path: the work directory of a run, one of its checkpoints
      (`RUN/checkpoints/400`), or a .safetensors or .npz file in the naming of
      timm, AugReg or mtvit.
    step: of a run: which checkpoint; None for the newest.

  Raises:
    CheckpointError: there is nothing to load, or it is damaged.
  """
  place = paths.parse(path)
  if place.suffix in loading.WEIGHTS:
    return _from_file(place)
  return from_run(place, saved_runs.load(place, step))


def from_run(path: paths.Given, run: saved_runs.TrainedRun) -> Encoder:
  """The encoder of what was loaded from a path."""
  return Encoder(
      name=str(path), model=run.config.model, module=run.model.encoder(),
      params=run.params["encoder"], gray=run.config.input == "gray",
      step=run.step)


def _from_file(path: epath.Path) -> Encoder:
  read = loading.imported(path)
  kind = encoders.config_class(read.model.get("kind", "vit"))
  model = kind(**read.model)
  return Encoder(
      name=str(path), model=model, params=read.params, gray=read.gray,
      step=0,
      module=model.encoder(tuple(read.token_names), read.position_policy))

"""What an encoder is: a section of the config that builds a Flax module.

An encoder is a plug-in. Its `EncoderConfig` is listed in `encoders.ENCODERS`
and says all that the rest of the program wants to know of it; the `Encoder`
that it builds turns images into `Features`. `vit.py` has ours.
"""

import abc
import dataclasses
import re
from typing import Any, ClassVar, Iterable, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from mtvit.models import attention
from mtvit.models import blocks
from mtvit.models import variants

# A nested dict of arrays, or of what there is for each of them, by name.
Params = Any
# Any tree of arrays, as JAX has it.
PyTree = Any
# The format of `mtvit export` that holds any listed encoder: parameters
# under their own names, and the `model` section.
OWN_FORMAT = "numpy"


@flax.struct.dataclass
class Features:
  """What the encoder gives to the heads.

  Attributes:
    tokens: name -> [b, d], the outputs of [CLS] and of the task tokens.
    patches: [b, n, d], the outputs of the patches in reading order.
    layers: [depth + 1, b, t + n, d], if asked for: what goes into the first
      block, then what comes out of each, before the final norm.
    attention: float32 [depth, b, heads, t + n, t + n], if asked for: each
      query's weights over the keys.
  """
  tokens: dict[str, jax.Array]
  patches: jax.Array
  layers: jax.Array | None = None
  attention: jax.Array | None = None

  def readout(self, name: str) -> jax.Array:
    """The token of that name, or "gap", the mean of the patches: [b, d]."""
    if name == "gap":
      return self.patches.mean(axis=1)
    return self.tokens[name]

  def at(self, ids: jax.Array) -> jax.Array:
    """Outputs of the patches `ids` [b, k] -> [b, k, d]."""
    return jnp.take_along_axis(self.patches, ids[..., None], axis=1)


class Encoder(Protocol):
  """A Flax module from images to `Features`.

  Attributes:
    token_names: "cls" and the names of the task tokens, in order.
    width: d, channels of a token.
    depth: how many blocks there are.
    heads: of the attention of a block.
    position_policy: what becomes of the positions in `hide_position`; see
      `EncoderConfig.build`.
  """
  token_names: tuple[str, ...]
  width: int
  depth: int
  heads: int
  position_policy: str

  def __call__(
      self, image: jax.Array, hide_position: jax.Array | None = None, *,
      layers: bool = False, attention: bool = False, train: bool = False
  ) -> Features:
    """Encodes images.

    Args:
      image: uint8 [b, h, w, 3], h and w multiples of the patch side.
      hide_position: bool [b, n], patches whose position must not be seen.
      layers: give the output of every layer too.
      attention: give the attention weights too.
      train: layers may drop what they drop in training, by the rng "dropout".
    """

  def final_norm(self, params: Params, x: jax.Array) -> jax.Array:
    """The norm after the last block, on another layer's output [..., d].

    Args:
      params: of this module.
      x: of any dtype; the result is float32.
    """

  def __hash__(self) -> int:
    """As every Flax module has it: functions are compiled once for each."""

  def init(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
    """As every Flax module has it."""

  def init_with_output(self, rngs: Any, *args: Any, **kwargs: Any) -> Any:
    """As every Flax module has it."""

  def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
    """As every Flax module has it."""

  def copy(self, *, name: str) -> "Encoder":
    """As every Flax module has it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(abc.ABC):
  """The `model` section of a config; the fields are its keys.

  An encoder adds fields of its own, with defaults. These are the keys that the
  program knows of any:

  Attributes:
    kind: the name in `encoders.ENCODERS`.
    variant: NAME/PATCH, such as S/16: which of its sizes, and the side of a
      patch in pixels.
    image_size: side of a view, pixels.
    dtype: "float32" or "bfloat16", of activations; parameters, norms and
      softmax are float32.
    remat: one of `blocks.REMAT_POLICIES`.
    unroll: layers that a scan over them unrolls; 0 means all of them.
    attention: one of `attention.FORMS`.
    extra_tokens: names of special tokens beside [CLS] and those that tasks
      ask for, such as "ct,rot": the tokens of a run to start from.
  """
  # Parameters [n, d] with one row for each patch: they are resized for images
  # of another size, and shown by the diagnostics.
  position_params: ClassVar[tuple[str, ...]] = ()

  kind: str = "vit"
  variant: str = "nano/8"
  image_size: int = 32
  dtype: str = "float32"
  remat: str = "none"
  unroll: int = 0
  attention: str = "auto"
  extra_tokens: str = ""

  def __post_init__(self):
    """Raises ValueError at an impossible value; so may what derives from it."""
    variants.check_size(self.image_size, self.patch_size)
    self.check_choices(
        remat=blocks.REMAT_POLICIES, attention=attention.FORMS,
        dtype=("float32", "bfloat16"))
    if not re.fullmatch(r"([a-z]\w*(,[a-z]\w*)*)?", self.extra_tokens):
      raise ValueError(
          f"model.extra_tokens is {self.extra_tokens!r}; it must be names "
          "with commas between, such as ct,rot")

  def check_choices(self, **choices: Iterable[str]) -> None:
    """Raises ValueError unless each field has one of its values."""
    for key, values in choices.items():
      if getattr(self, key) not in values:
        raise ValueError(
            f"model.{key} is {getattr(self, key)!r}; choose one of "
            f"{', '.join(values)}")

  @property
  @abc.abstractmethod
  def patch_size(self) -> int:
    """The side of a patch, pixels."""

  @abc.abstractmethod
  def build(self, tokens: tuple[str, ...], policy: str) -> Encoder:
    """The module.

    Args:
      tokens: "cls" and the names of all other special tokens.
      policy: what becomes of the position of a patch in `hide_position`:
        "drop", nothing stands for it, or "mask_token", something learned does,
        the same for all of them. With "drop_all" no patch ever has a position.
    """

  def exports(self) -> tuple[str, ...]:
    """Which formats of `mtvit export` can hold this encoder.

    Asked before anything is written, and never guessed from parameters. A
    class says it for itself alone: what derives from it computes something
    else.
    """
    return (OWN_FORMAT,)

  def encoder(
      self, token_names: tuple[str, ...], position_policy: str = "drop"
  ) -> Encoder:
    """The module with these tokens and the section's `extra_tokens`."""
    extra = self.extra_tokens.split(",") if self.extra_tokens else []
    token_names += tuple(x for x in extra if x not in token_names)
    return self.build(token_names, position_policy).copy(name="encoder")

"""The Vision Transformer encoder, in Flax Linen.

Input sequence: [CLS], one token for each image-level task, then the patches
with learnable position embeddings (report, section 2). The blocks are pre-norm
as in Dosovitskiy et al. 2021 (arXiv:2010.11929).
"""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mtvit.models import blocks as blocks_lib
from mtvit.models import cpu_forms
from mtvit.models import interface

# Width, depth and heads: nano and pico are for CPU studies; Ti to L from ViT
# and DeiT (arXiv:2012.12877), H and g from arXiv:2106.04560.
VARIANTS = {
    "pico": dict(width=96, depth=4, heads=3, mlp_dim=384),
    "nano": dict(width=128, depth=6, heads=4, mlp_dim=512),
    "Ti": dict(width=192, depth=12, heads=3, mlp_dim=768),
    "S": dict(width=384, depth=12, heads=6, mlp_dim=1536),
    "B": dict(width=768, depth=12, heads=12, mlp_dim=3072),
    "L": dict(width=1024, depth=24, heads=16, mlp_dim=4096),
    "H": dict(width=1280, depth=32, heads=16, mlp_dim=5120),
    "g": dict(width=1408, depth=40, heads=16, mlp_dim=6144),
}
POSITION_INITS = ("normal", "sincos", "none")
# What a config or a file of weights says is believed up to here: attention over
# more patches fits into no memory.
MAX_IMAGE_SIZE, MAX_PATCH_SIZE = 4096, 256        # Pixels.
MAX_PATCHES, MAX_TOKENS = 2**14, 64


def parse_variant(variant: str) -> tuple[dict[str, int], int]:
  """Splits "S/16" into the sizes of ViT-S and the patch side in pixels.

  Raises:
    ValueError: the name is not NAME/PATCH with a NAME of `VARIANTS`.
  """
  name, _, patch = variant.partition("/")
  if name not in VARIANTS or not re.fullmatch(r"[1-9]\d{0,8}", patch, re.ASCII):
    raise ValueError(
        f"model.variant is {variant[:80]!r}; it must be NAME/PATCH, such as "
        f"S/16, with NAME one of {', '.join(VARIANTS)}")
  return VARIANTS[name], int(patch)


def check_size(image_size: int, patch: int) -> None:
  """Raises ValueError unless images of this side, pixels, have such patches."""
  if image_size < patch or image_size % patch:
    raise ValueError(
        f"model.image_size={image_size} is not a multiple of the patch side "
        f"{patch} of model.variant")
  count = (image_size // patch)**2
  for what, value, limit in (
      ("model.image_size", image_size, MAX_IMAGE_SIZE),
      ("the patch side of model.variant", patch, MAX_PATCH_SIZE),
      ("the number of patches", count, MAX_PATCHES)):
    if value > limit:
      raise ValueError(f"{what} is {value}; at most {limit} are possible")


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
  """Sines and cosines of row and column, [rows * columns, width].

  A quarter of the channels each for sin(row), cos(row), sin(column) and
  cos(column), at frequencies from 1 down to 1/10000 (MoCo v3, section 4).
  """
  if width % 4:
    raise ValueError(f"sincos positions need a width of 4k, not {width}")
  frequency = 10_000.0 ** -(np.arange(width // 4) / (width / 4))
  row, column = np.divmod(np.arange(rows * columns), columns)
  angles = [at[:, None] * frequency for at in (row, column)]  # [n, d/4] each
  return np.concatenate(
      [f(x) for x in angles for f in (np.sin, np.cos)], 1).astype(np.float32)


class Encoder(nn.Module):
  """ViT from uint8 pixels to `interface.Features`.

  Attributes:
    patch_size: side p of a patch, pixels.
    token_names: "cls" and the names of the task tokens, in order.
    unroll: how many layers the scan over layers unrolls. 1 compiles fastest;
      the depth runs faster on CPU. The parameters are the same.
    remat: one of `blocks.REMAT_POLICIES`.
    freeze_patch_embed: stops the gradient into the patch projection, never
      into the position embeddings (MoCo v3, arXiv:2104.02057).
    position_init: how the learnable position embeddings start: "normal" with
      deviation 0.02 (ViT), or "sincos", which tells places apart from the
      first step.
    position_policy: what patches of `hide_position` get: "drop" nothing,
      "mask_token" one learned embedding for all of them. With "drop_all" no
      patch ever gets an embedding, and the model has none.
    activation: one of `blocks.ACTIVATIONS`.
    drop_path: in training the branches of the last block are dropped for this
      share of the examples, linearly fewer before it (stochastic depth, Huang
      et al. 2016, arXiv:1603.09382).
    dtype: of activations; parameters, norms and softmax are float32.
  """
  patch_size: int
  token_names: tuple[str, ...]
  width: int
  depth: int
  heads: int
  mlp_dim: int
  unroll: int = 1
  remat: str = "none"
  freeze_patch_embed: bool = False
  position_init: str = "normal"
  position_policy: str = "drop"
  activation: str = "gelu_tanh"
  drop_path: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
      self, image: jax.Array, hide_position: jax.Array | None = None, *,
      layers: bool = False, attention: bool = False, train: bool = False
  ) -> interface.Features:
    """Encodes images.

    Args:
      image: uint8 [b, h, w, 3], h and w multiples of the patch side.
      hide_position: bool [b, n], patches that get no position embedding.
      layers: give the output of every layer too.
      attention: give the attention weights too.
      train: drop paths; needs the rng "dropout" if `drop_path` is above 0.
    """
    x = self._embed(image, hide_position)                   # [b, n, d]
    b, _, d = x.shape
    tokens = [
        self.param(f"token_{name}", nn.initializers.normal(0.02), (d,))
        for name in self.token_names
    ]
    tokens = jnp.broadcast_to(
        jnp.stack(tokens).astype(self.dtype), (b, len(tokens), d))
    x = jnp.concatenate([tokens, x], axis=1)                # [b, t+n, d]
    drop = None
    if train and self.drop_path:
      drop = jnp.linspace(0, self.drop_path, self.depth)    # [depth]
    blocks = nn.scan(
        blocks_lib.remat(self.remat), variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast if drop is None else 0, length=self.depth,
        unroll=self.unroll)
    first = x
    x, (outputs, weights) = blocks(
        self.heads, self.mlp_dim, self.activation, self.dtype, layers,
        attention, name="blocks")(x, drop)
    if layers:
      outputs = jnp.concatenate([first[None], outputs])     # [l+1, b, t+n, d]
    x = nn.LayerNorm(dtype=jnp.float32, name="norm")(x)     # [b, t+n, d]
    x = x.astype(self.dtype)
    t = len(self.token_names)
    return interface.Features(
        tokens={name: x[:, i] for i, name in enumerate(self.token_names)},
        patches=x[:, t:], layers=outputs, attention=weights)

  @nn.nowrap
  def final_norm(self, params: Any, x: jax.Array) -> jax.Array:
    """See `interface.Encoder`."""
    return nn.LayerNorm(dtype=jnp.float32).apply({"params": params["norm"]}, x)

  def _embed(self, image, hide_position):
    """Pixels [b, h, w, 3] -> patch embeddings with positions [b, n, d]."""
    b, h, w, c = image.shape
    p = self.patch_size
    gh, gw = h // p, w // p
    x = image.astype(self.dtype) / 127.5 - 1                # [b, h, w, c]
    x = x.reshape(b, gh, p, gw, p, c).swapaxes(2, 3)        # [b,gh,gw,p,p,c]
    x = x.reshape(b, gh * gw, p * p * c)                    # [b, n, p*p*c]
    x = nn.Dense(
        self.width, dtype=self.dtype, name="embed",
        dot_general=cpu_forms.dot_general(),
        kernel_init=nn.initializers.xavier_uniform())(x)    # [b, n, d]
    if self.freeze_patch_embed:
      x = jax.lax.stop_gradient(x)
    if self.position_policy == "drop_all":
      return x
    if self.position_init == "sincos":
      init = lambda rng, shape: jnp.asarray(
          sincos_positions(gh, gw, self.width))
    else:
      init = nn.initializers.normal(0.02)
    position = self.param(
        "position", init, (gh * gw, self.width)).astype(self.dtype)  # [n, d]
    instead = 0
    if self.position_policy == "mask_token":
      instead = self.param(
          "position_mask", nn.initializers.normal(0.02),
          (self.width,)).astype(self.dtype)                 # [d]
    if hide_position is None:
      return x + position
    return x + jnp.where(hide_position[..., None], instead, position)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(interface.EncoderConfig):
  """The `model` section of a config with `kind="vit"`.

  Attributes:
    freeze_patch_embed: see `Encoder`.
    position_init: see `Encoder`; or "none", for no embeddings at all.
    activation: see `Encoder`.
    drop_path: see `Encoder`.
  """
  position_params = ("position",)

  freeze_patch_embed: bool = False
  position_init: str = "normal"
  activation: str = "gelu_tanh"
  drop_path: float = 0.0

  def __post_init__(self):
    check_size(self.image_size, parse_variant(self.variant)[1])
    if self.remat not in blocks_lib.REMAT_POLICIES:
      raise ValueError(
          f"model.remat is {self.remat!r}; choose one of "
          f"{', '.join(blocks_lib.REMAT_POLICIES)}")
    if self.position_init not in POSITION_INITS:
      raise ValueError(
          f"model.position_init is {self.position_init!r}; choose one of "
          f"{', '.join(POSITION_INITS)}")
    if self.dtype not in ("float32", "bfloat16"):
      raise ValueError(
          f"model.dtype is {self.dtype!r}; choose float32 or bfloat16")
    if self.activation not in blocks_lib.ACTIVATIONS:
      raise ValueError(
          f"model.activation is {self.activation!r}; choose one of "
          f"{', '.join(blocks_lib.ACTIVATIONS)}")
    if not 0 <= self.drop_path < 1:
      raise ValueError(
          f"model.drop_path={self.drop_path} must be at least 0 and below 1")
    if not re.fullmatch(r"([a-z]\w*(,[a-z]\w*)*)?", self.extra_tokens):
      raise ValueError(
          f"model.extra_tokens is {self.extra_tokens!r}; it must be names "
          "with commas between, such as ct,rot")
    if self.extra_tokens.count(",") >= MAX_TOKENS:
      raise ValueError(f"model.extra_tokens are more than {MAX_TOKENS}")

  @property
  def patch_size(self) -> int:
    return parse_variant(self.variant)[1]

  def build(self, tokens: tuple[str, ...], policy: str) -> Encoder:
    """See `interface.EncoderConfig`."""
    sizes, patch = parse_variant(self.variant)
    if self.position_init == "none":
      policy = "drop_all"
    return Encoder(
        patch_size=patch, token_names=tokens,
        unroll=self.unroll or sizes["depth"], remat=self.remat,
        freeze_patch_embed=self.freeze_patch_embed,
        position_init=self.position_init, position_policy=policy,
        activation=self.activation, drop_path=self.drop_path,
        dtype=jnp.dtype(self.dtype), name="encoder", **sizes)

  def exports(self) -> tuple[str, ...]:
    """See `interface.EncoderConfig`; these libraries have this very model."""
    own = super().exports()
    if type(self) is not ModelConfig:
      return own
    return ("safetensors", "npz", "hf", *own)

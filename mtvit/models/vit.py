"""The Vision Transformer encoder, in Flax Linen.

Input sequence: [CLS], one token for each image-level task, then the patches
with learnable position embeddings (report, section 2). The blocks are pre-norm
as in Dosovitskiy et al. 2021 (arXiv:2010.11929).
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

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
REMAT_POLICIES = ("none", "dots", "full")
POSITION_INITS = ("normal", "sincos")


def parse_variant(variant: str) -> tuple[dict[str, int], int]:
  """Splits "S/16" into the sizes of ViT-S and the patch side in pixels.

  Raises:
    ValueError: the name is not NAME/PATCH with a NAME of `VARIANTS`.
  """
  name, _, patch = variant.partition("/")
  if name not in VARIANTS or not patch.isdigit() or int(patch) < 1:
    raise ValueError(
        f"model.variant is {variant!r}; it must be NAME/PATCH, such as S/16, "
        f"with NAME one of {', '.join(VARIANTS)}")
  return VARIANTS[name], int(patch)


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


@flax.struct.dataclass
class Features:
  """What the encoder gives to the heads.

  Attributes:
    tokens: name -> [b, d], the outputs of [CLS] and of the task tokens.
    patches: [b, n, d], the outputs of the patches in reading order.
  """
  tokens: dict[str, jax.Array]
  patches: jax.Array

  def at(self, ids: jax.Array) -> jax.Array:
    """Outputs of the patches `ids` [b, k] -> [b, k, d]."""
    return jnp.take_along_axis(self.patches, ids[..., None], axis=1)


class Attention(nn.Module):
  """Multi-head self-attention with one fused product for q, k and v."""
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    d = x.shape[-1]
    e = d // self.heads
    init = nn.initializers.xavier_uniform()
    qkv = nn.DenseGeneral(
        (3, self.heads, e), dtype=self.dtype, name="qkv",
        kernel_init=init)(x)                                # [b, t, 3, h, e]
    q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))             # [b, h, t, e] each
    logits = jnp.einsum("bhqe,bhke->bhqk", q * e**-0.5, k)  # [b, h, t, t]
    weights = jax.nn.softmax(logits.astype(jnp.float32))    # [b, h, t, t]
    out = jnp.einsum("bhqk,bhke->bqhe", weights.astype(self.dtype), v)
    return nn.DenseGeneral(
        d, axis=(-2, -1), dtype=self.dtype, name="out",
        kernel_init=init)(out)                              # [b, t, d]


class Block(nn.Module):
  """One pre-norm transformer block, in the form that `nn.scan` wants."""
  heads: int
  mlp_dim: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
    y = nn.LayerNorm(dtype=jnp.float32, name="norm1")(x).astype(self.dtype)
    x = x + Attention(self.heads, self.dtype, name="attn")(y)
    y = nn.LayerNorm(dtype=jnp.float32, name="norm2")(x).astype(self.dtype)
    dense = lambda dim, name: nn.Dense(
        dim, dtype=self.dtype, name=name,
        kernel_init=nn.initializers.xavier_uniform())
    y = jax.nn.gelu(dense(self.mlp_dim, "fc1")(y))          # [b, t, mlp]
    return x + dense(x.shape[-1], "fc2")(y), None


def _remat(block: type[nn.Module], policy: str) -> type[nn.Module]:
  """Wraps a block in activation rematerialisation; "none" leaves it as is."""
  if policy == "none":
    return block
  saveable = {
      "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
      "full": jax.checkpoint_policies.nothing_saveable,
  }[policy]
  return nn.remat(block, prevent_cse=False, policy=saveable)


class Encoder(nn.Module):
  """ViT from uint8 pixels to `Features`.

  Attributes:
    patch_size: side p of a patch, pixels.
    token_names: "cls" and the names of the task tokens, in order.
    unroll: how many layers the scan over layers unrolls. 1 compiles fastest;
      the depth runs faster on CPU. The parameters are the same.
    remat: one of `REMAT_POLICIES`.
    freeze_patch_embed: stops the gradient into the patch projection, never
      into the position embeddings (MoCo v3, arXiv:2104.02057).
    position_init: how the learnable position embeddings start: "normal" with
      deviation 0.02 (ViT), or "sincos", which tells places apart from the
      first step.
    position_policy: what patches of `hide_position` get: "drop" nothing,
      "mask_token" one learned embedding for all of them. With "drop_all" no
      patch ever gets an embedding, and the model has none.
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
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
      self, image: jax.Array, hide_position: jax.Array | None = None
  ) -> Features:
    """Encodes images.

    Args:
      image: uint8 [b, h, w, 3], h and w multiples of the patch side.
      hide_position: bool [b, n], patches that get no position embedding.
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
    blocks = nn.scan(
        _remat(Block, self.remat), variable_axes={"params": 0},
        split_rngs={"params": True}, in_axes=nn.broadcast, length=self.depth,
        unroll=self.unroll)
    x, _ = blocks(self.heads, self.mlp_dim, self.dtype, name="blocks")(x, None)
    x = nn.LayerNorm(dtype=jnp.float32, name="norm")(x)     # [b, t+n, d]
    x = x.astype(self.dtype)
    t = len(self.token_names)
    return Features(
        tokens={name: x[:, i] for i, name in enumerate(self.token_names)},
        patches=x[:, t:])

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
class ModelConfig:
  """The `model` section of a config; its fields are the keys.

  Attributes:
    variant: NAME/PATCH, such as nano/8 or S/16.
    image_size: side of a view, pixels.
    dtype: "float32" or "bfloat16", of activations.
    remat: one of `REMAT_POLICIES`.
    unroll: layers that the scan unrolls; 0 means all of them.
    freeze_patch_embed: see `Encoder`.
    position_init: see `Encoder`.
  """
  variant: str
  image_size: int
  dtype: str
  remat: str
  unroll: int
  freeze_patch_embed: bool
  position_init: str

  def __post_init__(self):
    _, patch = parse_variant(self.variant)
    if self.image_size < patch or self.image_size % patch:
      raise ValueError(
          f"model.image_size={self.image_size} is not a multiple of the patch "
          f"side {patch} of model.variant={self.variant}")
    if self.remat not in REMAT_POLICIES:
      raise ValueError(
          f"model.remat is {self.remat!r}; choose one of "
          f"{', '.join(REMAT_POLICIES)}")
    if self.position_init not in POSITION_INITS:
      raise ValueError(
          f"model.position_init is {self.position_init!r}; choose one of "
          f"{', '.join(POSITION_INITS)}")
    if self.dtype not in ("float32", "bfloat16"):
      raise ValueError(
          f"model.dtype is {self.dtype!r}; choose float32 or bfloat16")

  @property
  def patch_size(self) -> int:
    return parse_variant(self.variant)[1]

  def encoder(
      self, token_names: tuple[str, ...], position_policy: str = "drop"
  ) -> Encoder:
    """The encoder that this section describes."""
    sizes, patch = parse_variant(self.variant)
    return Encoder(
        patch_size=patch, token_names=token_names,
        unroll=self.unroll or sizes["depth"], remat=self.remat,
        freeze_patch_embed=self.freeze_patch_embed,
        position_init=self.position_init, position_policy=position_policy,
        dtype=jnp.dtype(self.dtype), name="encoder", **sizes)

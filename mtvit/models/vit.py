"""The Vision Transformer encoder, in Flax Linen.

Input sequence: [CLS], one token for each image-level task, registers, then the
patches with learnable position embeddings (report, section 2) or rotary ones.
The blocks are pre-norm as in Dosovitskiy et al. 2021 (arXiv:2010.11929).
"""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from mtvit.models import blocks as blocks_lib
from mtvit.models import cpu_forms
from mtvit.models import interface
from mtvit.models import positions
from mtvit.models import variants

POSITION_INITS = ("normal", "sincos", "none")


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
      first step; or "none", for no embeddings.
    position_policy: what patches of `hide_position` get: "drop" nothing,
      "mask_token" one learned embedding for all of them. With "drop_all" no
      patch ever has a position, and the model has no embeddings.
    activation: one of `blocks.ACTIVATIONS`.
    drop_path: in training the branches of the last block are dropped for this
      share of the examples, linearly fewer before it (stochastic depth, Huang
      et al. 2016, arXiv:1603.09382).
    layer_scale: see `blocks.Block`.
    class_position: [CLS] gets a position embedding too, which starts at 0.
    rotary_base: of `positions.rotary_angles`, for the patches whose position
      is not hidden; 0 for none.
    norm_epsilon: of all LayerNorms.
    attention: one of `attention.FORMS`.
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
  layer_scale: float = 0.0
  class_position: bool = False
  rotary_base: float = 0.0
  norm_epsilon: float = 1e-6
  attention: str = "auto"
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
    if self.class_position:
      tokens[0] += self.param("position_cls", nn.initializers.zeros, (d,))
    special = jnp.broadcast_to(
        jnp.stack(tokens).astype(self.dtype), (b, len(tokens), d))
    x = jnp.concatenate([special, x], axis=1)               # [b, t+n, d]
    drop = None
    if train and self.drop_path:
      drop = jnp.linspace(0, self.drop_path, self.depth)    # [depth]
    blocks = nn.scan(
        blocks_lib.remat(self.remat), variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast if drop is None else 0, nn.broadcast),
        length=self.depth, unroll=self.unroll)
    first = x
    x, (outputs, weights) = blocks(
        self.heads, self.mlp_dim, self.activation, self.dtype, layers,
        attention, self.layer_scale, self.norm_epsilon, self.attention,
        self.unroll < self.depth, name="blocks")(
            x, drop, self._angles(image, hide_position))
    if layers:
      outputs = jnp.concatenate([first[None], outputs])     # [l+1, b, t+n, d]
    x = nn.LayerNorm(
        self.norm_epsilon, dtype=jnp.float32, name="norm")(x)  # [b, t+n, d]
    x = x.astype(self.dtype)
    t = len(self.token_names)
    return interface.Features(
        tokens={name: x[:, i] for i, name in enumerate(self.token_names)},
        patches=x[:, t:], layers=outputs, attention=weights)

  @nn.nowrap
  def final_norm(self, params: interface.Params, x: jax.Array) -> jax.Array:
    """See `interface.Encoder`."""
    norm = nn.LayerNorm(self.norm_epsilon, dtype=jnp.float32)
    return cast(jax.Array, norm.apply({"params": params["norm"]}, x))

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
    if self.position_policy == "drop_all" or self.position_init == "none":
      return x
    if self.position_init == "sincos":
      init = lambda rng, shape: jnp.asarray(
          positions.sincos_positions(gh, gw, self.width))
    else:
      init = nn.initializers.normal(0.02)
    position = self.param(
        "position", init, (gh * gw, self.width)).astype(self.dtype)  # [n, d]
    instead: jax.Array | int = 0
    if self.position_policy == "mask_token":
      instead = self.param(
          "position_mask", nn.initializers.normal(0.02),
          (self.width,)).astype(self.dtype)                 # [d]
    if hide_position is None:
      return x + position
    return x + jnp.where(hide_position[..., None], instead, position)

  def _angles(self, image, hide_position):
    """Rotary angles [1 or b, t+n, e/2], 0 where there is no position; None."""
    if not self.rotary_base or self.position_policy == "drop_all":
      return None
    gh, gw = (side // self.patch_size for side in image.shape[1:3])
    angles = jnp.asarray(positions.rotary_angles(
        gh, gw, self.width // self.heads, self.rotary_base))[None]
    if hide_position is not None:
      angles = jnp.where(hide_position[..., None], 0, angles)
    return jnp.pad(angles, ((0, 0), (len(self.token_names), 0), (0, 0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(interface.EncoderConfig):
  """The `model` section of a config with `kind="vit"`.

  Attributes:
    freeze_patch_embed: see `Encoder`.
    position_init: see `Encoder`.
    activation: see `Encoder`.
    drop_path: see `Encoder`.
    layer_scale: see `Encoder`; 1e-5 in DINOv2.
    registers: further tokens that nothing reads, reg0, reg1, ... (Darcet et al.
      2023, arXiv:2309.16588).
    class_position: see `Encoder`.
    rotary_base: see `Encoder`; 100 in DINOv3, beside position_init=none.
    norm_epsilon: see `Encoder`; 1e-5 in DINOv3.
  """
  position_params = ("position",)

  freeze_patch_embed: bool = False
  position_init: str = "normal"
  activation: str = "gelu_tanh"
  drop_path: float = 0.0
  layer_scale: float = 0.0
  registers: int = 0
  class_position: bool = False
  rotary_base: float = 0.0
  norm_epsilon: float = 1e-6

  def __post_init__(self):
    super().__post_init__()
    self.check_choices(
        position_init=POSITION_INITS, activation=blocks_lib.ACTIVATIONS)
    if self.extra_tokens.count(",") + self.registers >= variants.MAX_TOKENS:
      raise ValueError(
          "model.extra_tokens and model.registers are more than "
          f"{variants.MAX_TOKENS}")
    for key, sound, want in (
        ("drop_path", 0 <= self.drop_path < 1, "at least 0 and below 1"),
        ("layer_scale", 0 <= self.layer_scale <= 1, "from 0, for none, to 1"),
        ("registers", self.registers >= 0, "at least 0"),
        ("rotary_base", self.rotary_base == 0 or 1 < self.rotary_base < 1e9,
         "0, for none, or above 1, such as 100"),
        ("norm_epsilon", 0 < self.norm_epsilon <= 0.1, "above 0, to 0.1"),
        ("class_position",
         not self.class_position or self.position_init != "none",
         "false with position_init=none, which has no embeddings")):
      if not sound:
        raise ValueError(
            f"model.{key}={getattr(self, key)} must be {want}")

  @property
  def patch_size(self) -> int:
    return variants.parse_variant(self.variant)[1]

  def build(self, tokens: tuple[str, ...], policy: str) -> Encoder:
    """See `interface.EncoderConfig`."""
    sizes, patch = variants.parse_variant(self.variant)
    tokens += tuple(f"reg{i}" for i in range(self.registers)
                    if f"reg{i}" not in tokens)
    return Encoder(
        patch_size=patch, token_names=tokens,
        unroll=self.unroll or sizes["depth"], remat=self.remat,
        freeze_patch_embed=self.freeze_patch_embed,
        position_init=self.position_init, position_policy=policy,
        activation=self.activation, drop_path=self.drop_path,
        layer_scale=self.layer_scale, class_position=self.class_position,
        rotary_base=self.rotary_base, norm_epsilon=self.norm_epsilon,
        attention=self.attention, dtype=jnp.dtype(self.dtype),
        width=sizes["width"], depth=sizes["depth"], heads=sizes["heads"],
        mlp_dim=sizes["mlp_dim"])

  def exports(self) -> tuple[str, ...]:
    """See `interface.EncoderConfig`; these libraries have this very model."""
    own = super().exports()
    if type(self) is not ModelConfig:
      return own
    # Only transformers takes any epsilon; below 1e-6 none matters. In a file of
    # timm's, embeddings would hide that there are rotary positions too.
    usual = self.norm_epsilon <= 1e-6
    if self.rotary_base:
      timm = (self.position_init == "none" and self.activation == "gelu"
              and self.norm_epsilon in (1e-6, 1e-5))
    else:
      timm = usual
    plain = not (self.layer_scale or self.registers or self.rotary_base)
    return (*["safetensors"] * timm, *["npz"] * (plain and usual),
            *["hf"] * plain, *own)

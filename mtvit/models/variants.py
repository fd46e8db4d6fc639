"""The sizes of Vision Transformers, and how large they may be."""

import re

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

"""An encoder's forward pass, written in numpy."""

import math

import jax
import numpy as np

from mtvit.models import vit

BASE = dict(
    variant="pico/8", image_size=24, dtype="float32", remat="none", unroll=1,
    freeze_patch_embed=False, position_init="normal",
    activation="gelu_tanh", drop_path=0.0, extra_tokens="")
TOKENS = ("cls", "ct")


def make(**changes):
  config = vit.ModelConfig(**(BASE | changes))
  encoder = config.encoder(TOKENS)
  image = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
  params = encoder.init(jax.random.key(0), image)["params"]
  # Larger position embeddings and biases, so that a mistake in them shows.
  rng = np.random.default_rng(1)
  params = jax.tree.map(
      lambda x: x + 0.1 * rng.standard_normal(x.shape, np.float32), params)
  return encoder, params, image


def turned(x, hidden, base):
  """Queries or keys [b, h, t, e] with the patches' channels turned."""
  e, x = x.shape[-1], x.copy()
  n = 9
  for b in range(len(x)):
    for i in range(n):
      if hidden is not None and hidden[b, i]:
        continue
      patch = x[b, :, x.shape[2] - n + i]                   # [h, e], a view
      plane = patch[:, :e // 2] + 1j * patch[:, e // 2:]
      for k in range(e // 2):
        at = (i // 3 if k < e // 4 else i % 3) - 1          # -1, 0, 1 of 3.
        period = base ** (k % (e // 4) / (e // 4))
        plane[:, k] *= np.exp(2j * np.pi * at * 2 / 3 / period)
      patch[:, :e // 2], patch[:, e // 2:] = plane.real, plane.imag
  return x


def numpy_forward(
    params, image, heads, hidden=None, names=TOKENS, base=0, epsilon=1e-6):

  def norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * p[
        "scale"] + p["bias"]

  gelu = lambda x: 0.5 * x * (
      1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
  p = jax.tree.map(np.float64, params)
  x = []
  for i in range(3):
    for j in range(3):
      patch = image[:, 8 * i:8 * i + 8, 8 * j:8 * j + 8].reshape(len(image), -1)
      x.append((patch / 127.5 - 1) @ p["embed"]["kernel"] + p["embed"]["bias"])
  x = np.stack(x, 1)
  position = np.repeat(p.get("position", np.zeros((9, x.shape[-1])))[None],
                       len(image), 0)
  if hidden is not None:
    position[hidden] = 0
  x = x + position
  tokens = np.stack([p[f"token_{name}"] for name in names])
  tokens[0] += p.get("position_cls", 0)
  x = np.concatenate([np.repeat(tokens[None], len(image), 0), x], 1)
  blocks = p["blocks"]
  for layer in range(blocks["fc1"]["bias"].shape[0]):
    block = jax.tree.map(lambda v, layer=layer: v[layer], blocks)
    y = norm(x, block["norm1"])
    q, k, v = (
        np.einsum("btd,dhe->bhte", y, block["attn"]["qkv"]["kernel"][:, i])
        + block["attn"]["qkv"]["bias"][i][None, :, None] for i in range(3))
    if base:
      q, k = (turned(x, hidden, base) for x in (q, k))
    logits = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    out = np.einsum(
        "bhte,hed->btd", weights @ v, block["attn"]["out"]["kernel"])
    out = out + block["attn"]["out"]["bias"]
    x = x + out * block.get("layer_scale1", 1)
    y = norm(x, block["norm2"])
    y = gelu(y @ block["fc1"]["kernel"] + block["fc1"]["bias"])
    y = y @ block["fc2"]["kernel"] + block["fc2"]["bias"]
    x = x + y * block.get("layer_scale2", 1)
  return norm(x, p["norm"])

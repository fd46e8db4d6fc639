"""AdamW with warm-up, cosine decay, clipping and a decay mask."""

import re

import jax
import jax.numpy as jnp
import optax

from mtvit import config as config_lib
from mtvit import errors
from mtvit.models import interface
from mtvit.models import parameter_names
from mtvit.training import weighting


def schedule(
    config: config_lib.Optimizer, batch_size: int, total_steps: int
) -> optax.Schedule:
  """Learning rate by step: linear warm-up from 0, then cosine to 0.

  The peak is base_lr · batch_size / 256 (Goyal et al. 2017, arXiv:1706.02677).
  """
  peak = config.base_lr * batch_size / 256
  warmup = round(config.warmup * total_steps)
  return optax.warmup_cosine_decay_schedule(
      0.0 if warmup else peak, peak, warmup, max(total_steps, warmup + 1))


def decay_mask(
    params: interface.Params, pattern: str, trainable: str = ""
) -> interface.PyTree:
  """True for the parameters in whose path both regular expressions are found.

  Never for the learned weights of the losses, which would drift to 1.
  """
  def decayed(path, _):
    name = parameter_names.path_name(path)
    found = re.search(pattern, name) and re.search(trainable, name)
    return bool(found) and not name.startswith(f"{weighting.LOG_VARIANCE}/")

  return jax.tree_util.tree_map_with_path(decayed, params)


def trainable_part(
    params: interface.Params, pattern: str
) -> interface.Params:
  """The parameters, without gradient for those that are not trained.

  Args:
    params: of the model.
    pattern: `optimizer.trainable`; "" trains all.

  Raises:
    ConfigError: it finds none.
  """
  names = [parameter_names.path_name(path) for path, _ in
           jax.tree_util.tree_leaves_with_path(params)]
  if not any(re.search(pattern, name) for name in names):
    raise errors.ConfigError(
        f"optimizer.trainable={pattern!r} finds no parameter",
        f"they are {', '.join(names[:2])}, ... {names[-1]}")
  return jax.tree_util.tree_map_with_path(
      lambda path, x: x if re.search(pattern, parameter_names.path_name(path))
      else jax.lax.stop_gradient(x), params)


def scale_layers(layer_decay: float) -> optax.GradientTransformation:
  """Scales updates by `layer_decay` for each layer that comes after.

  The heads and the last norm are not scaled, the last block once, and what
  makes the input of the first block the most (BEiT, arXiv:2106.08254).
  """
  def update(updates, state, params=None):
    blocks = jax.tree.leaves(updates["encoder"].get("blocks"))
    if not blocks:
      raise errors.ConfigError(
          f"optimizer.layer_decay={layer_decay}: this encoder has no layers "
          "stacked under encoder/blocks", "optimizer.layer_decay=1.0")
    depth = len(blocks[0])

    def scale(path, update):
      name = parameter_names.path_name(path)
      if name.startswith("encoder/blocks/"):
        factors = layer_decay ** (depth - jnp.arange(depth))   # [depth]
        return update * factors.reshape(-1, *[1] * (update.ndim - 1))
      if name.startswith("encoder/") and not name.startswith("encoder/norm/"):
        return update * layer_decay ** (depth + 1)
      return update

    return jax.tree_util.tree_map_with_path(scale, updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clamp(
    pattern: str, low: float, high: float
) -> optax.GradientTransformation:
  """Cuts updates so that the parameters whose path matches stay in a range."""
  def update(updates, state, params):
    def cut(path, update, value):
      if not re.search(pattern, parameter_names.path_name(path)):
        return update
      return jnp.clip(value + update, low, high) - value
    return jax.tree_util.tree_map_with_path(cut, updates, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def create(
    config: config_lib.Optimizer, batch_size: int, total_steps: int
) -> optax.GradientTransformation:
  """The gradient transformation of a run."""
  layers = [scale_layers(config.layer_decay)] * (config.layer_decay < 1)
  return optax.chain(
      optax.clip_by_global_norm(config.clip_norm),
      optax.adamw(
          schedule(config, batch_size, total_steps), b1=config.b1,
          b2=config.b2, weight_decay=config.weight_decay,
          mask=lambda params: decay_mask(
              params, config.decay, config.trainable)),
      *layers,
      clamp(rf"^{weighting.LOG_VARIANCE}/", *weighting.LOG_VARIANCE_RANGE))

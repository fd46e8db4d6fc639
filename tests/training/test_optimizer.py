"""Schedule, decay mask and one step of AdamW by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.training import optimizer

CONFIG = config_lib.Optimizer(
    base_lr=1e-3, warmup=0.1, weight_decay=0.1, decay="kernel$", b1=0.9,
    b2=0.95, clip_norm=1.0, layer_decay=1.0, trainable="")


def test_schedule():
  rate = optimizer.schedule(CONFIG, 512, 100)
  assert float(rate(0)) == 0
  assert float(rate(5)) == pytest.approx(1e-3)          # Half of the peak.
  assert float(rate(10)) == pytest.approx(2e-3)         # 1e-3 · 512 / 256
  assert float(rate(55)) == pytest.approx(1e-3)         # Half-way down.
  assert float(rate(100)) == pytest.approx(0, abs=1e-9)


def test_decay_mask_and_clipping():
  params = {"a": {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}}
  assert optimizer.decay_mask(params, "kernel$") == {
      "a": {"kernel": True, "bias": False}}
  # The weights of the losses never decay.
  params_and_weights = params | {"log_variance": {"a": jnp.zeros(())}}
  assert optimizer.decay_mask(params_and_weights, ".") == {
      "a": {"kernel": True, "bias": True}, "log_variance": {"a": False}}
  config = config_lib.Optimizer(
      **(vars(CONFIG) | dict(warmup=0.0, clip_norm=1e-9)))
  tx = optimizer.create(config, 256, 1000)
  grads = {"a": {"kernel": jnp.array([30.0]), "bias": jnp.array([40.0])}}
  updates, _ = tx.update(grads, tx.init(params), params)
  # Clipped to a norm of 1e-9: 0.6e-9 and 0.8e-9. Adam's first step is then
  # g / (|g| + 1e-8), and decay adds 0.1 · 2 for the kernel.
  want = lambda g, decay: -1e-3 * (g / (g + 1e-8) + decay)
  np.testing.assert_allclose(
      updates["a"]["kernel"], want(0.6e-9, 0.2), rtol=1e-3)
  np.testing.assert_allclose(updates["a"]["bias"], want(0.8e-9, 0), rtol=1e-3)


def encoder_params(depth=2):
  return {
      "encoder": {
          "embed": {"kernel": jnp.ones(3)}, "token_cls": jnp.ones(3),
          "blocks": {"norm1": {"scale": jnp.ones((depth, 3))},
                     "fc1": {"kernel": jnp.ones((depth, 3, 2))}},
          "norm": {"scale": jnp.ones(3)}},
      "head_supervised": {"out": {"kernel": jnp.ones(3)}}}


def test_layer_decay_by_hand():
  params = encoder_params()
  tx = optimizer.scale_layers(0.5)
  got, _ = tx.update(params, tx.init(params), params)
  # Two blocks: the head and the last norm 1, block 1 a half, block 0 a
  # quarter, what comes before it an eighth.
  encoder = got["encoder"]
  np.testing.assert_allclose(got["head_supervised"]["out"]["kernel"], 1.0)
  np.testing.assert_allclose(encoder["norm"]["scale"], 1.0)
  np.testing.assert_allclose(
      encoder["blocks"]["norm1"]["scale"], [[0.25] * 3, [0.5] * 3])
  np.testing.assert_allclose(
      encoder["blocks"]["fc1"]["kernel"][:, 0, 0], [0.25, 0.5])
  np.testing.assert_allclose(encoder["embed"]["kernel"], 0.125)
  np.testing.assert_allclose(encoder["token_cls"], 0.125)


def test_a_pattern_that_finds_nothing_is_named():
  with pytest.raises(errors.ConfigError, match="heads_.* finds no parameter"):
    optimizer.trainable_part(encoder_params(), "^heads_")


def test_what_is_not_trainable_gets_no_gradient_and_no_decay():
  params = encoder_params()
  total = lambda p: sum(jnp.sum(x) for x in jax.tree.leaves(
      optimizer.trainable_part(p, "^head_")))
  grads = jax.grad(total)(params)
  config = config_lib.Optimizer(
      **(vars(CONFIG) | dict(warmup=0.0, trainable="^head_")))
  tx = optimizer.create(config, 256, 1000)
  updates, _ = tx.update(grads, tx.init(params), params)
  assert all(not x.any() for x in jax.tree.leaves(updates["encoder"]))
  assert (updates["head_supervised"]["out"]["kernel"] < 0).all()

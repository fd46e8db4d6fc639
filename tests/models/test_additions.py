"""What newer ViTs have: LayerScale, registers, rotary positions, ..."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit.models import blocks
from mtvit.models import vit
from tests.models import forward


@pytest.mark.parametrize("changes", [
    dict(layer_scale=0.5, registers=2, class_position=True, norm_epsilon=1e-2),
    dict(layer_scale=1e-5, registers=4, rotary_base=100.0,
         position_init="none", norm_epsilon=1e-5),
    dict(rotary_base=50.0)])
def test_additions_equal_numpy(changes):
  encoder, params, image = forward.make(**changes)
  registers = [f"reg{i}" for i in range(changes.get("registers", 0))]
  names = (*forward.TOKENS, *registers)
  assert encoder.token_names == names
  run = lambda **kwargs: encoder.apply({"params": params}, image, **kwargs)
  hidden = np.random.default_rng(2).random((3, 9)) < 0.3
  for hide in (None, hidden):
    features = run(hide_position=hide)
    found = np.concatenate([
        np.stack([features.tokens[name] for name in names], 1),
        features.patches], 1)
    want = forward.numpy_forward(
        params, image, 3, hide, names, changes.get("rotary_base", 0),
        changes.get("norm_epsilon", 1e-6))
    np.testing.assert_allclose(found, want, atol=2e-4)
  np.testing.assert_array_equal(
      encoder.final_norm(params, run(layers=True).layers[-1])[:, len(names):],
      run().patches)


def test_additions_start_from_what_a_plain_encoder_is():
  plain = vit.ModelConfig(**forward.BASE).encoder(forward.TOKENS)
  image = forward.make()[2]
  init = lambda encoder: encoder.init(jax.random.key(0), image)["params"]
  params = init(plain)
  more = init(vit.ModelConfig(**(forward.BASE | dict(
      layer_scale=0.25, registers=1, class_position=True,
      rotary_base=100.0))).encoder(forward.TOKENS))
  assert (more["blocks"].pop("layer_scale1") == 0.25).all()
  assert more["blocks"].pop("layer_scale2").shape == (4, 96)
  assert not more.pop("position_cls").any()
  assert more.pop("token_reg0").any()
  jax.tree.map(np.testing.assert_array_equal, more, params)


def test_of_keys_that_are_turned_the_bias_has_a_gradient(monkeypatch):
  encoder, params, image = forward.make(rotary_base=100.0)
  monkeypatch.setattr(blocks.cpu_forms, "target", lambda: False)
  grads = jax.grad(lambda p: jnp.sum(jnp.sin(
      encoder.apply({"params": p}, image).patches)))(params)
  bias = grads["blocks"]["attn"]["qkv"]["bias"]             # [l, 3, h, e]
  assert np.abs(bias[:, 1]).max() > 1e-3 * np.abs(bias[:, 2]).max()


def test_a_task_without_positions_has_no_rotary_ones_either():
  _, params, image = forward.make(rotary_base=100.0, position_init="none")
  run = lambda base, policy: vit.ModelConfig(**(forward.BASE | dict(
      rotary_base=base, position_init="none"))).encoder(
          forward.TOKENS, policy).apply({"params": params}, image).patches
  plain = run(0.0, "drop")
  np.testing.assert_array_equal(run(100.0, "drop_all"), plain)
  assert np.abs(run(100.0, "drop") - plain).max() > 0.1

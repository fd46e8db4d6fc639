"""The encoder against a forward pass written in numpy."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit.models import blocks
from mtvit.models import interface
from mtvit.models import positions
from mtvit.models import self_attention
from mtvit.models import vit
from tests.models import forward


@pytest.mark.parametrize("unroll, remat", [
    (1, "none"), (0, "none"), (1, "full"), (2, "dots")])
def test_equals_numpy(unroll, remat):
  encoder, params, image = forward.make(unroll=unroll, remat=remat)
  hidden = np.random.default_rng(2).random((3, 9)) < 0.3
  assert hidden.any()
  for hide in (None, hidden):
    features = encoder.apply({"params": params}, image, hide)
    want = forward.numpy_forward(params, image, 3, hide)
    for i, name in enumerate(forward.TOKENS):
      np.testing.assert_allclose(features.tokens[name], want[:, i], atol=2e-4)
    np.testing.assert_allclose(features.patches, want[:, 2:], atol=2e-4)


def test_sincos_positions_are_where_embeddings_start():
  encoder, _, image = forward.make(position_init="sincos")
  params = encoder.init(jax.random.key(0), image)["params"]
  np.testing.assert_array_equal(
      params["position"], positions.sincos_positions(3, 3, 96))


def test_at_reads_the_patches_asked_for():
  patches = jnp.arange(2 * 5 * 3).reshape(2, 5, 3)
  features = interface.Features(tokens={}, patches=patches)
  got = features.at(jnp.array([[4, 0], [1, 1]]))
  np.testing.assert_array_equal(
      got, np.stack([patches[0, [4, 0]], patches[1, [1, 1]]]))


@pytest.mark.parametrize("remat, unroll", [("full", 1), ("dots", 1),
                                           ("none", 0)])
def test_gradients_do_not_depend_on_remat_or_unroll(remat, unroll):
  def gradient(**changes):
    encoder, params, image = forward.make(**changes)
    return jax.grad(lambda p: jnp.sum(jnp.sin(
        encoder.apply({"params": p}, image).patches)))(params)

  want, got = gradient(), gradient(remat=remat, unroll=unroll)
  for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got)):
    np.testing.assert_allclose(a, b, atol=1e-4 * float(jnp.abs(a).max() + 1))


def test_freezing_stops_the_patch_embedding_only():
  encoder, params, image = forward.make(freeze_patch_embed=True)
  grads = jax.grad(lambda p: jnp.sum(jnp.sin(
      encoder.apply({"params": p}, image).patches)))(params)
  assert not np.any(grads["embed"]["kernel"])
  assert np.any(grads["position"])


def test_bfloat16_computes_in_it_with_float32_parameters():
  encoder, params, image = forward.make(dtype="bfloat16")
  features = encoder.apply({"params": params}, image)
  assert features.patches.dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  want = forward.numpy_forward(params, image, 3)
  np.testing.assert_allclose(features.patches, want[:, 2:], atol=0.2)


@pytest.mark.parametrize("variant, millions", [
    ("Ti/16", 5.5), ("S/16", 21.7), ("B/16", 85.8), ("L/16", 303.3),
    ("H/14", 630.8), ("g/14", 1011.2)])
def test_sizes_are_the_published_ones(variant, millions):
  config = vit.ModelConfig(**(
      forward.BASE | dict(variant=variant, image_size=224)))
  shapes = jax.eval_shape(
      config.encoder(("cls",)).init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.uint8))
  count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
  assert count / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("changes, message", [
    (dict(variant="S"), "NAME/PATCH"),
    (dict(variant="XL/16"), "NAME/PATCH"),
    (dict(image_size=30), "multiple"),
    (dict(image_size=65536), "65536; at most 4096"),
    (dict(image_size=4096), "number of patches is 262144; at most 16384"),
    (dict(image_size=1024, variant="pico/512"), "512; at most 256"),
    (dict(variant="pico/" + "9" * 5000), "NAME/PATCH"),
    (dict(extra_tokens=",".join(f"t{i}" for i in range(65))), "more than 64"),
    (dict(extra_tokens="a,b", registers=63), "more than 64"),
    (dict(registers=-1), "registers=-1"),
    (dict(layer_scale=-1.0), "layer_scale"),
    (dict(layer_scale=math.nan), "layer_scale"),
    (dict(rotary_base=1.0), "rotary_base"),
    (dict(norm_epsilon=0.0), "norm_epsilon"),
    (dict(class_position=True, position_init="none"), "class_position"),
    (dict(drop_path=1.0), "drop_path"),
    (dict(remat="some"), "remat"),
    (dict(dtype="float16"), "dtype"),
    (dict(position_init="zeros"), "position_init"),
])
def test_bad_model_sections_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(vit.ModelConfig(**forward.BASE), **changes)


def test_mask_token_is_one_embedding_for_all_hidden_patches():
  encoder, _, image = forward.make()
  config = vit.ModelConfig(**forward.BASE)
  encoder = config.encoder(forward.TOKENS, "mask_token")
  hidden = np.zeros((3, 9), bool)
  hidden[0, [2, 5]] = True
  params = encoder.init(jax.random.key(0), image, hidden)["params"]
  got = encoder.apply({"params": params}, image, hidden)
  # The same as an encoder that has the mask's embedding in those places.
  swapped = dict(params)
  swapped["position"] = params["position"].at[np.array([2, 5])].set(
      params["position_mask"])
  want = encoder.apply({"params": swapped}, image)
  np.testing.assert_allclose(got.patches[0], want.patches[0], atol=1e-5)
  assert np.abs(got.patches[1] - want.patches[1]).max() > 1e-3


def test_drop_all_has_no_embeddings_and_no_order():
  encoder = vit.ModelConfig(**forward.BASE).encoder(forward.TOKENS, "drop_all")
  _, _, image = forward.make()
  params = encoder.init(jax.random.key(0), image)["params"]
  assert "position" not in params
  got = encoder.apply({"params": params}, image)
  order = np.random.default_rng(0).permutation(9)
  patches = image.reshape(3, 3, 8, 3, 8, 3).swapaxes(2, 3).reshape(
      3, 9, 8, 8, 3)[:, order]
  moved = patches.reshape(3, 3, 3, 8, 8, 3).swapaxes(2, 3).reshape(image.shape)
  again = encoder.apply({"params": params}, moved)
  np.testing.assert_allclose(
      again.patches, got.patches[:, order], atol=1e-4)
  np.testing.assert_allclose(again.tokens["cls"], got.tokens["cls"], atol=1e-4)


def test_layers_and_attention_are_those_of_the_forward_pass():
  encoder, params, image = forward.make()
  out = encoder.apply({"params": params}, image, layers=True, attention=True)
  plain = encoder.apply({"params": params}, image)
  assert plain.layers is None and plain.attention is None
  assert out.layers.shape == (5, 3, 11, 96)
  assert out.attention.shape == (4, 3, 3, 11, 11)
  np.testing.assert_allclose(out.attention.sum(-1), 1, rtol=1e-5)
  # A model of fewer blocks ends where a layer of this one does.
  for layer in (1, 2, 4):
    fewer = jax.tree.map(lambda x, layer=layer: x[:layer], params["blocks"])
    want = forward.numpy_forward(params | {"blocks": fewer}, image, 3)
    got = encoder.final_norm(params, out.layers[layer])
    np.testing.assert_allclose(got, want, atol=2e-4)
  last = encoder.final_norm(params, out.layers[-1])
  np.testing.assert_allclose(last[:, 2:], plain.patches, atol=1e-5)
  # The input of block 0 is what the embedding gives: tokens, then patches.
  np.testing.assert_allclose(
      out.layers[0][:, 1], np.broadcast_to(params["token_ct"], (3, 96)))


def test_dropped_paths():
  encoder, params, _ = forward.make(drop_path=0.5)
  image = np.random.default_rng(0).integers(
      0, 256, (600, 24, 24, 3), np.uint8)
  run = lambda seed, **kwargs: encoder.apply(
      {"params": params}, image, layers=True,
      rngs={"dropout": jax.random.key(seed)}, **kwargs).layers
  train, clean = run(0, train=True), run(0)
  assert (train != run(1, train=True)).any()
  np.testing.assert_array_equal(train, run(0, train=True))
  # Rates 0, 1/6, 1/3, 1/2: the first block keeps all, the last drops both of
  # its branches for a quarter of the examples.
  np.testing.assert_allclose(train[1], clean[1], atol=1e-5)
  same = np.asarray((train[4] == train[3]).all((1, 2)))     # [b]
  assert same.mean() == pytest.approx(0.25, abs=0.06)
  # What is kept makes up for what is dropped: 1/6 of both, in the second.
  change = np.asarray((train[2] - train[1]).mean((0, 1)))
  want = np.asarray((clean[2] - clean[1]).mean((0, 1)))
  assert np.corrcoef(change, want)[0, 1] > 0.99
  assert np.polyfit(want, change, 1)[0] == pytest.approx(1, abs=0.05)


def test_exact_gelu_is_another():
  encoder, params, image = forward.make()
  exact, *_ = forward.make(activation="gelu")
  a = encoder.apply({"params": params}, image).patches
  b = exact.apply({"params": params}, image).patches
  assert 1e-5 < np.abs(a - b).max() < 1e-1


def test_extra_tokens_come_after_those_of_the_tasks():
  config = vit.ModelConfig(**(forward.BASE | dict(extra_tokens="rot,ct")))
  assert config.encoder(forward.TOKENS).token_names == ("cls", "ct", "rot")
  none = vit.ModelConfig(**(forward.BASE | dict(position_init="none")))
  shapes = jax.eval_shape(
      none.encoder(forward.TOKENS).init, jax.random.key(0), forward.make()[2])
  assert "position" not in shapes["params"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_projections_have_the_gradients_of_automatic_differentiation(dtype):
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.normal(keys[0], (3, 5, 8), dtype)
  kernel = jax.random.normal(keys[1], (8, 3, 2, 4), dtype) * 0.3
  bias = jax.random.normal(keys[2], (3, 2, 4), dtype)
  out = jax.random.normal(keys[3], (3, 5, 2, 4), dtype)

  def attend(projected):
    q, k, v = projected
    weights = jax.nn.softmax(jnp.einsum("bqhe,bkhe->bhqk", q, k))
    return jnp.sum(jnp.einsum("bhqk,bkhe->bqhe", weights, v) * out)

  plain = lambda x, kernel, bias: attend(
      jnp.einsum("btd,dihe->ibthe", x, kernel) + bias[:, None, None])
  ours = lambda *args: attend(self_attention.project(*args))
  wanted = jax.grad(plain, (0, 1, 2))(x, kernel, bias)
  for want, found in zip(wanted, jax.grad(ours, (0, 1, 2))(x, kernel, bias)):
    assert found.dtype == want.dtype and found.shape == want.shape
    scale = np.abs(np.asarray(want, np.float32)).max()
    np.testing.assert_allclose(
        np.asarray(found, np.float32), np.asarray(want, np.float32),
        atol=scale * (1e-6 if dtype == "float32" else 0.03))


def test_only_matrices_of_blocks_are_cast():
  params = {"encoder": {"blocks": {
      "fc1": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}},
      "embed": {"kernel": jnp.ones(2)}}, "head_x": {"kernel": jnp.ones(2)}}
  cast = blocks.in_dtype(params, "bfloat16")
  dtypes = [str(x.dtype) for x in jax.tree.leaves(cast)]
  assert dtypes == ["float32", "bfloat16", "float32", "float32"]
  assert blocks.in_dtype(params, "float32") is params

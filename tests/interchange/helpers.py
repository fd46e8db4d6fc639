"""Encoders whose every parameter is random, so that none can hide."""

import jax
import numpy as np
import pytest
import safetensors.numpy

from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit import interchange
from mtvit.models import vit


def encoder(
    variant="pico/8", image_size=32, tokens=("cls", "ct", "rot"),
    activation="gelu_tanh", policy="drop", gray=False, seed=0, **more):
  model = vit.ModelConfig(
      variant=variant, image_size=image_size, unroll=1, activation=activation,
      **more)
  module = model.encoder(tokens, policy)
  shapes = jax.eval_shape(
      module.init, jax.random.key(0),
      np.zeros((1, image_size, image_size, 3), np.uint8))["params"]
  rng = np.random.default_rng(seed)

  def fill(path, x):
    noise = rng.standard_normal(x.shape).astype(np.float32)
    if path[-1].key == "kernel":     # Keeps activations of order one.
      return noise * np.float32(1 / np.sqrt(shapes["norm"]["bias"].size))
    return (path[-1].key == "scale") + noise * np.float32(0.3)

  return encoder_lib.Encoder(
      name="runs/some", model=model, module=module, gray=gray, step=7,
      params=jax.tree_util.tree_map_with_path(fill, shapes))


def flat(tree):
  """Path -> array."""
  return {jax.tree_util.keystr(path, simple=True, separator="/"): x
          for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same(one, other):
  """Every array, to the last bit."""
  one, other = flat(one), flat(other)
  assert one.keys() == other.keys()
  for name, x in one.items():
    assert x.dtype == other[name].dtype == np.float32, name
    assert x.shape == other[name].shape, name
    assert x.tobytes() == other[name].tobytes(), name


def saved(folder, arrays, name="other.safetensors"):
  """Writes arrays into a file; returns its path."""
  path = folder / name
  if path.suffix == ".npz":
    np.savez(path, **arrays)
  else:
    safetensors.numpy.save_file(
        {k: np.ascontiguousarray(x) for k, x in arrays.items()}, path)
  return path


def refused(path, *words):
  """The file is refused, in few lines that have these words."""
  with pytest.raises(errors.CheckpointError) as e:
    interchange.read(path)
  assert len(str(e.value).splitlines()) <= 5
  for word in words:
    assert word in str(e.value), str(e.value)


def assert_same_encoder(again, encoder, token, images):
  """Its parameters to the bit; layers may be unrolled, and round otherwise."""
  assert_same(again.params, encoder.params)
  np.testing.assert_allclose(
      again.features(images, token), encoder.features(images, token),
      atol=1e-5)

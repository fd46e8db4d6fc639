"""The Python API: the same features as the evaluations, without TensorFlow."""

import io
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

import mtvit
from mtvit import errors
from mtvit.data import image_ops
from mtvit.data import images as images_lib
from mtvit.data import patch_ops
from mtvit.data import pipeline
from mtvit.probes import features
from mtvit.training import inputs
from mtvit.training import saved_runs
from mtvit.training import sharding
from tests import states


@pytest.fixture
def images():
  return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_features_are_those_that_the_evaluations_see(run):
  encoder = mtvit.load(run)
  trained = saved_runs.load(run)
  train, _ = inputs.sources(trained.config)
  mesh = sharding.create_mesh(trained.config.mesh)
  batches = list(pipeline.eval_batches(train, 32, 16))
  want, _ = features.extract(
      trained.params, iter(batches),
      features.extractor(trained.model, mesh), mesh)
  x = np.concatenate([b["image"][b["valid"]] for b in batches])
  assert encoder.readouts == ("cls", "ct", "gap", "ct+gap")
  for readout in ("cls", "ct", "gap"):
    got = encoder.features(x, readout, batch_size=16)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want[readout], atol=1e-5)
  both = encoder.features(x, "ct+gap")
  np.testing.assert_allclose(both[:, :96], want["ct"], atol=1e-5)
  np.testing.assert_allclose(both[:, 96:], want["gap"], atol=1e-5)


def test_tokens_layers_and_attention(run, images):
  encoder = mtvit.load(run)
  tokens = encoder.tokens(images, batch_size=2)     # The last batch has one.
  assert tokens.patches.shape == (5, 16, 96)
  np.testing.assert_allclose(
      tokens.patches.mean(1), encoder.features(images), atol=1e-5)
  np.testing.assert_allclose(
      tokens.tokens["ct"], encoder.features(images, "ct"), atol=1e-5)
  last = encoder.module.depth
  np.testing.assert_allclose(
      encoder.features(images, layer=last), encoder.features(images), atol=1e-5)
  first = encoder.features(images, layer=0)
  assert np.abs(first - encoder.features(images)).max() > 0.1
  # [CLS] of layer 0 has seen no image.
  alone = encoder.features(images, "cls", layer=0)
  np.testing.assert_allclose(alone, np.broadcast_to(alone[0], (5, 96)))
  attention = encoder.attention(images)
  assert attention.shape == (5, 3, 18, 18)
  np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(
      attention, encoder.attention(images, layer=last - 1))
  assert (attention != encoder.attention(images, layer=0)).any()


def test_it_shows_itself_in_a_line(run):
  encoder = mtvit.load(run)
  assert repr(encoder) == (
      f"<mtvit.Encoder {str(run)!r}: vit pico/8, 32 px, step 2, "
      "tokens cls, ct>")
  assert "\n" not in repr(encoder) and str(encoder) == repr(encoder)


def test_outputs_are_documented_by_their_fields(run, images):
  outputs = mtvit.load(run).tokens(images)
  assert outputs._fields == ("tokens", "patches")
  for name in outputs._fields:
    assert f"{name}: " in type(outputs).__doc__
  assert outputs.tokens.keys() == {"cls", "ct"}
  for x in (*outputs.tokens.values(), outputs.patches):
    assert isinstance(x, np.ndarray) and x.dtype == np.float32


def test_any_pictures_will_do(run, images):
  encoder = mtvit.load(run)
  want = encoder.features(images[:1])
  for given in (images[0], Image.fromarray(images[0])):
    np.testing.assert_allclose(encoder.features([given]), want, atol=1e-5)
  # Larger and smaller, upright and wide, gray: the centre square, resized.
  flat = np.full((64, 100, 3), 10, np.uint8)
  flat[:, 18:82] = 200
  prepared = list(encoder.prepare(
      [flat, Image.new("L", (20, 30), 7), np.zeros((8, 8), np.uint8)]))
  assert all(x.shape == (32, 32, 3) for x in prepared)
  np.testing.assert_array_equal(prepared[0], 200)
  np.testing.assert_array_equal(prepared[1], 7)
  # Rotated by EXIF, transparent, 16 bits: as the data pipeline decodes them.
  turned = Image.new("RGB", (32, 32), "navy")
  turned.paste("white", (0, 0, 32, 16))
  exif = Image.Exif()
  exif[0x112] = 6
  clear = Image.new("RGBA", (32, 32), (9, 9, 9, 0))
  deep = Image.fromarray(np.full((32, 32), 65535, np.uint16))
  for picture, kwargs in ((turned, {"exif": exif}), (clear, {}), (deep, {})):
    file = io.BytesIO()
    picture.save(file, "PNG", **kwargs)
    got = next(encoder.prepare([Image.open(file)]))
    np.testing.assert_array_equal(
        got, images_lib.decode_pillow(file.getvalue(), 10**6))
  noise = np.random.default_rng(1).integers(0, 256, (50, 41, 3), np.uint8)
  resized = next(encoder.prepare([noise]))
  want = image_ops.centre(noise, 32).numpy()
  np.testing.assert_allclose(resized, want.astype(int), atol=1)


@pytest.mark.slow
def test_a_gray_run_sees_gray(gray_run, images):
  encoder = mtvit.load(gray_run)
  gray = patch_ops.luminance(images).numpy()
  got = np.stack(list(encoder.prepare(images)))
  np.testing.assert_array_equal(got, gray)
  np.testing.assert_allclose(
      encoder.features(images), encoder.features(gray), atol=1e-5)


def test_a_checkpoint_can_be_chosen(run, images):
  newest, first = mtvit.load(run), mtvit.load(run, step=1)
  assert (newest.step, first.step) == (2, 1)
  by_folder = mtvit.load(run / "checkpoints" / "1")
  assert by_folder.step == 1
  _, leaves = states.leaves(run, 1)
  for encoder in (first, by_folder):
    np.testing.assert_array_equal(
        encoder.params["embed"]["kernel"],
        leaves["['params']['encoder']['embed']['kernel']"])
  assert (newest.features(images) != first.features(images)).any()


def test_what_is_wrong_is_named(run, images, tmp_path):
  encoder = mtvit.load(str(run))
  for call, message in (
      (lambda: encoder.features(images, "rot"), "cls, ct, gap, ct"),
      (lambda: encoder.features(images, layer=5), "to 4, the last"),
      (lambda: encoder.attention(images, layer=4), "there are 4 blocks"),
      (lambda: encoder.features([]), "there are 0 images"),
      (lambda: encoder.features(images[0]), "this is one image"),
      (lambda: encoder.features(Image.new("RGB", (9, 9))), "one image"),
      (lambda: encoder.features(images.transpose(0, 3, 1, 2)), "3, 32, 32"),
      (lambda: encoder.features(images[:, :0]), "0, 32, 3"),
      (lambda: encoder.features(images, batch_size=0), "batches of 0"),
      (lambda: encoder.features(images.astype(float)), "float64")):
    with pytest.raises(errors.ConfigError, match=message):
      call()
  assert encoder == encoder and hash(encoder)
  with pytest.raises(errors.CheckpointError, match="is of step 1, not 2"):
    mtvit.load(run / "checkpoints" / "1", step=2)
  with pytest.raises(errors.CheckpointError, match="there are: 1, 2"):
    mtvit.load(run, step=7)
  with pytest.raises(errors.CheckpointError, match="does not exist"):
    mtvit.load(tmp_path / "nowhere")


def test_loading_needs_no_tensorflow(run):
  program = (
      "import sys, numpy as np, mtvit\n"
      f"encoder = mtvit.load({str(run)!r})\n"
      "images = np.zeros((2, 32, 32, 3), np.uint8)\n"
      "features = encoder.features(images, readout='gap')\n"
      "encoder.attention(images)\n"
      "print(features.shape, 'tensorflow' in sys.modules)\n")
  done = subprocess.run(
      [sys.executable, "-c", program], capture_output=True, text=True,
      timeout=300, check=True)
  assert done.stdout.strip() == "(2, 96) False", done.stderr
  assert jax.devices()[0].platform == "cpu"

"""Models whose pixels are normalised otherwise, and text among the weights."""

import json
import shutil

import numpy as np
import pytest

from mtvit import encoder as encoder_lib
from tests.interchange import helpers

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def embedded(params, pixels):
  """The projection of one normalised patch: [p, p, 3] -> [d]."""
  return pixels.reshape(-1) @ params["embed"]["kernel"].astype(
      np.float64) + params["embed"]["bias"]


@pytest.mark.parametrize("file, beside, told", [
    ("model.safetensors", "config.json",
     {"pretrained_cfg": {"mean": MEAN, "std": STD}}),
    ("hf.safetensors", "preprocessor_config.json",
     {"image_mean": MEAN, "image_std": STD})])
def test_another_mean_and_deviation_go_into_the_projection(
    plain, file, beside, told):
  encoder, folder, _ = plain
  if file.startswith("hf"):
    shutil.copy(folder / "hf" / "model.safetensors", folder / file)
  (folder / "timm.json").unlink()
  (folder / beside).write_text(json.dumps(told))
  read = encoder_lib.load(folder / file)
  patch = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
  # Their library normalises, and has the weights of the file; ours has its own.
  theirs = embedded(encoder.params, (patch / 255 - MEAN) / STD)
  ours = embedded(read.params, patch / 127.5 - 1)
  np.testing.assert_allclose(ours, theirs, atol=1e-5)
  assert np.abs(ours - embedded(encoder.params, patch / 127.5 - 1)).max() > 0.1


@pytest.mark.parametrize("mean, std", [
    ([0.5, 0.5], STD), (MEAN, [0.2, 0, 0.2]), ("x", STD), (MEAN, [1, 1, None]),
    ([10**400] * 3, STD), (MEAN, [1, 1, 1e-30])])
def test_an_impossible_one_is_refused(plain, mean, std):
  _, folder, _ = plain
  (folder / "timm.json").unlink()
  (folder / "config.json").write_text(
      json.dumps({"pretrained_cfg": {"mean": mean, "std": std}}))
  helpers.refused(folder / "model.safetensors", "mean and deviation")


def test_text_among_the_weights_is_refused(plain):
  _, folder, _ = plain
  for name in ("mtvit.npz", "augreg.npz"):
    with np.load(folder / name, allow_pickle=False) as file:
      arrays = dict(file)
    norm = "norm/bias" if name == "mtvit.npz" else (
        "Transformer/encoder_norm/bias")
    helpers.refused(helpers.saved(
        folder, arrays | {norm: np.full(96, "a")}, f"text_{name}"), norm)
  # A description that would be read whole.
  with np.load(folder / "mtvit.npz", allow_pickle=False) as file:
    arrays = dict(file)
  arrays["mtvit"] = np.array("{}" + " " * 2_000_000)
  helpers.refused(helpers.saved(folder, arrays, "large.npz"), "bytes of text")

"""Our augmentations beside torchvision's: what is drawn, and what it does."""

import pathlib

import numpy as np
import pytest
import scipy.stats

from mtvit.data import image_ops
from mtvit.data import photo_crops
from mtvit.data import resizing
from mtvit.data import views
from tests.parity import environment

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
SIZES = ((375, 500), (32, 32), (500, 100), (64, 48))
SCALES = ((0.08, 1.0), (0.2, 1.0))
B = 64


@pytest.fixture(scope="module")
def found(tmp_path_factory):
  """What was given to torchvision, and what it made of it."""
  folder = tmp_path_factory.mktemp("torchvision")
  rng = np.random.default_rng(0)
  photos = [photo_crops.load(name) for name in photo_crops.PHOTOGRAPHS]
  images = []
  for i in range(B):
    photo = photos[i % len(photos)]
    y, x = (rng.integers(0, side - 112) for side in photo.shape[:2])
    images.append(photo[y:y + 112, x:x + 112])
  given = {
      "images": np.stack(images), "amounts": rng.uniform(-1, 1, (B, 4)),
      "sigmas": rng.uniform(0.1, 2, B).astype(np.float32),
      "boxes": np.array([
          (rng.integers(0, 113 - h), rng.integers(0, 113 - w), h, w)
          for h, w in rng.integers(1, 113, (B, 2))]),
      "sizes": np.array([size for size in SIZES for _ in SCALES]),
      "scales": np.array([scale for _ in SIZES for scale in SCALES])}
  given["factors"] = given["amounts"] * (0.4, 0.4, 0.4, 0.1) + (1, 1, 1, 0)
  np.savez(folder / "images.npz", images=given["images"])
  np.savez(folder / "given.npz", **given)
  environment.run(HERE / "from_torchvision.py", folder)
  with np.load(folder / "results.npz", allow_pickle=False) as file:
    return given, dict(file)


def recolored(given, jitter=True, gray=False, of=(1, 1, 1, 1)):
  """Ours of all images, with each of the four amounts times `of`."""
  matrices = image_ops.color_matrices(
      jitter=np.full(B, jitter), gray=np.full(B, gray),
      amounts=(given["amounts"] * of).astype(np.float32), strength=0.5,
      mean=np.ones((B, 3), np.float32)).numpy()
  return np.stack([
      views.recolor(*each) for each in zip(given["images"], matrices)])


def test_what_is_drawn(found):
  given, theirs = found
  rng = np.random.default_rng(1)
  for k, (size, scale) in enumerate(zip(given["sizes"], given["scales"])):
    ours = image_ops.crop_boxes(
        image_ops.crop_sides(
            rng.random((20_000, 10, 2), np.float32), scale.tolist()),
        rng.random((20_000, 2), np.float32), *size.tolist()).numpy()
    area = lambda x: (x[:, 2] * x[:, 3]).astype(float)
    for of in (*range(4), area):
      one, two = (of(x) if callable(of) else x[:, of]
                  for x in (ours, theirs[f"crops{k}"]))
      assert scipy.stats.ks_2samp(one, two).pvalue > 0.01, (size, scale, of)
  for column, (centre, width) in enumerate([(1, 0.4)] * 3 + [(0, 0.1)]):
    assert scipy.stats.kstest(
        theirs["factors"][:, column], "uniform",
        (centre - width, 2 * width)).pvalue > 0.01
  assert scipy.stats.kstest(
      theirs["sigmas"], "uniform", (0.1, 1.9)).pvalue > 0.01


def test_what_crops_blur_and_gray_make(found):
  given, theirs = found
  gray = recolored(given, jitter=False, gray=True)
  for i, image in enumerate(given["images"]):
    for ours, name in (
        (resizing.resize(image, given["boxes"][i].tolist(), 64), "resized"),
        (views.blur(image, float(given["sigmas"][i])), "blurred"),
        (gray[i], "gray")):
      apart = np.abs(ours.astype(int) - theirs[name][i])
      assert apart.max() <= 2 and apart.mean() < 0.7, (name, i)


def test_how_colour_jitter_differs(found):
  """As `image_ops.color_matrices` says."""
  given, theirs = found
  apart = lambda x, y: np.abs(x.astype(float) - y).mean()
  # Hue turns the other way, which is as likely.
  whole = recolored(given, of=(1, 1, 1, -1))
  hue = recolored(given, of=(0, 0, 0, -1))
  for one, two, levels in (
      (whole, given["images"], 23.9),
      (theirs["jittered"], given["images"], 23.6),
      (whole, theirs["jittered"], 10.7),
      (theirs["any_order"], theirs["jittered"], 2.4),
      (recolored(given, of=(1, 1, 1, 0)), theirs["without_hue"], 1.7),
      (hue, given["images"], 10.6), (theirs["hue"], given["images"], 7.5),
      (hue, theirs["hue"], 11.3)):
    assert apart(one, two) == pytest.approx(levels, abs=0.06)

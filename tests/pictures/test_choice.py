"""Pictures show different images, and none without features."""

import numpy as np
import pytest

from mtvit.data import photo_crops
from mtvit.pictures import choice


def textured(seed, size=48, color=(1.0, 0.5, 0.2), shift=0):
  """Stripes with noise, of a colour."""
  draw = np.random.default_rng(seed)
  gray = 60 + shift + 60 * (np.arange(size) // 3 % 2)[:, None] + draw.integers(
      0, 30, (size, size))
  return (gray[..., None] * np.array(color)).clip(0, 255).astype(np.uint8)


def sky(size=48):
  """Blue, with a roof in a corner."""
  view = np.full((size, size, 3), (90, 140, 230), np.uint8)
  view[-size // 5:, :size // 3] = textured(9, size)[-size // 5:, :size // 3]
  return view


@pytest.mark.parametrize("size", [32, 48, 224])
@pytest.mark.parametrize("flat", [
    lambda size: np.zeros((size, size, 3), np.uint8), sky])
def test_featureless_images_are_left_out(size, flat):
  views = np.stack([textured(i, 224)[:size, :size] for i in range(8)]
                   + [flat(size)] * 2)
  assert sorted(choice.order(views, 2)) == [0, 1, 2, 3]
  views[3] = flat(size)                      # One view of an image is enough.
  assert sorted(choice.order(views, 2)) == [0, 2, 3]


def test_the_first_images_differ():
  red, green, blue = (1, .1, .1), (.1, 1, .1), (.1, .1, 1)
  views = np.stack([textured(i, color=color) for i, color in enumerate(
      [red] * 5 + [green] + [red] * 5 + [blue])])
  found = choice.order(views, 1)
  assert len({tuple(views[i].mean((0, 1)).argsort()) for i in found[:3]}) == 3
  assert sorted(found) == list(range(12))       # And each is there once.
  np.testing.assert_array_equal(found, choice.order(views, 1))


def test_gray_views_come_late():
  views = np.stack([textured(i, color=(1, 1, 1), shift=40 * i) if i < 4 else
                    textured(i) for i in range(8)])
  assert set(choice.order(views, 1)[:4]) == {4, 5, 6, 7}


def test_flat_data_are_shown_all_the_same():
  assert sorted(choice.order(np.zeros((6, 8, 8, 3), np.uint8), 2)) == [0, 1, 2]


def test_of_photographs_several_are_shown():
  names = ("hubble", "astronaut", "coffee", "flower", "rocket")
  crops = [(name, crop) for name in names for _, crop in zip(
      range(12), photo_crops.crops(name, "train"))]
  found = choice.order(np.stack([crop for _, crop in crops]), 1)
  shown = [crops[i][0] for i in found[:6]]
  assert len(set(shown)) >= 3


def test_rows_are_the_views_of_images():
  assert choice.rows(np.array([2, 0]), 2).tolist() == [4, 5, 0, 1]

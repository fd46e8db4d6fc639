"""Pictures are drawn from what they are given."""

import numpy as np
from PIL import Image

from mtvit.pictures import panels
from mtvit.tasks import picture


def test_boxes_arrows_and_pixels_are_where_they_should_be(tmp_path):
  image = np.zeros((16, 16, 3), np.uint8)
  image[:, 8:] = (0, 0, 255)
  panel = picture.Panel(
      "title", image, boxes=((0, "yellow"),), arrows=((3, (-1, 0), "red"),))
  panels.save_grid([[panel]], 8, tmp_path / "a" / "grid.png")
  drawn = np.asarray(Image.open(tmp_path / "a" / "grid.png").convert("RGB"))
  drawn = drawn.astype(int)
  blue = (drawn == (0, 0, 255)).all(-1)
  # The image without its title: from the dark to the blue half.
  rows, columns = np.where(blue)
  top, bottom, right = rows.min(), rows.max(), columns.max()
  left = right - (bottom - top)
  half = (bottom - top) // 2
  near = lambda color: np.abs(drawn - np.array(color)).max(-1) < 90
  places = lambda color: np.argwhere(near(color)) - [top, left]
  yellow, red = places((255, 255, 0)), places((255, 0, 0))
  assert len(yellow) and (yellow <= half + 3).all()          # Patch 0.
  assert len(red) and (red[:, 1] > half).all()               # Patches 1 and 3.
  assert red[:, 0].min() < half < red[:, 0].max()


def test_titles_of_two_lines_are_whole(tmp_path):
  panel = picture.Panel(
      "lost\ntheft", np.full((8, 8, 3), (0, 0, 255), np.uint8))
  panels.save_grid([[panel] * 2] * 3, 8, tmp_path / "grid.png")
  drawn = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
  blue = (drawn == (0, 0, 255)).all(-1).any(1)               # [h]
  ink = (drawn.max(-1) < 128).any(1)
  assert not ink[0] and not (ink & blue).any()
  begins = lambda x: int((np.diff(x.astype(int)) == 1).sum())
  assert begins(ink) == 3 * 2 and begins(blue) == 3

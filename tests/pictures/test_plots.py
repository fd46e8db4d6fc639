"""Plots show what they are given, where it belongs."""

import warnings

import numpy as np
from PIL import Image
import pytest

from mtvit.pictures import plots


def drawn(file):
  return np.asarray(Image.open(file).convert("RGB")).astype(int)


def near(pixels, color, by=40):
  return np.abs(pixels - np.array(color)).max(-1) < by


def test_neighbours_are_those_with_the_largest_cosine():
  train = np.array([[1, 0], [0, 5], [3, 3], [-1, 0]], float)
  found = plots.neighbours(train, np.array([[2, 0.2], [0, 0]], float), 3)
  assert found.ids[0].tolist() == [0, 2, 1]
  np.testing.assert_allclose(
      found.cosines[0], [2 / 4.04**0.5, 2.2 / 8.08**0.5, 0.2 / 4.04**0.5],
      rtol=1e-6)
  assert found.cosines[1].tolist() == [0, 0, 0]
  assert plots.neighbours(train, train, 9).ids.shape == (4, 4)


def test_a_line_for_each_run_in_each_panel(tmp_path):
  rows = lambda shift: [
      {"layer": i, "cosine": 0.1 * i + shift,
       "attention_entropy": None if i == 0 else 0.5 + shift}
      for i in range(4)]
  panels = plots.layer_panels([rows(0), rows(0.3)])
  lines = [plots.Line("a"), plots.Line("_b $x", 1)]
  plots.save_lines(plots.layer_panels([rows(0)]), lines, "x",
                   tmp_path / "one.png")
  plots.save_lines(panels, lines, "x", tmp_path / "two.png")
  blue, orange = (31, 119, 180), (255, 127, 14)
  one, two = drawn(tmp_path / "one.png"), drawn(tmp_path / "two.png")
  width = one.shape[1] // 4
  assert near(one, blue).sum() > 300 and not near(one, orange).any()
  # Cosine is the first panel and entropy the seventh; no other has a line.
  half = one.shape[0] // 2
  for i in range(8):
    panel = near(one, blue)[i // 4 * half:, i % 4 * width:][:half, :width]
    assert (panel.sum() > 50) == (i in (0, 6)), i
  assert near(two, blue).sum() > 300 and near(two, orange).sum() > 300
  # Both are in the legend below, though a name begins with "_".
  bottom = two[-45:]
  assert near(bottom, blue).sum() > 20 and near(bottom, orange).sum() > 20


@pytest.mark.parametrize("name", [
    "$", "$x$", r"$\frac$", "a\\$b$", "\udcff", "_", "", "字", "a\nb",
    "x" * 200])
def test_any_name_is_drawn_as_text(tmp_path, name):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    plots.save_lines([(name, {0: [(0, 0), (1, 1)], 1: [(0, 1)]})],
                     [plots.Line(name), plots.Line(name, 1)], "x",
                     tmp_path / "a.png")
  assert (tmp_path / "a.png").stat().st_size > 1000


def position_section(gh, gw, similarity):
  return {"grid": [gh, gw], "similarity": similarity, "r2_row": 0.5,
          "r2_column": 0.5, "distance_correlation": 0.5}


def test_each_patch_has_its_map_in_its_place(tmp_path):
  # Patch 1 (above, right) is like patch 2 (below, left), and unlike itself.
  similarity = np.zeros((4, 4))
  similarity[1] = [0, -1, 1, 0]
  plots.save_positions(
      position_section(2, 2, similarity.tolist()), tmp_path / "a.png")
  pixels = drawn(tmp_path / "a.png")
  bar = pixels.shape[1] * 2 // 3                         # The colour bar's
  red = np.argwhere(near(pixels[:, :bar], (103, 0, 31)))
  blue = np.argwhere(near(pixels[:, :bar], (5, 48, 97)))
  assert len(red) > 100 and len(blue) > 100
  assert red[:, 0].max() < pixels.shape[0] * 0.6         # The upper row.
  assert red[:, 0].min() > blue[:, 0].mean()             # Below, and left of
  assert red[:, 1].max() < blue[:, 1].mean()             # the blue.


def test_a_large_grid_shows_at_most_seven_maps_in_a_row(tmp_path):
  small = position_section(7, 7, np.eye(49).tolist())
  large = position_section(16, 16, np.eye(256).tolist())
  for name, section in (("small", small), ("large", large)):
    plots.save_positions(section, tmp_path / f"{name}.png")
  assert drawn(tmp_path / "small.png").shape == (
      drawn(tmp_path / "large.png").shape)


def test_attention_lights_up_the_patch_that_a_token_looks_at(tmp_path):
  # 1 image, 2 heads, 2 tokens and 2x2 patches: [CLS] looks at patch 3 with one
  # head, with the other a little at patch 1; [CT] at patch 0.
  attention = np.zeros((1, 2, 6, 6))
  attention[0, 0, 0, 2 + 3] = 1
  attention[0, 1, 0, [0, 2 + 1]] = 0.5                   # And at itself.
  attention[0, :, 1, 2 + 0] = 1
  image = np.full((1, 16, 16, 3), 255, np.uint8)
  plots.save_attention(
      image, attention, ("cls", "ct"), (2, 2), tmp_path / "a.png")
  pixels = drawn(tmp_path / "a.png").sum(-1)
  width = pixels.shape[1] // 3
  rows = slice(pixels.shape[0] // 5, None)               # Without the titles.
  panels = [pixels[rows, i * width:(i + 1) * width] for i in range(3)]
  quarters = [[part.mean() for half in np.array_split(panel, 2)
               for part in np.array_split(half, 2, axis=1)]
              for panel in panels]
  assert np.argsort(quarters[1])[::-1][:2].tolist() == [3, 1]
  assert np.argmax(quarters[2]) == 0
  assert np.ptp(quarters[0]) < 60 < np.ptp(quarters[1])


def test_frames_tell_right_from_wrong(tmp_path):
  images = np.full((1, 2, 8, 8, 3), 200, np.uint8)
  plots.save_neighbours(
      images[:, 0], images, [1], np.array([[1, 0]]), ["$a$", "b"],
      tmp_path / "a.png", np.array([[0.9, 0.8]]))
  pixels = drawn(tmp_path / "a.png")
  green, red = (np.argwhere(near(pixels, color))[:, 1] for color in (
      (0x2a, 0x9d, 0x3a), (0xd1, 0x35, 0x2b)))
  third = pixels.shape[1] // 3
  assert third - 9 < green.min() < green.max() < 2 * third + 9
  assert red.min() > 2 * third - 9
  # Without classes nothing is right or wrong.
  plots.save_neighbours(
      images[:, 0], images, [-1], np.array([[-1, -1]]), [],
      tmp_path / "b.png", np.array([[0.9, 0.8]]))
  assert not near(drawn(tmp_path / "b.png"), (0x2a, 0x9d, 0x3a)).any()

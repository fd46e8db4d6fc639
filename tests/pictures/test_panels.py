"""Pictures are drawn from what they are given, and explain themselves."""

import jax
import numpy as np
from PIL import Image
import pytest

from mtvit.pictures import grid
from mtvit.pictures import panels
from mtvit.pictures import plots
from mtvit.tasks import picture
from mtvit.training import inputs
from mtvit.training import run_tasks


def read(file):
  with Image.open(file) as image:
    return np.asarray(image.convert("RGB")).astype(int)


def near(pixels, color, by=90):
  return np.abs(pixels - np.array(color)).max(-1) < by


def test_boxes_arrows_and_pixels_are_where_they_should_be(tmp_path):
  image = np.zeros((16, 16, 3), np.uint8)
  image[:, 8:] = (0, 0, 255)
  panel = picture.Panel(
      "title", image, boxes=((0, "yellow"),), arrows=((3, (-1, 0), "red"),))
  panels.save_grid([[panel]], 8, tmp_path / "a" / "grid.png")
  drawn = read(tmp_path / "a" / "grid.png")
  # The image without its title: from the dark to the blue half.
  rows, columns = np.where(near(drawn, (0, 0, 255), 1))
  top, bottom, right = rows.min(), rows.max(), columns.max()
  left = right - (bottom - top)
  half = (bottom - top) // 2
  places = lambda color: np.argwhere(near(drawn, color)) - [top, left]
  yellow, red = places((255, 255, 0)), places((255, 0, 0))
  assert len(yellow) and (yellow <= half + 3).all()          # Patch 0.
  # In patch 3, and pointed at its upper end.
  assert len(red) and (red > half).all() and (red[:, 0] < bottom - top).all()
  wide = lambda y: (red[:, 0] == y).sum()
  assert wide(red[:, 0].min() + 8) > wide(red[:, 0].max() - 2)


def test_titles_of_two_lines_are_whole(tmp_path):
  blue = np.full((8, 8, 3), (0, 0, 255), np.uint8)
  rows = [[picture.Panel(f"lost\ntheft {i}", blue)] * 2 for i in range(3)]
  panels.save_grid(rows, 8, tmp_path / "grid.png")
  drawn = read(tmp_path / "grid.png")
  blue = near(drawn, (0, 0, 255), 1).any(1)                  # [h]
  ink = (drawn.max(-1) < 128).any(1)
  assert not ink[0] and not (ink & blue).any()
  begins = lambda x: int((np.diff(x.astype(int)) == 1).sum())
  assert begins(ink) == 3 * 2 and begins(blue) == 3


def drawn_figure(monkeypatch, sections, patch_size=8):
  kept = []
  monkeypatch.setattr(plots, "save", lambda figure, file: kept.append(figure))
  grid.save(sections, patch_size, None)
  kept[0].canvas.draw()
  return kept[0]


@pytest.mark.parametrize("size", [32, 48, 224])
def test_texts_are_whole_and_on_nothing(size, monkeypatch):
  view = np.full((size, size, 3), 90, np.uint8)
  section = lambda name, columns: grid.Section(
      name, "Plain words about what is seen here. " * 4, [
          [picture.Panel(f"a column with a title that is long, {i}", view)
           if i else picture.Panel(f"row {row}", view)
           for i in range(columns)] for row in range(2)])
  figure = drawn_figure(
      monkeypatch, [section(str(i), i) for i in (1, 2, 3, 4, 1)])
  axes, = figure.axes
  texts = [x.get_window_extent() for x in axes.texts]
  images = [x.get_window_extent() for x in axes.images]
  assert len(images) == 22 and figure.bbox.width < 1700
  for i, box in enumerate(texts):
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    others = texts[:i] + images
    assert not any(box.padded(-1).overlaps(other) for other in others)
  # A title that a column shares is written once.
  words = " ".join(x.get_text() for x in axes.texts)
  assert words.count("row 0") == 5 and words.count("long, 3") == 1


@pytest.fixture(scope="module")
def of_all_tasks(image_folder):
  """Config, tasks and a batch of 8 images of 48 px that all tasks corrupt."""
  from configs import quickstart
  from mtvit import config as config_lib
  config = quickstart.get_config()
  config.data.name, config.batch_size = f"folder:{image_folder}", 8
  config = config_lib.parse(config)
  tasks = run_tasks.create(config)
  train, _ = inputs.sources(config)
  batch = inputs.sample(config, tasks, train)
  return tasks, jax.tree.map(np.asarray, batch)


def test_what_other_tasks_have_changed_is_pale(of_all_tasks):
  tasks, batch = of_all_tasks
  seen = batch["passes"]["shared"]["image"]
  shown = panels.shown(batch, tasks)
  assert shown.keys() == {task.name for task in tasks}
  marked = {task.name: panels.framed(batch, task) for task in tasks}
  patch_tasks = [task for task in tasks if marked[task.name].any()]
  assert {task.name for task in patch_tasks} == {
      "relative_position", "jigsaw", "inpaint", "colorize"}
  cut = lambda x: x.reshape(len(x), 6, 8, 6, 8, 3).swapaxes(2, 3).reshape(
      len(x), 36, -1)
  for task in tasks:
    its = shown[task.name]
    differs = (cut(its.views) != cut(seen)).any(-1)          # [b, n]
    if task not in patch_tasks:
      assert not differs.any() and its.note == panels.CHANGED
      continue
    others = np.any([marked[other.name] for other in patch_tasks
                     if other is not task], axis=0)
    np.testing.assert_array_equal(differs, others)
    assert not (others & marked[task.name]).any()
    assert its.note == panels.PALE


def test_pale_patches_are_brighter_flatter_and_crossed_out():
  view = np.zeros((1, 16, 16, 3), np.uint8)
  view[:, ::2] = 200
  found = panels.pale(view, np.array([[False, True, False, False]]), 8)
  patch = found[0, :8, 8:]
  np.testing.assert_array_equal(found[0, :, :8], view[0, :, :8])
  assert (patch[range(8), range(7, -1, -1)] == patch[0, 7]).all()
  rest = patch[~np.eye(8, dtype=bool)[::-1]]
  assert rest.mean() > view.mean() and np.ptp(rest) < 200 and rest.min() > 120


def test_rows_show_other_images(of_all_tasks):
  tasks, batch = of_all_tasks
  for task in tasks:
    rows = panels.task_rows(batch, None, task, 6)
    if not rows:
      continue                     # It has nothing to show but predictions.
    views = batch["passes"]["shared"]["image"][::2]
    assert len(rows) == 6
    for row, view in zip(rows, views):
      np.testing.assert_array_equal(row[0].image, view)


def test_every_task_says_what_its_picture_shows(of_all_tasks):
  tasks, batch = of_all_tasks
  shown = panels.shown(batch, tasks)
  for task in tasks:
    assert task.shows.endswith("."), task.name
    found = panels.section(
        batch, None, task, 2, shown[task.name], f"{task.name} after step 3")
    if found:
      assert found.heading == f"{task.name} after step 3"
      assert found.caption == f"{task.shows} {shown[task.name].note}"

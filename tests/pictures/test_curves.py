"""Curves show what matters first, and nothing lies on them."""

import numpy as np
from PIL import Image
import pytest

from configs import common
from mtvit.pictures import curves


def a_run(same=True):
  """The lines of a run of all tasks, of which some things never change."""
  draw = np.random.default_rng(0).uniform
  lines = []
  for step in range(0, 1001, 100):
    line = {"step": step}
    if step:
      for name in common.TASKS:
        line |= {f"{name}/skill": draw(-0.01, 0.02), f"{name}/loss": draw(0, 9)}
      line |= {"train/loss": draw(5, 9), "train/finite": 1.0,
               "train/skipped": 0.0, "train/grad_norm": draw(0, 1),
               "gradients/all/norm/jigsaw": draw(0, 1),
               "colorize/error_ab": draw(0, 9)}
    for i, name in enumerate(("ct", "gap", "cls", "rot", "clu")):
      line |= {f"knn/{name}": 0.7 + draw(0, 0.01), f"rankme/{name}": 6.0 + i}
    line["knn/accuracy"] = line["knn/ct"]
    lines.append(line)
  random = lines[0]["knn/accuracy"] + (0 if same else 0.05)
  lines[-1] |= {"knn/accuracy_random_init": random,
                "rankme/ct_random_init": 6.0}
  return lines


def test_what_matters_comes_first():
  first, second, *others = curves.plots_of(a_run())
  assert first.title.startswith("Is it good? kNN")
  assert list(first.lines) == ["trained"]
  assert first.levels == {"random init": first.lines["trained"][0][1]}
  assert second.title.startswith("Skills")
  assert set(second.lines) == set(common.TASKS)
  assert [len(points) for points in second.lines.values()] == [10] * 7
  assert [plot.title for plot in others] == [
      "kNN accuracy of each readout", "norm of the gradient",
      "colorize: error ab"]


def test_what_never_changes_and_losses_are_left_out():
  drawn = {value for plot in curves.plots_of(a_run())
           for points in plot.lines.values() for value in points}
  for line in a_run():
    for key, value in line.items():
      hidden = key.endswith("/loss") or key.startswith(
          ("rankme", "gradients", "train/finite", "train/skipped"))
      if key != "step" and not key.endswith("_random_init"):
        assert ((line["step"], value) in drawn) != hidden, key


def test_other_images_at_the_end_are_no_part_of_the_curve():
  lines = a_run(same=False)
  first = curves.plots_of(lines)[0]
  assert list(first.lines) == ["trained", "trained, at the end"]
  assert [step for step, _ in first.lines["trained"]] == [*range(0, 1000, 100)]
  assert first.levels == {
      "at step 0": lines[0]["knn/accuracy"],
      "random init, at the end": lines[0]["knn/accuracy"] + 0.05}


def test_a_run_without_labels_shows_what_it_finds():
  lines = [{"step": step, "retrieval/top1": 0.1 + step / 10,
            "retrieval/chance": 0.01, "retrieval/ct": 0.1 + step / 10,
            "heldout/jigsaw/skill": step / 10, "jigsaw/skill": step / 9}
           for step in range(3)]
  found = curves.plots_of(lines)
  assert found[0].title.startswith("Is it good? Finds another view")
  assert found[0].levels == {"at step 0": 0.1}
  assert [plot.title.split()[0] for plot in found[1:]] == [
      "Skills", "skills", "retrieval"]
  assert list(found[2].lines) == ["jigsaw"] and list(found[3].lines) == ["ct"]


@pytest.mark.parametrize("lines", [
    a_run(), a_run(same=False), a_run()[:2], [{"step": 1, "jigsaw/skill": 0.0}],
    [{"step": i, "jigsaw/skill": 10.0 ** -i} for i in range(4)], []])
def test_nothing_lies_on_a_curve(lines):
  figure = curves.draw(curves.plots_of(lines))
  figure.canvas.draw()
  whole = figure.bbox
  for axes in figure.axes:
    texts = [x for x in axes.texts if x.get_text()]
    assert texts and not axes.get_legend()
    boxes = [x.get_window_extent() for x in (*texts, axes.title)]
    for box in boxes:                       # Whole, and outside the axes.
      assert whole.x0 <= box.x0 and box.x1 <= whole.x1, lines
      assert whole.y0 <= box.y0 and box.y1 <= whole.y1
      assert not any(
          box.overlaps(other.get_window_extent()) for other in figure.axes)
    for i, box in enumerate(boxes):
      assert not any(box.overlaps(other) for other in boxes[:i])
    names = [x.get_window_extent() for x in axes.texts]
    for line in axes.lines:
      for box in names:
        points = line.get_transform().transform(line.get_xydata())
        assert not box.padded(-1).count_contains(points)


def test_names_are_beside_their_lines_and_of_their_colour():
  lines = [{"step": step, "high/skill": 0.9 * step, "low/skill": 0.1 * step}
           for step in (0, 1)]
  axes, = curves.draw(curves.plots_of(lines)).axes
  low, high = axes.get_ylim()
  places = {x.get_text().split()[0]: x for x in axes.texts}
  for line, name in zip(axes.lines, ("high", "low")):
    assert places[name].get_color() == line.get_color()
    y = line.get_ydata()[-1]
    assert places[name].xy[1] == pytest.approx((y - low) / (high - low))
    assert places[name].get_text() == f"{name} {y:.3f}"


def test_a_task_has_one_colour():
  colors = curves._colors(curves.plots_of(
      [{"step": i, "a/skill": i, "b/skill": -i, "b/accuracy": 2 * i,
        "rankme/ct": i} for i in (0, 1)]))
  assert colors["a"] != colors["b"] and set(colors) == {"a", "b", "ct"}


@pytest.mark.parametrize("wanted, gap, places", [
    ([0.5, 0.1], 0.1, [0.5, 0.1]), ([0.5, 0.5], 0.2, [0.5, 0.7]),
    ([1, 1, 1], 0.1, [0.8, 0.9, 1]), ([0, 0, 0], 0.9, [0, 0.5, 1]), ([], 1, [])
])
def test_names_make_room(wanted, gap, places):
  assert curves.spread(wanted, gap) == pytest.approx(places)


def test_curves_are_drawn(tmp_path):
  curves.save_curves(a_run(), tmp_path / "curves.png")
  with Image.open(tmp_path / "curves.png") as drawn:
    pixels = np.asarray(drawn.convert("RGB")).astype(int)
  blue = np.abs(pixels - (31, 119, 180)).max(-1) < 60
  assert blue[:400].sum() > 200

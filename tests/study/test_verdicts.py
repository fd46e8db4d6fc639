"""The general rule over the comparisons of any study."""

import numpy as np
import pytest

from mtvit.study import arms
from mtvit.study import verdicts
from tests.study import synthetic

# Two arms and their comparator, of the synthetic study.
FIRST = arms.Comparison("report", "contrastive", ("knn", "linear"))
SECOND = arms.Comparison("all", "contrastive", ("knn",), margin=0.5)


def words(world, *comparisons):
  return [x.verdict for x in verdicts.of_comparisons(
      world.results(), comparisons)]


def test_each_comparison_has_its_measures_and_its_margin():
  world = synthetic.World()
  world.shift("report", "probes", 0.9).shift("all", "knn", 0.9)
  assert words(world, FIRST, SECOND) == ["inconclusive", "supported"]
  world.shift("report", "probes", 0.2, 0)
  assert words(world, FIRST, SECOND) == ["supported", "supported"]
  world.shift("report", "linear", -3, 0).shift("all", "knn", -3, 0)
  assert words(world, FIRST, SECOND) == ["inconclusive", "refuted"]


def test_holm_goes_over_all_comparisons():
  world = synthetic.World()
  world.shift("report", "probes", 2, 8.5)              # p is about 0.03.
  assert words(world, FIRST) == ["supported"]
  assert words(world, FIRST, SECOND) == ["inconclusive", "refuted"]


def test_what_there_is_no_interval_of_has_no_verdict():
  world = synthetic.World()
  pair = arms.Comparison("weight_colorize_over_3", "all", ("knn",))
  (found,) = verdicts.of_comparisons(world.results(), [pair])
  assert found.verdict == verdicts.NONE and "one seed" in found.rule
  world.lost.add(("report", 1))
  (found,) = verdicts.of_comparisons(world.results(), [FIRST])
  assert found.verdict == verdicts.NONE
  assert found.rule == "missing: report, seed 1"
  assert len(found.differences[0].by_seed) == 4      # What there is, is shown.


def test_what_another_verdict_needs_is_said():
  world = synthetic.World().shift("report", "knn", 0.6)
  (found,) = verdicts.of_comparisons(
      world.results(), [arms.Comparison("report", "contrastive", ("knn",))])
  assert found.says == "better by 1 in kNN"
  assert "supported needs +0.40 points in kNN against contrastive" in (
      found.change)
  pair = arms.Comparison(
      "report", "contrastive", ("linear_val/ct", "position/r2"), margin=0.5)
  world.arms["contrastive"]["linear_val/ct"] = np.full(5, 40.0)
  world.arms["report"]["linear_val/ct"] = np.full(5, 40.25)
  (found,) = verdicts.of_comparisons(world.results(), [pair])
  assert found.says == "better by 0.5 in linear_val/ct and position R²"
  assert [x.accuracy for x in found.differences] == [True, False]
  # Only accuracies are in points.
  assert found.change.startswith(
      "supported needs +0.25 points in linear_val/ct against contrastive, "
      "+0.50 in position R² against contrastive;")


def test_images_are_drawn_again_beside_it():
  rng = np.random.default_rng(0)
  world = synthetic.World()
  right = {}
  for arm, rate in (("report", 0.7), ("contrastive", 0.6)):
    right[arm] = rng.uniform(size=(5, synthetic.IMAGES)) < rate
    world.arms[arm]["knn"] = 100 * right[arm].mean(1)
    world.arms[arm]["knn/correct"] = list(map(synthetic.packed, right[arm]))
  found = verdicts.difference(
      world.results(), "report", "contrastive", "knn")
  d = 100 * (right["report"].mean(0) - right["contrastive"].mean(0))
  width = 1.96 * d.std() / np.sqrt(len(d))
  assert found.images == pytest.approx(
      (d.mean() - width, d.mean() + width), abs=0.3)
  assert found.d.mean == pytest.approx(d.mean())
  world.lost = {("report", i) for i in range(5)}
  assert verdicts.difference(
      world.results(), "report", "contrastive", "knn").images is None

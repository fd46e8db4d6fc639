"""Each rule of each claim: a case in which it holds, and its neighbour."""

import pytest

from mtvit.study import report_claims
from tests.study import synthetic

SPARSE = 6.8        # Makes p of a mean of 2 about 0.015: not after Holm.


def verdict(claim, *steps, **attributes):
  world = synthetic.World()
  for step in steps:
    world.shift(*step)
  for name, value in attributes.items():
    setattr(world, name, value)
  return find(world, claim).verdict


def find(world, claim):
  return {x.claim: x for x in report_claims.verdicts(world.results())}[claim]


@pytest.mark.parametrize("arm, control", [
    ("report", "control"), ("all", "all_control")])
@pytest.mark.parametrize("steps, expected", [
    ([("ARM", "probes", 1.001)], "supported"),
    ([("ARM", "probes", 0.999)], "inconclusive"),                # The margin.
    ([("ARM", "probes", 2, 5.0)], "supported"),
    ([("ARM", "probes", 2, SPARSE)], "inconclusive"),            # Holm.
    ([("ARM", "knn", 2)], "inconclusive"),                       # One of two.
    ([("ARM", "probes", 2), ("CONTROL", "probes", 1.3, 0)], "augmentation"),
    ([("ARM", "probes", 2), ("CONTROL", "probes", 1.2, 0)], "inconclusive"),
    ([("ARM", "probes", 2), ("CONTROL", "knn", 1.3, 0)], "inconclusive"),
    ([("ARM", "probes", 0.74)], "refuted"),
    ([("ARM", "probes", 0.76)], "inconclusive"),                 # Its interval.
    ([("ARM", "probes", -9), ("CONTROL", "probes", -20)], "refuted"),
])
def test_richer(arm, control, steps, expected):
  names = {"ARM": arm, "CONTROL": control}
  steps = [(names[x], *rest) for x, *rest in steps]
  assert verdict(f"1 {arm}", *steps) == expected


def test_holm_goes_over_the_claims():
  ours = ("report", "probes", 2, SPARSE)
  assert verdict("1 report", ours) == "inconclusive"
  # Three claims of far smaller p: it is the fourth of six, times three.
  others = [(arm, "probes", 9 + 2, SPARSE + 0.01) for arm in (
      "separate_compute", "harmonised", "report_drop", "report_swap")]
  assert verdict("1 report", ours, *others) == "supported"
  # The larger p of drop and swap is that of the second claim.
  assert verdict("1 report", ours, *others[:3]) == "inconclusive"


@pytest.mark.parametrize("steps, expected", [
    ([("report_drop", "knn", 1.001)], "harms"),
    ([("report_swap", "knn", 1.001)], "harms"),
    ([("report_drop", "knn", 0.999)], "no effect"),
    ([("report_drop", "knn", 2, SPARSE)], "no effect"),
    ([("report_drop", "linear", 5)], "no effect"),
    ([("report_swap", "knn", 2), ("report", "position/r2", 0.3, 0.1)],
     "harms"),                                                   # Comes first.
    ([("report", "position/r2", 0.026, 0.1)], "gains"),
    ([("report", "position/r2", 0.024, 0.1)], "no effect"),
    ([("report", "position/r2", 0.1, 0.1), ("report", "knn", -0.74)], "gains"),
    ([("report", "position/r2", 0.1, 0.1), ("report", "knn", -0.76)],
     "inconclusive"),
    ([("report", "position/r2", -0.026, 0.1)], "inconclusive"),
    ([("report", "knn", 0.74)], "no effect"),
    ([("report", "knn", 0.76)], "inconclusive"),
])
def test_positions(steps, expected):
  assert verdict("2", *steps) == expected


@pytest.mark.parametrize("head", ["trained", "refitted"])
@pytest.mark.parametrize("accuracy, word", [
    (0.501, "cheats"), (0.499, "does not cheat")])
def test_cheating_is_printed_apart(head, accuracy, word):
  world = synthetic.World()
  x = world.arms["report"][f"cheat/relative_position/contents/{head}"]
  world.shift("report", f"cheat/relative_position/contents/{head}",
              accuracy - x[0], 0)
  assert find(world, "2").notes[0].startswith(f"{word}: ")


@pytest.mark.parametrize("arm", ["report", "all"])
@pytest.mark.parametrize("share, cosine, flat, expected", [
    ((0.0201, 0.07), (-0.026, 0.1), False, "supported"),
    ((0.0199, 0.07), (-0.026, 0.1), False, "inconclusive"),
    ((0.03, 0.13), (-0.026, 0.1), False, "inconclusive"),    # Holds 0.
    ((0.03, 0.07), (-0.024, 0.1), False, "inconclusive"),    # Cosine not lower.
    ((0.002, 0.07), (-0.026, 0.1), False, "position, not content"),
    ((0.004, 0.07), (-0.026, 0.1), False, "inconclusive"),
    ((0.002, 0.07), (-0.024, 0.1), False, "refuted"),
    ((0.004, 0.07), (-0.024, 0.1), False, "inconclusive"),
    ((0.03, 0.07), (-0.1, 0.1), True, "inconclusive"),
    ((0.0, 0.07), (0.1, 0.1), True, "inconclusive"),
])
def test_smoothing(arm, share, cosine, flat, expected):
  world = synthetic.World()
  world.shift(arm, "layers/residual_share", *share)
  world.shift(arm, "layers/cosine_centred", *cosine)
  if flat:
    world.arms["contrastive"]["layers/cosine_centred"][:] = 0.3
  assert find(world, f"3 {arm}").verdict == expected


def test_the_last_third_alone_counts():
  world = synthetic.World()
  world.shift("report", "layers/cosine_centred", -0.1, 0.1)
  early = world.arms["report"]["layers/residual_share"]
  early[:, :5] += 0.5                   # The input and four of six layers.
  assert find(world, "3 report").verdict == "position, not content"
  early[:, :5] -= 0.5
  early[:, 5:] += 0.03
  assert find(world, "3 report").verdict == "supported"


def cost(flops, clock):
  return {"against": "contrastive",
          "arms": {"report": {"flops_ratio": flops, "ratio": clock}}}


@pytest.mark.parametrize("steps, paid, expected", [
    ([("separate_compute", "probes", 1.001)], (1, 1), "refuted"),
    ([("separate_compute", "probes", 0.999)], (1, 1), "inconclusive"),
    ([("separate_compute", "knn", 2)], (1, 1), "inconclusive"),
    ([("separate_compute", "probes", 2, SPARSE)], (1, 1), "inconclusive"),
    ([("separate_compute", "probes", 0.74)], (1.15, 1.15), "supported"),
    ([("separate_compute", "knn", 0.76)], (1.15, 1.15), "inconclusive"),
    ([], (1.16, 1), "inconclusive"),
    ([], (1, 1.16), "inconclusive"),
])
def test_one_pass(steps, paid, expected):
  assert verdict("4", *steps, cost=cost(*paid)) == expected


def test_without_costs_one_pass_has_no_verdict_but_against_it():
  assert verdict("4", cost=None) == "no verdict yet"
  assert verdict("4", ("separate_compute", "probes", 2), cost=None) == "refuted"


@pytest.mark.parametrize("steps, expected", [
    ([("report", "probes", -0.74)], "supported"),
    ([("report", "linear", -0.76)], "inconclusive"),
    ([("report", "probes", -1.001)], "refuted"),
    ([("report", "probes", -0.999)], "inconclusive"),
    ([("report", "knn", -2)], "inconclusive"),
    ([("report", "knn_gray", -0.26), ("report", "linear_gray", -0.26)],
     "supported, by colour at test"),
    ([("report", "knn_gray", -0.26), ("report", "linear_gray", -0.24)],
     "supported"),
])
def test_harmonised(steps, expected):
  assert verdict("5", *steps) == expected


@pytest.mark.parametrize("steps, expected", [
    ([], "supported"),
    ([("alone_jigsaw", "skill/jigsaw", 0.17, 0)], "refuted"),       # 0.17/0.67
    ([("alone_jigsaw", "skill/jigsaw", 0.16, 0)], "inconclusive"),  # 0.16/0.66
    ([("alone_jigsaw", "skill/jigsaw", 0.056, 0)], "inconclusive"),
    ([("alone_jigsaw", "skill/jigsaw", 0.055, 0)], "supported"),
    ([("alone_jigsaw", "skill/jigsaw", 0.3, 3)], "supported"),      # Noise.
    ([("all", "skill/jigsaw", 0.3, 0)], "supported"),               # A rise.
    ([("alone_jigsaw", "skill/jigsaw", -0.45, 0),
      ("all", "skill/jigsaw", -0.474, 0)], "inconclusive"),         # Absolute.
    ([("alone_jigsaw", "skill/jigsaw", -0.45, 0),
      ("all", "skill/jigsaw", -0.476, 0)], "refuted"),
    ([("alone_jigsaw", "skill/jigsaw", -0.45, 0),
      ("all", "skill/jigsaw", -0.459, 0)], "supported"),
    ([("all", "gradients/late/late/colorize~contrastive", -0.059, 0)],
     "supported"),
    ([("all", "gradients/late/late/colorize~contrastive", -0.061, 0)],
     "inconclusive"),
    ([("all", "gradients/late/embed/contrastive~inpaint", -0.111, 0)],
     "refuted"),
    ([("all", "gradients/middle/late/contrastive~inpaint", -0.5, 0)],
     "supported"),
    ([("all", "gradients/late/all/contrastive~inpaint", -0.5, 0)],
     "supported"),                                  # No group of layers.
    ([("weight_colorize_over_3", "knn", -4.99, 0)], "supported"),
    ([("weight_colorize_over_3", "knn", -5.01, 0)], "refuted"),
    ([("weight_tasks_times_3", "knn", 5.01, 0)], "refuted"),
])
def test_combine(steps, expected):
  assert verdict("6", *steps) == expected


def test_what_is_against_combining_is_said_once():
  world = synthetic.World()
  world.shift("alone_jigsaw", "skill/jigsaw", 0.3, 0)
  assert find(world, "6").change.count("jigsaw") == 1


@pytest.mark.parametrize("run, claims", [
    (("contrastive", 3), {"1 report", "1 all", "3 report", "3 all"}),
    (("control", 0), {"1 report", "2", "3 report"}),
    (("report_sincos", 4), {"2"}),
    (("harmonised", 1), {"5"}),
    (("separate_compute", 1), {"4"}),
    (("alone_colorize", 2), {"6"}),
    (("weight_colorize_over_3", 0), {"6"}),
])
@pytest.mark.parametrize("failed", [False, True])
def test_a_missing_row_leaves_its_claims_open(run, claims, failed):
  world = synthetic.World()
  if failed:
    world.failed[run] = "the loss is not finite"
  else:
    world.lost.add(run)
  found = report_claims.verdicts(world.results())
  still = [x for x in found if x.verdict == "no verdict yet"]
  assert {x.claim for x in still} == claims
  for each in still:
    assert f"{run[0]}, seed {run[1]}" in each.rule
    assert ("the loss is not finite" in each.rule) == failed


def test_a_missing_measure_leaves_its_claim_open():
  world = synthetic.World()
  del world.arms["harmonised"]["linear"]
  found = find(world, "5")
  assert found.verdict == "no verdict yet" and "linear" in found.rule

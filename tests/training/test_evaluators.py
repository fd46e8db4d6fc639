"""Evaluators look at random init first, and again only where they must."""

import types

import pytest

from mtvit.run import metrics
from mtvit.run import progress
from mtvit.training import evaluation
from mtvit.training import evaluators


class Counts(evaluation.Evaluator):
  """Finds the parameter of the state, and keeps what it was shown."""

  name, title, headline = "counts", "count", "counts/all"
  every, at_end, same_images = 2, "compare", True

  def __init__(self):
    self.seen = []

  def run(self, look):
    self.seen.append((look.step, look.state.params, look.final))
    return evaluation.Found({"counts/all": look.state.params, "counts/x": 7.0})


def state(params):
  return types.SimpleNamespace(params=params)


def looking(member, folder, start=0, **kwargs):
  return evaluators.Evaluators(
      members=[member], features=print,
      writer=metrics.Writer(folder, start, evaluators.written_again(
          [member], start, True)),
      progress=progress.Progress(4, 8, ["jigsaw"]), stop=False, workdir=folder,
      **kwargs)


def train(found, capsys):
  """Steps 1 to 4 of a new run; what the terminal showed."""
  found.begin(state(0.25))
  for step in (1, 2, 3):
    found.after(step, state(0.5 + step))
  found.progress.show(4, 1.0, 0.0, {})
  outcome = found.end(4, state(5.0), lambda: state(0.25))
  return outcome.scalars, capsys.readouterr().out.splitlines()


def test_a_curve_begins_with_random_init(tmp_path, capsys):
  member = Counts()
  scalars, out = train(looking(member, tmp_path), capsys)
  # No second look at random parameters.
  assert member.seen == [(0, 0.25, False), (2, 2.5, False), (4, 5.0, True)]
  assert scalars == {"counts/all": 5.0, "counts/x": 7.0,
                     "counts/all_random_init": 0.25,
                     "counts/x_random_init": 7.0}
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [(x["step"], x["counts/all"]) for x in lines] == [
      (0, 0.25), (2, 2.5), (4, 5.0)]
  assert out[0] == "step 0 · random init · count 0.250"
  assert out[1] == "step 2 · count 2.500 (random init 0.250)"
  assert out[-1].split()[-3:] == ["2.500", "0.250", "-"]


@pytest.mark.parametrize("member, kwargs", [
    (dict(same_images=False), {}), ({}, dict(random_start=False))])
def test_other_images_or_another_start_need_a_look_of_their_own(
    member, kwargs, tmp_path, capsys):
  counts = Counts()
  vars(counts).update(member)
  found = looking(counts, tmp_path, **kwargs)
  scalars, out = train(found, capsys)
  assert counts.seen[-1] == (4, 0.25, True)
  assert scalars["counts/all_random_init"] == 0.25
  assert any("random init" in x for x in out) == found.random_start


def test_who_does_not_look_during_training_does_not_begin(tmp_path):
  member = Counts()
  member.every = 0
  looking(member, tmp_path).begin(state(0.25))
  assert member.seen == []


def test_a_run_that_goes_on_repeats_nothing(tmp_path, capsys):
  first = looking(Counts(), tmp_path)
  first.begin(state(0.25))
  first.after(2, state(2.5))
  member = Counts()
  again = looking(member, tmp_path, start=2)
  again.recall()
  again.progress.show(3, 1.0, 0.0, {})
  assert capsys.readouterr().out.splitlines()[-1].split()[-3:] == [
      "2.500", "0.250", "-"]
  scalars = again.end(4, state(5.0), lambda: state(0.25)).scalars
  assert scalars["counts/all_random_init"] == 0.25
  assert member.seen == [(4, 5.0, True), (4, 0.25, True)]
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [x["step"] for x in lines] == [0, 2, 4]


def test_a_run_without_its_metrics_goes_on(tmp_path, capsys):
  looking(Counts(), tmp_path).begin(state(0.25))
  (tmp_path / "metrics.jsonl").unlink()
  again = looking(Counts(), tmp_path, start=2)
  again.recall()
  assert again.end(4, state(5.0), lambda: state(0.25)).scalars[
      "counts/all_random_init"] == 0.25


def test_a_run_that_was_killed_before_its_checkpoint_begins_anew(tmp_path):
  for _ in range(2):
    looking(Counts(), tmp_path).begin(state(0.25))
  lines = metrics.read(tmp_path / "metrics.jsonl")
  assert [x["step"] for x in lines] == [0]


def test_a_look_that_is_cut_short_is_not_kept(tmp_path):
  found = looking(Counts(), tmp_path)
  object.__setattr__(found, "stop", True)
  found.begin(state(0.25))
  assert not metrics.read(tmp_path / "metrics.jsonl")

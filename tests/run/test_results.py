"""The end of a run says first whether it is good."""

import pytest

from mtvit.run import results


@pytest.mark.parametrize("now, words", [
    (0.91, "7.2 points better than"), (0.743, "9.5 points worse than"),
    (0.8381, "no better than")])
def test_the_summary_begins_with_how_good_it_is(now, words):
  text = results.summary(
      [], {"knn/accuracy": now, "knn/accuracy_random_init": 0.838}, [])
  first = text.strip().splitlines()[0]
  assert first == (f"Is it good? kNN accuracy {now:.3f}, random init 0.838 on "
                   f"the same images: {words} random init")


def test_without_labels_it_is_retrieval_and_without_both_nothing():
  line, = results.verdicts(
      {"retrieval/top1": 0.5, "retrieval/top1_random_init": 0.25})
  assert "another view of an image 0.500, random init 0.250" in line
  assert results.verdicts({"train/loss": 1.0}) == []

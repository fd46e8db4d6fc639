"""kNN and linear probes of a run, and RankMe of its features."""

import base64
from typing import TYPE_CHECKING, Mapping

from etils import epy
import numpy as np

from mtvit import errors
from mtvit.diagnostics import measures
from mtvit.diagnostics import rank
from mtvit.probes import features
from mtvit.probes import frozen
from mtvit.probes import linear
from mtvit.study.measures import common

with epy.lazy_imports():
  from mtvit.data import pipeline

if TYPE_CHECKING:
  from mtvit.data import datasets

PROBES = {"knn": "knn_k20", "linear": frozen.LINEAR}


def probes(run: common.Run, sizes: common.Measures) -> common.Found:
  """kNN and linear probes of all readouts, and RankMe."""
  train, test = run.subject.train, run.subject.test
  gray = run.subject.encoder.gray
  seen = _features(run, test, sizes.num_test, gray)
  found: common.Found = {
      f"rankme/{name}": rank.rankme(x[::-(-len(x) // measures.RANK_IMAGES)])
      for name, x in seen.features.items()}
  found["num_test"] = len(seen.labels)
  if len(train.classes) < 2 or seen.labels.min() < 0:
    return found
  known = _features(run, train, sizes.num_train, gray)
  found["num_train"] = len(known.labels)
  found["num_classes"] = len(train.classes)
  found |= _all(
      known, seen, {} if gray else _features(
          run, test, sizes.num_test, True).features, len(train.classes))
  found["rankme"] = found[f"rankme/{found['knn/readout']}"]
  if sizes.permutations:
    found["linear_shuffled_labels"] = shuffled_labels(
        known, seen, run.config.seed, sizes.permutations)
  return found


def _all(
    train: frozen.Split, test: frozen.Split, gray: Mapping[str, np.ndarray],
    num_classes: int
) -> common.Found:
  """Both probes of all readouts.

  Args:
    train: features of training images.
    test: of test images.
    gray: of the same without colour, which the same probes classify; or empty.
    num_classes: labels lie below it.
  """
  val = frozen.validation(train.labels)                     # [n]
  found: common.Found = {}
  guesses: dict[str, dict[str, np.ndarray]] = {}
  for name, x in train.features.items():
    validated = frozen.validate(x, train.labels, val, num_classes)
    both = [test.features[name], *([gray[name]] if gray else [])]
    guesses[name] = frozen.guesses(
        x, train.labels, np.concatenate(both), validated.selected, num_classes)
    for ours, theirs in PROBES.items():
      found[f"{ours}_val/{name}"] = 100 * validated.accuracy[theirs]
  return found | _chosen(found, guesses, test.labels)


def _chosen(
    validated: common.Found,
    guesses: Mapping[str, Mapping[str, np.ndarray]], labels: np.ndarray
) -> common.Found:
  """Accuracies of all readouts, and more of the one that validation chose.

  Args:
    validated: with `PROBE_val/READOUT`.
    guesses: readout -> probe -> classes of test images, and then perhaps of
      the same without colour: int [n] or [2 n].
    labels: int [n].
  """
  found: common.Found = {}
  for ours, theirs in PROBES.items():
    right = {name: x[theirs].reshape(-1, len(labels)) == labels
             for name, x in guesses.items()}               # [1 or 2, n]
    found |= {f"{ours}/{name}": _percent(x[0]) for name, x in right.items()}
    chosen = max(right, key=lambda name: validated[f"{ours}_val/{name}"])
    found[f"{ours}/readout"] = chosen
    found[f"{ours}/correct"] = packed(right[chosen][0])
    found[ours] = _percent(right[chosen][0])
    if len(right[chosen]) > 1:
      found[f"{ours}_gray"] = _percent(right[chosen][1])
  return found


def shuffled_labels(
    train: frozen.Split, test: frozen.Split, seed: int, permutations: int
) -> float:
  """Accuracy of linear probes after training labels were permuted: chance.

  Args:
    train: of whose readouts the last is probed, which is the widest.
    test: likewise.
    seed: of the permutations.
    permutations: whose mean it is, since a single one's scatters.

  Returns:
    A percentage.
  """
  (*_, x), (*_, x_test) = train.features.values(), test.features.values()
  right = []
  for i in range(permutations):
    labels = np.random.default_rng([seed, i]).permutation(train.labels)
    val = frozen.validation(labels)
    probe = linear.select(
        x[~val], labels[~val], x[val], labels[val], labels.max() + 1).probe
    right.append(probe.predict(x_test) == test.labels)
  return _percent(np.array(right))


def _features(
    run: common.Run, source: "datasets.Source", limit: int, gray: bool
) -> frozen.Split:
  """Of clean images of a split; all if the limit is 0."""
  encoder = run.subject.encoder
  batches = pipeline.eval_batches(
      source, encoder.image_size, features.batch_size(
          source.num_examples, run.subject.mesh), limit or None, gray)
  found, labels = features.extract(
      run.subject.params, batches, features.encoder_extractor(
          encoder.module, run.subject.mesh), run.subject.mesh)
  if any(not np.isfinite(x).all() for x in found.values()):
    raise errors.NonFiniteError(
        f"{encoder.name}: features of {source.name} are not finite",
        "a lower learning rate")
  return frozen.Split(frozen.with_pairs(found, encoder.readouts), labels)


def _percent(right: np.ndarray) -> float:
  return 100 * float(right.mean())


def packed(right: np.ndarray) -> str:
  """Bits bool [n], eight in a byte, the first one highest, as base64."""
  return base64.b64encode(np.packbits(right).tobytes()).decode("ascii")

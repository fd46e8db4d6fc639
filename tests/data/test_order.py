"""The order of images is random: held against numpy's permutations."""

import math

import numpy as np
import pytest
import tensorflow as tf

from mtvit.data import order

# Images, and the batch sizes that go with them.
SIZES = [
    (2_000, 32), (2_000, 128), (4_096, 64), (4_097, 64), (10_000, 256),
    (50_000, 256), (50_000, 512), (50_000, 4_096), (100_000, 1_024)]
LARGE = [(1_281_167, 1_024), (1_281_167, 4_096)]
# Beyond so many standard errors it is no chance: one test in 16,000 a draw.
MOST = 4


def epochs(n, count, seed=0, first=0):
  """The images of several epochs: [count, n]."""
  step = min(n, 2**18)
  return np.stack([np.concatenate([
      order.ids(seed, tf.constant(e * n + start, tf.int64),
                min(step, n - start), n).numpy()
      for start in range(0, n, step)]) for e in range(first, first + count)])


def shared_pairs(a, b, batch):
  """(pairs that share a batch in both epochs, the largest group of them)."""
  batches = len(a) // batch
  place = np.empty((2, len(a)), np.int64)
  for row, one in zip(place, (a, b)):
    row[one] = np.arange(len(one)) // batch
  whole = (place < batches).all(0)
  together = np.bincount(place[0, whole] * batches + place[1, whole])
  return (together * (together - 1) / 2).sum(), together.max()


def check_pairs(n, batch, count):
  """Of successive epochs and of two seeds, as often as numpy's meet."""
  rng = np.random.default_rng(0)
  ours = [*epochs(n, count), *epochs(n, 1, seed=1)]
  theirs = [rng.permutation(n) for _ in ours]
  found, wanted = (
      np.array([shared_pairs(a, b, batch) for a, b in zip(x, x[1:])])
      for x in (ours, theirs))
  # What is expected, exactly: all pairs, each with the chance of a batch twice.
  whole = n // batch * batch
  expected = n * (n - 1) / 2 * (whole * (batch - 1) / n / (n - 1))**2
  error = wanted[:, 0].std(ddof=1) / math.sqrt(len(found))
  for pairs in (found, wanted):
    assert abs(pairs[:, 0].mean() - expected) < max(
        0.05 * expected, MOST * error), (n, batch)
  assert found[:, 1].max() < 2 * wanted[:, 1].max(), (n, batch)


@pytest.mark.parametrize("n, batch", SIZES)
def test_images_that_met_meet_again_as_chance_has_it(n, batch):
  check_pairs(n, batch, count=5)


@pytest.mark.slow
@pytest.mark.parametrize("n, batch", LARGE)
def test_those_of_large_sets_do_too(n, batch):
  check_pairs(n, batch, count=3)


def test_in_many_epochs_an_image_meets_many_others():
  n, batch, count = 50_000, 256, 20
  met = set()
  for one in epochs(n, count):
    place = int(np.flatnonzero(one == 7)[0]) // batch * batch
    met |= set(one[place:place + batch].tolist())
  expected = n * (1 - (1 - (batch - 1) / n)**count)         # 4,860.
  # The number of coincidences is nearly Poisson.
  spread = math.sqrt(count * (batch - 1) - expected)
  assert abs(len(met) - 1 - expected) < MOST * spread


def standard(x):
  """Standard score of each image's place in its epoch: [n]."""
  return (x - (len(x) - 1) / 2) / math.sqrt((len(x)**2 - 1) / 12)


def check_series(n):
  """Serial correlation, runs, and one epoch against the next."""
  one, two, other = *epochs(n, 2), *epochs(n, 1, seed=1)
  for x in (one, two, other):
    z = standard(x)
    for lag in (1, 2, 8, 256):
      correlation = (z * np.roll(z, lag)).mean()
      assert abs(correlation) * math.sqrt(n) < MOST, (n, lag)
    # Runs up and down (Bradley 1968): mean (2n - 1) / 3, variance
    # (16n - 29) / 90.
    up = np.diff(x) > 0
    runs = 1 + (up[1:] != up[:-1]).sum()
    assert abs(runs - (2 * n - 1) / 3) < MOST * math.sqrt((16 * n - 29) / 90)
  for a, b in ((one, two), (one, other)):
    assert abs((standard(a) * standard(b)).mean()) * math.sqrt(n) < MOST
    # Neighbours of one epoch are no neighbours, at any distance, in another.
    place = np.empty(n, np.int64)
    place[b] = np.arange(n)
    near = (np.abs(np.diff(place[a])) <= 16).sum()
    expected = (n - 1) * 2 * 16 / n
    assert abs(near - expected) < MOST * math.sqrt(expected) + 1
    fixed = (a == b).sum()                                  # Poisson, mean 1.
    assert fixed <= 7


@pytest.mark.parametrize("n", sorted({n for n, _ in SIZES}))
def test_places_are_not_correlated(n):
  check_series(n)


@pytest.mark.slow
def test_places_of_a_large_set_are_not_correlated():
  check_series(1_281_167)


@pytest.mark.parametrize("n, batch", [(2_000, 32), (50_000, 256)])
def test_the_classes_of_a_batch_are_drawn_without_replacement(n, batch):
  classes = 10
  # Sorted by class, as folders are, and in turns, as some sets are.
  for labels in (np.arange(n) * classes // n, np.arange(n) % classes):
    chi = []
    for one in epochs(n, 4):
      rows = labels[one[:n // batch * batch]].reshape(-1, batch)
      counts = (rows[..., None] == np.arange(classes)).sum(1)   # [m, classes]
      # Without replacement, the variance shrinks by (n - batch) / (n - 1).
      scale = batch / classes * (n - batch) / (n - 1)
      chi.append(((counts - batch / classes)**2 / scale).sum(1))
    chi = np.concatenate(chi)
    degrees = classes - 1
    error = math.sqrt(2 * degrees / len(chi))
    assert abs(chi.mean() - degrees) < MOST * error


@pytest.mark.parametrize("n", [2, 4, 10, 33, 100])
def test_every_place_of_a_small_set_is_uniform(n):
  """Over seeds, and over the epochs of one seed."""
  count = 250
  over_epochs = order.ids(
      3, tf.constant(0, tf.int64), count * n, n).numpy().reshape(count, n)
  seeds = np.concatenate([epochs(n, 1, seed) for seed in range(count)])
  for orders in (over_epochs, seeds):
    assert (np.sort(orders, 1) == np.arange(n)).all()
    table = np.stack([np.bincount(x, minlength=n) for x in orders.T])
    chi = ((table - count / n)**2 / (count / n)).sum()
    degrees = (n - 1)**2
    assert abs(chi - degrees) < MOST * math.sqrt(2 * degrees) + 3
    if n <= 4:
      _, seen = np.unique(orders, axis=0, return_counts=True)
      every = math.factorial(n)
      assert len(seen) == every
      chi = ((seen - count / every)**2 / (count / every)).sum()
      assert chi - every + 1 < MOST * math.sqrt(2 * (every - 1)) + 3


@pytest.mark.parametrize("n", [10, 5_000])
def test_no_two_seeds_or_epochs_have_one_order(n):
  seeds = [0, 1, 2**31, 2**32, 2**32 + 1, 2**40, 2**62, -1]
  found = {epochs(n, 1, seed, first).tobytes()
           for seed in seeds for first in (0, 1, 2, 2**32)}
  assert len(found) == 4 * len(seeds)


@pytest.mark.parametrize("n", [3, 40, 5_000])
def test_any_part_of_the_stream_is_found_alone(n):
  """Also where it spans several epochs, eagerly and within tf.data."""
  start, count = 2 * n - 2, min(2 * n, 4_000)
  whole = epochs(n, 5).reshape(-1)[start:start + count]
  alone = order.ids(0, tf.constant(start, tf.int64), count, n)
  np.testing.assert_array_equal(alone, whole)
  halves = tf.data.Dataset.range(2).map(
      lambda i: order.ids(0, start + i * (count // 2), count // 2, n))
  np.testing.assert_array_equal(
      np.concatenate(list(halves.as_numpy_iterator())), whole[:count // 2 * 2])

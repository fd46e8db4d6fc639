"""Pairs of neighbours: every place and direction alike, at every count."""

import collections
import functools
import itertools
import math
import random

import numpy as np
import pytest
import tensorflow as tf

from mtvit.data import corruption
from mtvit.data import draws
from mtvit.tasks import base
from mtvit.tasks import capacity
from mtvit.tasks import jigsaw
from mtvit.tasks import neighbours
from mtvit.tasks import relative_position

VIEWS = 4000


def pair_task(side, m, position="keep"):
  return relative_position.RelativePosition(
      mode="train", weight=1.0, pairs="neighbours", num_pairs=m,
      position=position, crop=1.0, jitter=0.0, jitter_strength=0.0, gray=0.0,
      hidden_dim=8, geometry=base.Geometry(4 * side, 4, 64))


def claims(tasks, side, views=VIEWS, seed=0):
  """What each task claims in so many views, in numpy."""
  source = draws.for_step(seed, 0, views, 0, views)
  grid = (side, side)
  layout = corruption.Layout(
      grid, corruption.block_partition(grid, source.fold("layout")),
      tf.zeros((views, side**2), tf.bool), None, None, None, None)
  claimed = []
  for task in tasks:
    ids = task.claim(layout, source.fold(task.name))
    layout = layout.claimed(ids)
    claimed.append(ids.numpy())
  return claimed


def drawn(side, m, **options):
  """int [views, m, 2]."""
  ids, = claims([pair_task(side, m)], side, **options)
  return ids.reshape(len(ids), m, 2)


def near(a, b, side):
  return a != b and max(
      abs(a // side - b // side), abs(a % side - b % side)) == 1


def axis(a, b, side):
  """Which way the line between two neighbours runs: 0 to 3."""
  dy, dx = (b // side - a // side), (b % side - a % side)
  return 0 if dy == 0 else 1 if dx == 0 else 2 if dy == dx else 3


def pairings(slots, side):
  """Every way to cut slots into pairs of neighbours."""
  if not slots:
    yield ()
    return
  first, rest = slots[0], slots[1:]
  for i, other in enumerate(rest):
    if near(first, other, side):
      for others in pairings(rest[:i] + rest[i + 1:], side):
        yield ((first, other), *others)


@functools.cache
def exact_law():
  """All pairings of the 4x4 grid; diagonal pairs weighted to be half of all."""
  ways = list(pairings(tuple(range(16)), 4))
  diagonal = np.array([
      sum(axis(*pair, 4) > 1 for pair in way) for way in ways])
  low, high = 0.0, 3.0
  for _ in range(60):
    middle = (low + high) / 2
    weights = np.exp(middle * diagonal)
    share = (weights @ diagonal) / weights.sum() / 8
    low, high = (middle, high) if share < 1 / 2 else (low, middle)
  return ways, weights / weights.sum(), middle


@pytest.mark.parametrize("side, m", [
    (4, 2), (4, 4), (4, 8), (6, 2), (6, 18), (8, 4), (8, 32), (14, 12),
    (14, 98), (5, 3), (7, 24)])
def test_every_patch_and_every_direction_is_equally_likely(side, m):
  pairs, n = drawn(side, m, views=VIEWS // 4 if m > 40 else VIEWS), side**2
  views = len(pairs)
  y, x = np.divmod(pairs, side)
  dy, dx = np.diff(y)[..., 0], np.diff(x)[..., 0]           # [views, m]
  assert (np.maximum(abs(dy), abs(dx)) == 1).all()
  # Pairs are disjoint.
  ordered = np.sort(pairs.reshape(views, -1))
  assert (np.diff(ordered) > 0).all()
  # Within 4.5 standard errors; a patch occurs once in a view or not.
  share, p = np.bincount(pairs.ravel(), minlength=n) / views, 2 * m / n
  assert abs(share - p).max() <= 4.5 * math.sqrt(p * (1 - p) / views)
  code = np.unique(3 * dy + dx, return_counts=True)
  assert len(code[0]) == 8
  off = abs(code[1] / (views * m) - 1 / 8).max()
  assert off < 4.5 * math.sqrt(1 / 8 * 7 / 8 / (views * m))
  # The first and the second patch of a pair are the same for all places.
  first = np.bincount(pairs[..., 0].ravel(), minlength=n) / views
  assert abs(first - p / 2).max() <= 4.5 * math.sqrt(p / 2 / views)


def edge_shares(pairs, side):
  edges = collections.Counter(
      tuple(sorted(pair)) for pair in pairs.reshape(-1, 2).tolist())
  total = len(pairs) * pairs.shape[1]
  return {edge: count / total for edge, count in edges.items()}


@pytest.mark.parametrize("m", [2, 8])
def test_on_a_small_grid_the_law_is_that_of_all_pairings(m):
  ways, weights, diagonal = exact_law()
  want = collections.Counter()
  for way, weight in zip(ways, weights):
    for pair in way:
      want[pair] += weight / 8
  got = edge_shares(drawn(4, m), 4)
  assert set(got) == set(want) and len(want) == 42
  for edge, share in want.items():      # 0.001 is that of the drawn table.
    error = math.sqrt(share / (VIEWS * m))
    assert abs(got[edge] - share) < 4.5 * error + 0.001
  assert neighbours.matchings(4).diagonal == pytest.approx(diagonal, abs=0.1)


def simulated_edges(side, diagonal, steps, seed=0):
  """Shares of edges among pairings, one chain in plain Python."""
  rng, n = random.Random(seed), side**2
  edges = [e for e in itertools.combinations(range(n), 2) if near(*e, side)]
  mate = [i ^ 1 for i in range(n)]
  weight = lambda a, b: math.exp(diagonal * (axis(a, b, side) > 1))
  counts = collections.Counter()
  for step in range(steps):
    u, v = rng.choice(edges)
    a, b = mate[u], mate[v]
    if a != v and near(a, b, side) and rng.random() < (
        weight(u, v) * weight(a, b) / weight(u, a) / weight(v, b)):
      mate[u], mate[v], mate[a], mate[b] = v, u, b, a
    if step > steps // 10 and step % n == 0:
      counts.update((i, j) for i, j in enumerate(mate) if i < j)
  total = sum(counts.values())
  return {edge: counts[edge] / total for edge in edges}


def mirrored(edge, side):
  """The eight mirror images of an edge, some of them the same."""
  grid = np.arange(side**2).reshape(side, side)
  turns = [np.rot90(g, k).ravel() for g in (grid, grid.T) for k in range(4)]
  return [tuple(sorted(turn[list(edge)].tolist())) for turn in turns]


def test_places_of_pairs_are_those_of_a_simulation():
  law = neighbours.matchings(6)
  got = edge_shares(law.pairs, 6)
  # Every pair of neighbours there is.
  assert len(got) == 110
  want = simulated_edges(6, law.diagonal, 150_000)
  drawn_pairs = law.pairs.size / 2 / 8      # The others are their images.
  for edge in want:
    images = mirrored(edge, 6)
    one, other = (np.mean([x[i] for i in images]) for x in (got, want))
    error = math.sqrt(other / len(set(images)) / drawn_pairs)
    assert abs(one - other) < 4 * error, edge


def test_a_view_has_its_pairs_in_any_order_and_combination():
  pairs = drawn(8, 4)
  # What comes first tells nothing, and hardly a view is like another.
  assert len({tuple(np.sort(v.ravel())) for v in pairs}) > 0.99 * VIEWS
  least = pairs.min(-1).argmin(1)
  assert abs(np.bincount(least, minlength=4) / VIEWS - 1 / 4).max() < 0.03


@pytest.mark.parametrize("side, groups, m", [
    (5, 1, 3), (6, 1, 9), (6, 2, 0), (8, 1, 23), (8, 2, 14), (8, 3, 5)])
def test_what_the_capacity_check_admits_is_always_found(side, groups, m):
  blocks = jigsaw.Jigsaw(
      mode="train", weight=1.0, kind="permutation", num_pieces=2,
      num_groups=groups, num_permutations=10, position="keep", hidden_dim=8,
      geometry=base.Geometry(4 * side, 4, 64))
  pairs = [pair_task(side, m)] if m else []
  capacity.check([blocks, *pairs], (side, side))
  with pytest.raises(Exception, match="pairs of neighbours"):
    capacity.check([blocks, pair_task(side, m + 1)], (side, side))
  for seed in range(3):
    ids = np.concatenate(claims([blocks, *pairs], side, 1000, seed), axis=1)
    assert (np.diff(np.sort(ids)) > 0).all()


def simulated_bound(pairs, side):
  """Accuracy of a reader of sets of slots, who tries every pairing."""
  right = 0.0
  for view in pairs.tolist():
    slots = tuple(sorted(itertools.chain(*view)))
    count = np.zeros(4)
    for i, way in enumerate(pairings(slots, side)):
      for pair in way:
        count[axis(*pair, side)] += 1
      if i == 300:      # Enough of them to tell the commonest axis.
        break
    guess = count.argmax()
    right += np.mean([axis(*pair, side) == guess for pair in view]) / 2
  return right / len(pairs)


@pytest.mark.parametrize("side, m", [
    (4, 1), (4, 2), (4, 3), (6, 2), (8, 2), (8, 4), (14, 12)])
def test_a_reader_of_slots_reaches_the_bound(side, m):
  got = simulated_bound(drawn(side, m, views=2000), side)
  assert got == pytest.approx(neighbours.slot_bound(m, side), abs=0.012)


@pytest.mark.parametrize("m", [2, 3, 8])
def test_slot_bound_by_enumeration(m):
  """Of the sets of slots of all pairings of a 4x4 grid."""
  ways, weights, _ = exact_law()
  seen = collections.defaultdict(lambda: np.zeros(4))
  for way, weight in zip(ways, weights):
    for pairs in itertools.combinations(way, m):
      slots = frozenset(itertools.chain(*pairs))
      for pair in pairs:
        seen[slots][axis(*pair, 4)] += weight
  want = sum(count.max() for count in seen.values()) / (
      2 * sum(count.sum() for count in seen.values()))
  assert neighbours.slot_bound(m, 4) == pytest.approx(want, abs=0.006)


@pytest.mark.parametrize("side, m", [(4, 2), (4, 3), (8, 4)])
def test_a_reader_of_the_other_pairs_reaches_the_bound_of_swap(side, m):
  task, views = pair_task(side, m, "swap"), 1500
  source = draws.for_step(0, 0, views, 0, views)
  batch = corruption.corrupt(
      tf.zeros((views, 4 * side, 4 * side, 3), tf.uint8),
      tf.zeros(views, tf.bool), tf.zeros(views, tf.int32), [task], 4, source)
  slots = batch["queries"][task.name]["ids"].numpy()        # [views, m, 2]
  home = batch["answers"][task.name]["home"].numpy()
  right = []
  for view in range(views):
    for pair in range(m):
      others = np.delete(slots[view], pair, axis=0)
      count = np.zeros(4)
      for way in pairings(tuple(sorted(others.ravel().tolist())), side):
        for a, b in way:
          count[axis(a, b, side)] += 1
      right.append(axis(*home[view, pair], side) == count.argmax())
  # Either order of the pair is as likely.
  assert np.mean(right) / 2 == pytest.approx(task.slot_bound, abs=0.012)
  assert m > 2 or task.slot_bound == 0.5

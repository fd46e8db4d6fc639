"""Disjoint pairs of neighbouring patches, with no place privileged.

Pairs that are drawn one after the other can't be fair: a corner has three
neighbours and an inner patch eight, and the last pairs must take what is left.
So a matching of the whole grid is drawn, which pairs every patch with a
neighbour (of an odd number all but one, any as often), and a few of its pairs
are taken, all equally likely. Then each patch is as likely as any other, and
up to half of the patches can be had in pairs.

The matchings are drawn once, by a Markov chain whose steps exchange the
partners of two pairs. Its law is exp(w * number of diagonal pairs), up to a
factor; w is such that half of the pairs are diagonal, and all matchings are
there in all eight symmetries of the square, so that the eight directions are
equally likely. (Except on 3x3 patches, where the corners leave a third of the
pairs diagonal at most.)
"""

import functools
from typing import Callable, NamedTuple

import numpy as np

# Chains that run side by side, and how often each edge is proposed to each.
CHAINS, SWEEPS = 256, 20
# Sets that `slot_bound` is estimated from, and the work after which it stops.
SETS, WORK = 2000, 200_000


class Matchings(NamedTuple):
  """Pairings of all patches of a square grid.

  Attributes:
    pairs: int32 [r, n // 2, 2], pairs of neighbours, disjoint in each row.
    diagonal: w, the logarithm of the weight of a diagonal pair.
  """
  pairs: np.ndarray
  diagonal: float


def _accepted(
    rng: np.random.RandomState, weight: float, gain: np.ndarray
) -> np.ndarray:
  """Which steps are taken, by Metropolis' rule: bool [m]."""
  return np.log(rng.random_sample(len(gain))) < weight * gain


@functools.cache
def matchings(side: int) -> Matchings:
  """Random matchings of a grid of side x side patches."""
  n = side**2
  chains, weight = _Chains(side, max(CHAINS, 2**14 // n)), 0.0
  for _ in range(SWEEPS * len(chains.edges)):
    # A lack of diagonal pairs raises their weight until there is none.
    weight -= chains.excess / chains.total / len(chains.edges)
    chains.step(functools.partial(_accepted, chains.rng, weight))
  chains.balance()
  first = np.arange(n)
  row, u = np.nonzero(first < chains.mate)
  pairs = np.stack([u, chains.mate[row, u]], axis=-1)
  pairs = pairs.reshape(-1, n // 2, 2)                      # [c, n // 2, 2]
  grid = first.reshape(side, side)
  turns = [np.rot90(g, k).ravel() for g in (grid, grid.T) for k in range(4)]
  pairs = np.concatenate([turn[pairs] for turn in turns])
  pairs.flags.writeable = False       # The cache hands it out again.
  return Matchings(pairs.astype(np.int32), weight)


@functools.cache
def direction_shares(side: int) -> np.ndarray:
  """How often each of the eight directions occurs: [8]."""
  if side != 3:
    return np.full(8, 1 / 8)
  apart = np.ptp(matchings(side).pairs // side, axis=-1) * np.ptp(
      matchings(side).pairs % side, axis=-1)                # 1 if diagonal
  diagonal = apart.mean() / 4
  straight = 1 / 4 - diagonal
  return np.array([diagonal, straight] * 2 + [straight, diagonal] * 2)


class _Chains:
  """Markov chains over the matchings of a grid, side by side.

  Attributes:
    rng: never changes its stream, on which batches depend.
    edges: [e, 2], the pairs of neighbours.
    mate: [c, n], each patch's partner; the one without has itself.
    total: pairs in all chains.
    excess: diagonal pairs minus straight ones in all chains.
  """

  def __init__(self, side: int, least: int):
    n = side**2
    y, x = np.divmod(np.arange(n), side)
    rows, columns = (np.abs(z[:, None] - z) for z in (y, x))
    self.rng = np.random.RandomState(0)
    self._near = np.maximum(rows, columns) == 1             # [n, n]
    self._diagonal = rows * columns * self._near
    self.edges = np.argwhere(np.triu(self._near))
    # Of an odd number every patch is left out equally often.
    count = least if n % 2 == 0 else n * -(-least // n)
    self._rows = np.arange(count)
    snake = np.arange(n).reshape(side, side)
    snake[1::2] = snake[1::2, ::-1].copy()
    first, second = snake.reshape(-1)[:n // 2 * 2].reshape(-1, 2).T
    mate = np.arange(n)
    mate[first], mate[second] = second, first
    self.mate = np.tile(mate, (count, 1))
    if n % 2:
      self._leave_out(self._rows % n, snake.reshape(-1)[-1])
    self.total = count * (n // 2)
    diagonal = self._diagonal[np.arange(n), self.mate].sum() // 2
    self.excess = int(2 * diagonal - self.total)

  def _leave_out(self, patch: np.ndarray, now: int) -> None:
    """Moves the patch without partner, at random, until it is patch[c]."""
    near = np.stack([np.resize(np.flatnonzero(x), 8) for x in self._near])
    hole = np.full(len(patch), now)
    while len(i := np.flatnonzero(hole != patch)):
      partner = near[hole[i], self.rng.randint(8, size=len(i))]
      left = self.mate[i, partner]
      self.mate[i, hole[i]], self.mate[i, partner] = partner, hole[i]
      self.mate[i, left] = hole[i] = left

  def step(self, accept: Callable[[np.ndarray], np.ndarray]) -> None:
    """Pairs two random neighbours in each chain, and their old partners.

    Args:
      accept: from the diagonal pairs that each chain would gain, which may.
    """
    u, v = self.edges[
        self.rng.randint(len(self.edges), size=len(self._rows))].T
    a, b = self.mate[self._rows, u], self.mate[self._rows, v]
    d = self._diagonal
    gain = d[u, v] + d[a, b] - d[u, a] - d[v, b]            # [c]
    possible = self._near[a, b] & (a != v) & (a != u) & (b != v)
    i = np.flatnonzero(possible & accept(np.where(possible, gain, 0)))
    u, v, a, b = u[i], v[i], a[i], b[i]
    self.mate[i, u], self.mate[i, v] = v, u
    self.mate[i, a], self.mate[i, b] = b, a
    self.excess += 2 * int(gain[i].sum())

  def balance(self) -> None:
    """Takes the steps that are missing to as many diagonal pairs as straight.

    The chains' own fluctuations leave about one pair in a hundred too many.
    """
    def accept(gain):
      right = gain * self.excess < 0
      return right & (
          2 * np.cumsum(np.abs(gain) * right) <= abs(self.excess))

    for _ in range(1000):     # On 3x3 patches it can't be done.
      if abs(self.excess) <= 1:
        break
      self.step(accept)


@functools.cache
def slot_bound(num_pairs: int, side: int) -> float:
  """Accuracy of an ideal reader of which slots lack an embedding.

  It knows the set of 2m slots, and of each way to cut it into pairs of
  neighbours how likely that is: the law above, in which what the other patches
  do is the same for all ways. It doesn't know which pair is asked for, or in
  which order. So it names the commonest axis, and one of its two directions:
  E[max over the four axes of E[pairs on it | slots]] / (2m), estimated from
  2,000 sets, or fewer if there are very many ways.
  """
  if 2 * num_pairs == side**2:      # The set of all slots tells nothing.
    return float(direction_shares(side).max())
  law, rng = matchings(side), np.random.default_rng(0)
  total, sets, work = 0.0, 0, 0
  while sets < SETS and work < WORK:
    pairs = law.pairs[rng.integers(len(law.pairs))]         # [n // 2, 2]
    slots = rng.permutation(pairs)[:num_pairs]              # [m, 2]
    axes, cost = _pairs_on_axes(slots.ravel().tolist(), side, law.diagonal)
    total, sets, work = total + axes.max(), sets + 1, work + cost
  return float(total / (sets * 2 * num_pairs))


def _pairs_on_axes(
    slots: list[int], side: int, diagonal: float
) -> tuple[np.ndarray, int]:
  """How many pairs on each axis a set of slots has in expectation: [4].

  The second value is how many parts of it were looked at.
  """
  later = ((0, 1, 1.0), (1, 0, 1.0), (1, -1, np.exp(diagonal)),
           (1, 1, np.exp(diagonal)))
  near = {}      # slot -> [(axis, weight, later slot)]
  for u in slots:
    y, x = divmod(u, side)
    near[u] = [
        (axis, weight, u + dy * side + dx)
        for axis, (dy, dx, weight) in enumerate(later)
        if 0 <= x + dx < side and u + dy * side + dx in slots]
  found = {0: (1.0, np.zeros(4))}

  def ways(rest: int) -> tuple[float, np.ndarray]:
    """Weight of all ways to pair the slots in `rest`, and of each axis."""
    if rest not in found:
      u, weights, axes = (rest & -rest).bit_length() - 1, 0.0, np.zeros(4)
      for axis, weight, v in near[u]:
        if rest >> v & 1:
          others, counts = ways(rest & ~(1 << u | 1 << v))
          weights += weight * others
          axes = axes + weight * counts
          axes[axis] += weight * others
      found[rest] = weights, axes
    return found[rest]

  total = np.zeros(4)
  for part in _parts(near):
    weights, axes = ways(sum(1 << u for u in part))
    total += axes / weights
  return total, len(found)


def _parts(near: dict[int, list]) -> list[set[int]]:
  """The connected parts of a set of slots."""
  parts: list[set[int]] = []
  for u, edges in near.items():
    joined = {u}.union(*({v} for _, _, v in edges))
    apart = [p for p in parts if not p & joined]
    parts = apart + [joined.union(*(p for p in parts if p & joined))]
  return parts

"""Over-smoothing: tokens whose measures are worked out by hand."""

import math

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.diagnostics import smoothing
from mtvit.training import sharding

M, GRID, D = 21, (3, 4), 32
N = GRID[0] * GRID[1]
TOKENS = 2


@pytest.fixture(scope="module")
def mesh():
  return sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uniform(keys=TOKENS + N):
  return np.full((M, 2, keys, keys), 1 / keys, np.float32)


def measure(mesh, x, attention=None, grid=GRID):
  """Rows of measures of two layers that both have tokens x, [m, n, d]."""
  attention = uniform() if attention is None else attention
  encode = lambda inputs: (
      jax.numpy.stack([inputs[0]] * 2), inputs[1][None])    # [2, b, n, d]
  rows, place = 8, sharding.batch_sharding(mesh)

  def batches():
    for start in range(0, len(x), rows):
      part = [v[start:start + rows] for v in (x, attention)]
      count = len(part[0])
      # What fills up the last batch must not count.
      part = [np.concatenate([v, np.full(
          (rows - count, *v.shape[1:]), 9, np.float32)]) for v in part]
      yield jax.device_put(part, place), np.arange(rows) < count

  found = smoothing.by_layer(encode, batches, grid, mesh)
  assert [row["layer"] for row in found] == [0, 1]
  for name, value in found[0].items():
    if name != "layer" and not name.startswith("attention"):
      assert found[1][name] == value
  return found[1]


def shares(row):
  return [row[f"{name}_share"] for name in ("image", "position", "residual")]


def test_identical_tokens(mesh):
  x = np.broadcast_to(normal(D), (M, N, D))
  row = measure(mesh, x)
  assert row["cosine"] == pytest.approx(1, abs=1e-5)
  assert shares(row) == [0, 0, 0]
  assert row["cosine_centred"] == 0 and row["effective_rank"] == 0


def test_tokens_of_the_position_only(mesh):
  row = measure(mesh, np.broadcast_to(normal(1, N, D) + 1, (M, N, D)))
  assert shares(row) == pytest.approx([0, 1, 0], abs=1e-6)


def test_tokens_of_the_image_only(mesh):
  row = measure(mesh, np.broadcast_to(normal(M, 1, D), (M, N, D)))
  assert shares(row) == pytest.approx([1, 0, 0], abs=1e-6)
  assert row["cosine"] == pytest.approx(1, abs=1e-5)
  assert row["cosine_centred"] == pytest.approx(1, abs=1e-5)


def test_image_plus_position_has_no_residual(mesh):
  image, position = normal(M, 1, D), 2 * normal(1, N, D, seed=1)
  row = measure(mesh, image + position + 5)
  squares = [N * np.square(image - image.mean(0)).sum(),
             M * np.square(position - position.mean(1)).sum()]
  assert shares(row) == pytest.approx(
      [squares[0] / sum(squares), squares[1] / sum(squares), 0], abs=1e-5)


def test_noise_is_residual(mesh):
  row = measure(mesh, normal(M, N, D))
  free = M * N - 1              # Degrees of freedom.
  assert shares(row) == pytest.approx(
      [(M - 1) / free, (N - 1) / free, (M - 1) * (N - 1) / free], abs=0.01)
  assert sum(shares(row)) == pytest.approx(1, abs=1e-9)


def test_a_small_residual_far_from_zero(mesh):
  # Mean 100, deviation 0.01: what float32 resolves of it must be found.
  x = 100 + 0.01 * normal(M, N, D)
  row, plain = measure(mesh, x), measure(mesh, normal(M, N, D))
  assert shares(row) == pytest.approx(shares(plain), rel=2e-3)
  assert row["cosine"] == pytest.approx(1, abs=1e-5)
  assert row["cosine_centred"] == pytest.approx(
      plain["cosine_centred"], abs=1e-3)


def test_orthogonal_tokens(mesh):
  x = np.linalg.qr(normal(D, D))[0][:N]
  lengths = 1 + np.arange(N)
  row = measure(mesh, np.broadcast_to(x * lengths[:, None], (M, N, D)))
  assert row["cosine"] == pytest.approx(0, abs=1e-6)


def test_cosine_is_that_of_every_pair(mesh):
  x = normal(M, N, D) + 0.5
  for name, y in (("cosine", x), ("cosine_centred", x - x.mean((0, 1)))):
    want = np.mean([
        image[i] @ image[j] / np.linalg.norm(image[i]) / np.linalg.norm(
            image[j])
        for image in y for i in range(N) for j in range(N) if i != j])
    assert measure(mesh, x)[name] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("k", [1, 4, N // 2])
def test_effective_rank_of_equal_singular_values(mesh, k):
  # Plus and minus k orthogonal directions, so the mean is 0.
  axes = np.linalg.qr(normal(D, D))[0][:k]
  both = np.concatenate([axes, -axes]).astype(np.float32)   # [2k, d]
  x = np.resize(both, (2 * N, N, D))          # Each equally often.
  attention = np.resize(uniform(), (2 * N, *uniform().shape[1:]))
  row = measure(mesh, x, attention)
  assert row["effective_rank"] == pytest.approx(k, rel=1e-3)


def test_only_so_many_patches_make_the_rank(mesh, monkeypatch):
  # Four of the twelve patches, evenly spaced, are 0, 3, 6 and 9.
  monkeypatch.setattr(smoothing, "RANK_PATCHES", 4)
  x = normal(M, N, D)
  centred = (x - x.mean((0, 1)))[:, [0, 3, 6, 9]].reshape(-1, D)
  values = np.linalg.svd(centred, compute_uv=False)
  share = values / values.sum()
  want = math.exp(-(share * np.log(share)).sum())
  assert measure(mesh, x)["effective_rank"] == pytest.approx(want, rel=1e-4)


def test_uniform_attention(mesh):
  row = measure(mesh, normal(M, N, D))
  assert row["attention_entropy"] == pytest.approx(1, abs=1e-5)
  places = [(i, j) for i in range(GRID[0]) for j in range(GRID[1])]
  want = np.mean([math.dist(a, b) for a in places for b in places])
  assert row["attention_distance"] == pytest.approx(want, abs=1e-5)


def test_attention_to_oneself(mesh):
  eye = np.broadcast_to(
      np.eye(TOKENS + N, dtype=np.float32), uniform().shape)
  row = measure(mesh, normal(M, N, D), eye)
  assert row["attention_entropy"] == 0 and row["attention_distance"] == 0


def test_patches_that_attend_to_a_token_and_to_the_next_row(mesh):
  # Half to the first token, half one row down: two keys, distance 1. What the
  # special tokens attend to does not count.
  w = np.zeros_like(uniform())
  for i in range(N):
    below = (i + GRID[1]) if i + GRID[1] < N else i - GRID[1]
    w[:, :, TOKENS + i, TOKENS + below] = 0.5
    w[:, :, TOKENS + i, 0] = 0.5
  w[:, :, :TOKENS] = 1 / (TOKENS + N)
  row = measure(mesh, normal(M, N, D), w)
  assert row["attention_distance"] == pytest.approx(1)
  assert row["attention_entropy"] == pytest.approx(
      math.log(2) / math.log(TOKENS + N))


def test_one_patch(mesh):
  x = normal(M, 1, D)
  row = measure(mesh, x, uniform(1), (1, 1))
  assert shares(row) == pytest.approx([1, 0, 0], abs=1e-6)
  assert row["cosine"] == 0 and row["attention_distance"] == 0

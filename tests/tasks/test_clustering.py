"""Clustering: Sinkhorn-Knopp, the swapped loss, and the picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtvit.models import interface
from mtvit.tasks import base
from mtvit.tasks import clustering
from tests.tasks import helpers


def make(**changes):
  fields = dict(
      mode="train", weight=1.0, num_prototypes=6, temperature=0.1,
      epsilon=0.05, iterations=3, hidden_dim=8, num_hidden=1, out_dim=4)
  return clustering.Clustering(
      **(fields | changes), geometry=base.Geometry(32, 8, 8))


def cosines(seed, b, k, c=8):
  rng = np.random.default_rng(seed)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  return (unit(rng.standard_normal((b, c)))
          @ unit(rng.standard_normal((k, c))).T).astype(np.float32)


def textbook(scores, epsilon, iterations):
  """SwAV's listing in float64: total mass 1, then columns, then rows."""
  q = np.exp(np.float64(scores) / epsilon).T                # [k, b]
  q /= q.sum()
  k, b = q.shape
  for _ in range(iterations):
    q /= q.sum(1, keepdims=True) * k
    q /= q.sum(0, keepdims=True) * b
  return (q * b).T


@pytest.mark.parametrize("seed, b, k", [(0, 32, 4), (1, 12, 30), (2, 64, 64)])
def test_sinkhorn_equals_the_textbook(seed, b, k):
  scores = cosines(seed, b, k)
  got = jax.jit(clustering.sinkhorn, static_argnums=(1, 2))(scores, 0.05, 3)
  np.testing.assert_allclose(got, textbook(scores, 0.05, 3), atol=2e-5)
  # A constant added to all scores changes nothing.
  np.testing.assert_allclose(
      clustering.sinkhorn(scores + 1, 0.05, 3), got, atol=1e-4)


@pytest.mark.parametrize("b, k", [(32, 4), (12, 24), (40, 7)])
def test_marginals_are_uniform(b, k):
  q = np.asarray(clustering.sinkhorn(cosines(3, b, k), 0.05, 300))
  np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
  np.testing.assert_allclose(q.sum(0), b / k, rtol=1e-3)
  rough = np.asarray(clustering.sinkhorn(cosines(3, b, k), 0.05, 1))
  np.testing.assert_allclose(rough.sum(1), 1, rtol=1e-5)
  assert np.abs(rough.sum(0) - b / k).max() > 1e-2


def test_no_overflow():
  scores = np.where(np.eye(8, 5) > 0, 1.0, -1.0).astype(np.float32)
  q = np.asarray(clustering.sinkhorn(scores, 0.01, 3))
  assert np.isfinite(q).all()
  np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)


def test_loss_equals_its_definition():
  scores = cosines(0, 16, 6)
  loss, metrics = jax.jit(make().loss)(scores, {})
  codes = [textbook(scores[view::2], 0.05, 3) for view in range(2)]
  p = np.exp(np.float64(scores) / 0.1)
  p /= p.sum(1, keepdims=True)
  want = -np.mean([
      np.sum(codes[1 - view] * np.log(p[view::2]), axis=1)
      for view in range(2)])
  assert float(loss) == pytest.approx(want, rel=1e-4)
  assert float(metrics["skill"]) == pytest.approx(
      1 - want / np.log(6), abs=1e-4)
  chosen = [c.argmax(1) for c in codes]
  assert float(metrics["agreement"]) == np.mean(chosen[0] == chosen[1])
  assert float(metrics["used"]) == pytest.approx(
      len(set(np.concatenate(chosen))) / 6)


def test_by_hand():
  # Two images, two prototypes, each image at one: the codes are sharp, and
  # p = 1 / (1 + e^-10) for the right prototype with scores 1 and 0, T = 0.1.
  scores = jnp.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
  loss, metrics = make(num_prototypes=2, epsilon=0.01).loss(scores, {})
  assert float(loss) == pytest.approx(np.log(1 + np.exp(-10)), rel=1e-3)
  assert float(metrics["agreement"]) == 1 and float(metrics["used"]) == 1


def test_collapse_has_no_skill():
  loss, metrics = make().loss(jnp.full((8, 6), 0.3), {})
  assert float(loss) == pytest.approx(np.log(6), abs=1e-5)
  assert float(metrics["skill"]) == pytest.approx(0, abs=1e-5)


def test_no_gradient_flows_through_the_codes():
  scores = jnp.asarray(cosines(0, 8, 6))
  codes = jnp.stack([
      clustering.sinkhorn(scores[view::2], 0.05, 3) for view in range(2)], 1)

  def with_constant_codes(x):
    log_p = jax.nn.log_softmax(x.reshape(4, 2, 6) / 0.1)
    return -jnp.mean(jnp.sum(codes[:, ::-1] * log_p, -1))

  np.testing.assert_allclose(
      jax.grad(lambda x: make().loss(x, {})[0])(scores),
      jax.grad(with_constant_codes)(scores), atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_equal_on_any_number_of_devices(devices):
  scores = cosines(0, 32, 6)
  mesh = jax.sharding.Mesh(
      np.array(jax.devices()[:devices]), ("data",),
      axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  loss, _ = jax.jit(make().loss)(jax.device_put(scores, rows), {})
  want, _ = make().loss(jnp.asarray(scores), {})
  np.testing.assert_allclose(loss, want, rtol=1e-5)


def test_head_gives_cosines():
  head = make().head()
  token = np.random.default_rng(0).standard_normal((5, 16), np.float32)
  features = interface.Features(
      {"clu": jnp.asarray(token)}, jnp.zeros((5, 1, 16)))
  params = head.init(jax.random.key(0), features, {})["params"]
  scores = head.apply({"params": params}, features, {})
  assert scores.shape == (5, 6) and np.abs(scores).max() <= 1 + 1e-6
  longer = params | {"prototypes": 7 * params["prototypes"]}
  np.testing.assert_allclose(
      head.apply({"params": longer}, features, {}), scores, atol=1e-5)


def test_picture_shows_the_nearest_images_of_the_largest_prototypes():
  images = helpers.views(0, b=6, size=16)
  scores = np.array([[.9, 0, .1], [.8, 0, .2], [.7, 0, .1], [.6, 0, .3],
                     [.5, .9, .4], [.6, .5, .5]])
  rows = make(num_prototypes=3).rows(images, {}, {}, scores, 2)
  # One view of each image.
  assert [len(row) for row in rows] == [3, 3]
  assert rows[0][0].title == "prototype 0 · 0.90"
  for panel, view in zip(rows[0], (0, 2, 5)):
    np.testing.assert_array_equal(panel.image, images[view])
  assert rows[1][0].title == "prototype 1 · 0.90"
  np.testing.assert_array_equal(rows[1][0].image, images[4])
  assert make().rows(images, {}, {}, None, 2) == []


@pytest.mark.parametrize("changes", [
    dict(num_prototypes=1), dict(temperature=0.0), dict(iterations=0),
    dict(epsilon=float("nan"))])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)

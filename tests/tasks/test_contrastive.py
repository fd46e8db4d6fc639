"""NT-Xent against its definition in float64 and against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mtvit.tasks import base
from mtvit.tasks import contrastive


def definition(z, temperature):
  """Chen et al. 2020, eq. 1, as loops in float64."""
  z = z.astype(np.float64)
  z = z / np.linalg.norm(z, axis=1, keepdims=True)
  losses = []
  for i in range(len(z)):
    partner = i + 1 if i % 2 == 0 else i - 1
    others = sum(
        np.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i)
    losses.append(-np.log(np.exp(z[i] @ z[partner] / temperature) / others))
  return np.mean(losses)


@pytest.mark.parametrize("seed, b, c, temperature", [
    (0, 4, 3, 0.1), (1, 16, 8, 0.2), (2, 64, 32, 0.5), (3, 2, 5, 0.2)])
def test_equals_the_definition_and_optax(seed, b, c, temperature):
  z = np.random.default_rng(seed).standard_normal((b, c), np.float32)
  want = definition(z, temperature)
  for function in (contrastive.ntxent, jax.jit(contrastive.ntxent)):
    got, _ = function(z, temperature)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
  labels = jnp.repeat(jnp.arange(b // 2), 2)
  np.testing.assert_allclose(
      optax.losses.ntxent(jnp.asarray(z), labels, temperature), want,
      rtol=2e-6, atol=1e-6)


def test_by_hand():
  # Views 0 and 1 are equal, 2 and 3 are equal and orthogonal to the others:
  # each row has logits 1/T for its partner and 0, 0 for the rest.
  z = jnp.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
  loss, accuracy = contrastive.ntxent(z, 0.5)
  assert float(loss) == pytest.approx(np.log(np.e**2 + 2) - 2, abs=1e-6)
  assert float(accuracy) == 1


def make(**changes):
  fields = dict(
      mode="train", weight=1.0, temperature=0.2, hidden_dim=8, num_hidden=1,
      out_dim=4)
  return contrastive.Contrastive(
      **(fields | changes), geometry=base.Geometry(32, 8, 16))


def test_skill_is_0_for_features_that_know_nothing():
  # All views in one point: every other view is equally likely.
  loss, metrics = make().loss(jnp.ones((16, 4)), {})
  assert float(loss) == pytest.approx(make().trivial_loss, abs=1e-5)
  assert float(metrics["skill"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("changes", [
    dict(temperature=0.0), dict(temperature=float("nan")), dict(mode="on"),
    dict(weight=-1.0), dict(weight=float("nan"))])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)

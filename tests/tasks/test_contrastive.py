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
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=2e-7)
  labels = jnp.repeat(jnp.arange(b // 2), 2)
  np.testing.assert_allclose(
      optax.losses.ntxent(jnp.asarray(z), labels, temperature), got,
      rtol=1e-6, atol=2e-7)


def test_by_hand():
  # Views 0 and 1 are equal, 2 and 3 are equal and orthogonal to the others:
  # each row has logits 1/T for its partner and 0, 0 for the rest.
  z = jnp.array([[1.0, 0], [2, 0], [0, 1], [0, 3]])
  loss, accuracy = contrastive.ntxent(z, 0.5)
  assert float(loss) == pytest.approx(np.log(np.e**2 + 2) - 2, abs=1e-6)
  assert float(accuracy) == 1


def make(views=16, **changes):
  fields = dict(
      mode="train", weight=1.0, kind="infonce", temperature=0.2, hidden_dim=8,
      num_hidden=1, out_dim=4, momentum=0.9, queue_size=32)
  return contrastive.Contrastive(
      **(fields | changes), geometry=base.Geometry(32, 8, views))


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_equal_on_any_number_of_devices(devices):
  z = np.random.default_rng(0).standard_normal((64, 16), np.float32)
  mesh = jax.sharding.Mesh(
      np.array(jax.devices()[:devices]), ("data",),
      axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  loss, _ = jax.jit(contrastive.ntxent)(jax.device_put(z, rows), 0.2)
  np.testing.assert_allclose(loss, definition(z, 0.2), rtol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_blocks_of_similarities_change_nothing(devices, monkeypatch):
  z = np.random.default_rng(0).standard_normal((64, 16), np.float32)
  mesh = jax.sharding.Mesh(
      np.array(jax.devices()[:devices]).reshape(devices, 1, 1),
      ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)
  both = lambda: jax.jit(jax.value_and_grad(
      lambda z: contrastive.ntxent(z, 0.2), has_aux=True))
  with jax.set_mesh(mesh):
    z = jax.device_put(z, jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec(("data", "fsdp"))))
    (want, right), grad = both()(z)
    monkeypatch.setattr(contrastive, "BLOCK_BYTES", 64 * 4 * 2)
    assert contrastive.num_blocks(64) == 32 // devices
    (loss, accuracy), found = both()(z)
  np.testing.assert_allclose(loss, definition(np.asarray(z), 0.2), rtol=1e-6)
  np.testing.assert_allclose(loss, want, rtol=1e-6)
  assert accuracy == right
  np.testing.assert_allclose(found, grad, atol=1e-7)


@pytest.mark.parametrize("b, blocks", [
    (64, 1), (8192, 4), (16384, 16), (6002, 2), (20014, 2)])
def test_blocks_divide_the_rows_and_are_not_tiny(b, blocks):
  assert contrastive.num_blocks(b) == blocks


def test_no_device_holds_all_similarities():
  # 8,192 views: 256 MB of similarities, of which a device may hold 64.
  z = jax.ShapeDtypeStruct((8192, 16), jnp.float32)
  compiled = jax.jit(jax.grad(
      lambda z: contrastive.ntxent(z, 0.2)[0])).lower(z).compile()
  text = compiled.as_text()
  assert "f32[2048,8192]" in text and "[8192,8192]" not in text
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * 2**26


def test_skill_is_0_for_features_that_know_nothing():
  # All views in one point: every other view is equally likely.
  loss, metrics = make().loss(jnp.ones((16, 4)), {})
  assert float(loss) == pytest.approx(make().trivial_loss, abs=1e-5)
  assert float(metrics["skill"]) == pytest.approx(0, abs=1e-5)


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_moco_equals_its_definition():
  rng = np.random.default_rng(0)
  q, teacher = rng.standard_normal((2, 4, 3)).astype(np.float32)
  queue = unit(rng.standard_normal((8, 3))).astype(np.float32)
  task = make(views=4, kind="moco", queue_size=8, temperature=0.3, out_dim=3)
  loss, metrics = jax.jit(task.loss)(
      q, {"teacher": teacher, "state": {"queue": queue}})
  losses, right = [], []
  for i, partner in enumerate([1, 0, 3, 2]):
    positive = unit(q[i]) @ unit(teacher[partner]) / 0.3
    negatives = queue.astype(np.float64) @ unit(q[i]) / 0.3
    losses.append(
        np.log(np.exp(positive) + np.exp(negatives).sum()) - positive)
    right.append(positive > negatives.max())
  assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
  assert float(metrics["accuracy"]) == np.mean(right)
  assert task.trivial_loss == pytest.approx(np.log(9))


def test_the_queue_holds_the_newest_keys():
  task = make(views=4, kind="moco", queue_size=12, out_dim=3)
  state = task.init_state()
  np.testing.assert_allclose(
      np.linalg.norm(state["queue"], axis=1), 1, rtol=1e-5)
  rng = np.random.default_rng(0)
  keys = rng.standard_normal((5, 4, 3)).astype(np.float32)
  for step in keys:
    state = task.update_state({"teacher": step, "state": state})
  np.testing.assert_allclose(
      state["queue"], unit(keys[2:].reshape(12, 3)), rtol=1e-5)


def test_byol_by_hand():
  task = make(views=2, kind="byol")
  answers = {"teacher": {
      "projection": jnp.array([[0, 2.0], [3, 0]])}}
  # View 0 predicts view 1's direction exactly; view 1 is 60 degrees off.
  predicted = {"prediction": jnp.array([[5.0, 0], [np.sqrt(3), 1]]),
               "projection": jnp.zeros((2, 2))}
  loss, metrics = task.loss(predicted, answers)
  assert float(loss) == pytest.approx((0 + (2 - 2 * 0.5)) / 2, abs=1e-6)
  assert float(metrics["skill"]) == pytest.approx(0.75, abs=1e-6)


def test_only_the_momentum_kinds_ask_for_a_teacher():
  assert make().teacher_momentum is None and make().init_state() == {}
  assert make(kind="moco").teacher_momentum == 0.9
  assert make(kind="byol").teacher_momentum == 0.9
  assert make(kind="byol").init_state() == {}


@pytest.mark.parametrize("changes", [
    dict(temperature=0.0), dict(temperature=float("nan")), dict(mode="on"),
    dict(weight=-1.0), dict(weight=float("nan")), dict(kind="simclr"),
    dict(temperature=float("inf")), dict(out_dim=0), dict(hidden_dim=0),
    dict(num_hidden=-1), dict(momentum=1.0), dict(kind="moco", queue_size=24)])
def test_bad_fields_are_refused(changes):
  with pytest.raises(ValueError):
    make(**changes)


def test_gradients_of_zero_embeddings_are_finite():
  grad = jax.grad(lambda z: contrastive.ntxent(z, 0.2)[0])(jnp.zeros((4, 3)))
  assert np.isfinite(grad).all()


@pytest.mark.parametrize("kind", ["infonce", "byol"])
def test_picture_ranks_views_by_similarity(kind):
  # View 3 is most like view 0, then its own other view, 1; view 2 is opposite.
  z = np.array([[1, 0], [0.8, 0.6], [-1, 0], [0.9, 0.1]], np.float32)
  predicted = {"projection": z, "prediction": -z} if kind == "byol" else z
  images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones(
      (4, 8, 8, 3), np.uint8)
  task = make(kind=kind)
  rows = task.rows(images, {}, {}, predicted, limit=1)
  # Of each other image the more similar view.
  assert [int(p.image[0, 0, 0]) for p in rows[0]] == [0, 1, 3]
  assert rows[0][1].title == "its other view · rank 2"
  assert len(task.rows(images, {}, {}, predicted, limit=5)) == 2
  assert task.rows(images, {}, {}, None, limit=5) == []


@pytest.mark.parametrize("scale", [1e-30, 1e20, 3e38])
def test_ntxent_of_very_long_and_short_embeddings(scale):
  z = np.eye(2, 3, dtype=np.float32)[[0, 0, 1, 1]] * np.float32(scale)
  loss, accuracy = jax.jit(contrastive.ntxent)(z, 0.5)
  # Of the three others one has cosine 1, and two have 0.
  assert float(loss) == pytest.approx(np.log(np.exp(2) + 2) - 2, rel=1e-5)
  assert float(accuracy) == 1

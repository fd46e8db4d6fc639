"""The mesh and the table of rules."""

import types

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit import errors
from mtvit.models import vit
from mtvit.training import assembly
from mtvit.training import sharding

Mesh = config_lib.Mesh


@pytest.mark.parametrize("axes, shape", [
    ((-1, 1, 1), (8, 1, 1)), ((2, -1, 1), (2, 4, 1)), ((2, 2, 2), (2, 2, 2))])
def test_mesh_takes_all_devices(on_all, axes, shape):
  mesh = sharding.create_mesh(Mesh(data=axes[0], fsdp=axes[1], tensor=axes[2]))
  assert tuple(mesh.shape.values()) == shape


@pytest.mark.parametrize("axes", [
    (3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, -1, 1), (1, 1, 1), (-2, -2, 2)])
def test_a_mesh_that_does_not_fit_is_refused(axes):
  with pytest.raises(errors.ConfigError, match="8 devices"):
    sharding.create_mesh(Mesh(data=axes[0], fsdp=axes[1], tensor=axes[2]))


def test_first_match_wins_and_moments_follow_parameters():
  mesh = sharding.create_mesh(Mesh(data=2, fsdp=2, tensor=2))
  leaf = jax.ShapeDtypeStruct((2, 8, 16), jnp.float32)
  found = sharding.state_sharding(
      {"params": {"blocks": {"fc1": {"kernel": leaf}}},
       "opt_state": [{"mu": {"blocks": {"fc1": {"kernel": leaf}}}}]}, mesh)
  specs = [s.spec for s in jax.tree.leaves(found)]
  assert specs == [P(None, "fsdp", "tensor")] * 2


def test_what_encoders_may_have_is_on_every_device():
  mesh = sharding.create_mesh(Mesh(data=2, fsdp=2, tensor=2))
  encoder = vit.ModelConfig(
      variant="nano/8", layer_scale=0.1, registers=1, class_position=True,
  ).encoder(("cls",), "mask_token")
  shapes = jax.eval_shape(
      encoder.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.uint8))
  specs = jax.tree.map(lambda s: s.spec, sharding.state_sharding(
      {"encoder": shapes["params"]}, mesh))["encoder"]
  for spec in (*(specs["blocks"][f"layer_scale{i}"] for i in (1, 2)),
               specs["token_reg0"], specs["position_cls"]):
    assert spec == P()


def test_what_no_rule_knows_is_split_where_it_can_be():
  mesh = sharding.create_mesh(Mesh(data=2, fsdp=4, tensor=1))
  leaf = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  found = sharding.state_sharding({"encoder": {
      "new": leaf(6, 8, 12), "odd": leaf(8, 13), "bias": leaf(8),
      "prime": leaf(3, 5), "count": leaf(),
      # Of other dimensions than the rule for this name.
      "blocks": {"fc1": {"kernel": leaf(4, 8)}}}}, mesh)["encoder"]
  specs = jax.tree.map(lambda s: s.spec, found)
  assert specs == {
      "new": P(None, None, "fsdp"), "odd": P("fsdp", None), "bias": P(),
      "prime": P(), "count": P(),
      "blocks": {"fc1": {"kernel": P(None, "fsdp")}}}


def test_indivisible_parameters_are_named():
  mesh = sharding.create_mesh(Mesh(data=2, fsdp=4, tensor=1))
  leaf = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  with pytest.raises(errors.ConfigError, match="embed/kernel.*6.*fsdp=4"):
    sharding.state_sharding({"encoder": {"embed": {"kernel": leaf(8, 6)}}},
                            mesh)


def test_a_batch_that_does_not_divide_gets_the_nearest_sizes(on_all, tiny):
  tiny.batch_size = 10
  mesh = sharding.create_mesh(Mesh(data=-1, fsdp=1, tensor=1))
  with pytest.raises(errors.ConfigError, match="batch_size=8 or 12"):
    assembly.check_batch(config_lib.parse(tiny), mesh)
  tiny.batch_size = 12
  assembly.check_batch(config_lib.parse(tiny), mesh)


def hosts(*rows):
  """A mesh of devices on these hosts: rows of the batch x tensor."""
  devices = np.array(rows)[:, None]                         # [data, 1, tensor]
  return types.SimpleNamespace(
      devices=np.vectorize(
          lambda host: types.SimpleNamespace(process_index=host))(devices),
      shape=dict(zip(("data", "fsdp", "tensor"), devices.shape)))


def test_each_of_several_hosts_has_an_even_number_of_images(tiny):
  one, four = hosts(*[[0]] * 4), hosts([0], [1], [2], [3])
  tiny.batch_size = 12
  assembly.check_batch(config_lib.parse(tiny), one)
  with pytest.raises(errors.ConfigError, match="8 or 16"):  # 3 images each.
    assembly.check_batch(config_lib.parse(tiny), four)


def test_views_of_an_image_stay_on_a_device_of_several_hosts(tiny):
  tiny.batch_size = 4                                       # 8 views.
  assembly.check_batch(config_lib.parse(tiny), hosts(*[[0]] * 8))
  with pytest.raises(errors.ConfigError, match="batch_size=8"):
    assembly.check_batch(
        config_lib.parse(tiny), hosts(*[[0], [1], [1], [0]] * 2))


def test_pieces_divide_the_batch(on_all, tiny):
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  tiny.batch_size, tiny.accumulate = 12, 3
  assembly.check_batch(config_lib.parse(tiny), mesh)
  tiny.accumulate = 2
  with pytest.raises(errors.ConfigError, match="in 2 pieces"):
    assembly.check_batch(config_lib.parse(tiny), mesh)


@pytest.mark.parametrize("mesh, shares", [
    (hosts([0], [0], [1], [1]), [(0, 2), (1, 2)]),
    (hosts([1], [0], [1], [0]), [(1, 2), (0, 2)]),          # Interleaved.
    (hosts([0, 0], [1, 1]), [(0, 2), (1, 2)]),
    (hosts([0, 2], [3, 1]), [(0, 2), (1, 2), (0, 2), (1, 2)]),
    (hosts([0, 1]), [(0, 1), (0, 1)])])
def test_hosts_with_the_same_rows_read_the_same_share(mesh, shares):
  assert [sharding.share(mesh, i) for i in range(len(shares))] == [
      sharding.Share(*share) for share in shares]


def test_hosts_that_share_only_some_rows_are_refused():
  with pytest.raises(errors.ConfigError, match="mesh.tensor"):
    sharding.share(hosts([0, 1], [1, 2], [2, 0]), 0)
  with pytest.raises(errors.ConfigError, match="mesh.tensor"):
    sharding.share(hosts([0], [0], [1]), 0)

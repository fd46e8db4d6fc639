"""One of two processes with two devices each, on a mesh of any order.

argv: process, port, config as JSON, the mesh as a JSON list [data][tensor] of
devices, each as number of its process * 2 + its number there. Prints loss and
the norm of each gradient as JSON.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from mtvit import config as config_lib
from mtvit.training import sharding
from tests.training import test_train_step


def mesh_of(places):
  """The mesh with the devices at these places."""
  mine = lambda host: [
      d for d in jax.devices() if d.process_index == host]
  devices = [[mine(place // 2)[place % 2] for place in row] for row in places]
  return jax.sharding.Mesh(
      np.array(devices)[:, None], ("data", "fsdp", "tensor"),
      axis_types=(jax.sharding.AxisType.Auto,) * 3)


def main():
  process, port, config, places = sys.argv[1:]
  jax.distributed.initialize(f"localhost:{port}", 2, int(process))
  mesh = mesh_of(json.loads(places))
  parts = test_train_step.make_parts(
      config_lib.parse(json.loads(config)), mesh)
  batch = test_train_step.first_batch(parts)
  with jax.set_mesh(mesh):
    state = parts.first_state()

    def norms(params, state, batch):
      (loss, _), grads = jax.value_and_grad(
          parts.objective.total, has_aux=True)(params, state, batch)
      return loss, [jnp.linalg.norm(g) for g in jax.tree.leaves(grads)]

    loss, found = jax.jit(norms)(
        state.params, state, sharding.global_batch(batch, mesh))
  print("RESULT", json.dumps(
      [float(loss), [float(x) for x in found], batch["index"].tolist()]))


if __name__ == "__main__":
  main()

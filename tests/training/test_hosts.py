"""Hosts whose rows of the batch are not neighbours, as on a TPU slice."""

import json
import re
import socket

import jax
import numpy as np
import pytest

from mtvit import config as config_lib
from mtvit.run import config_values
from tests import commands
from tests.training import test_train_step


def on_two_hosts(config, places, folder):
  """What the two processes print: (loss, norms, ids) of each."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  given = [json.dumps(config_values.to_plain(config)), json.dumps(places)]
  flags = (f"--xla_force_host_platform_device_count=2 {commands.QUICK} "
           f"{commands.ORDERED}")
  processes = []
  for i in range(2):
    with open(folder / f"{i}.txt", "w") as file:
      processes.append(commands.start(
          "tests.training.host_worker", i, port, *given, out=file, err=file,
          XLA_FLAGS=flags, NPROC=16))
  results = []
  for i, process in enumerate(processes):
    process.join(300)
    said = (folder / f"{i}.txt").read_text()
    assert process.exitcode == 0, said[-3000:]
    results.append(json.loads(re.search("RESULT (.*)", said)[1]))
  return results


@pytest.mark.slow
@pytest.mark.parametrize("places, same_rows", [
    ([[0], [2], [1], [3]], False),              # Each host's rows interleaved.
    ([[0, 2], [3, 1]], True)])                  # tensor spans the hosts.
def test_any_order_of_devices_gives_the_loss_of_one_host(
    everything, places, same_rows, tmp_path):
  everything.model.variant = "nano/8"       # tensor can split its 4 heads.
  everything.tasks.contrastive.kind = "infonce"
  everything.diagnose_every = 0
  config = config_lib.parse(everything)
  want, _, grads = test_train_step.loss_and_grads(
      test_train_step.make_parts(config), (1, 1, 1))
  first, second = on_two_hosts(everything, places, tmp_path)
  assert (first[2] == second[2]) == same_rows
  seen = first[2] if same_rows else first[2] + second[2]
  assert len(seen) == 2 * config.batch_size and len(set(seen)) == 8
  for loss, norms, _ in (first, second):
    assert abs(loss - float(want)) <= 1e-5 * max(1, abs(float(want)))
    for norm, grad in zip(norms, jax.tree.leaves(grads), strict=True):
      assert norm == pytest.approx(
          float(np.linalg.norm(grad)), rel=1e-4, abs=1e-6)

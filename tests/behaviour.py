"""Whether two versions of the code train alike, bit for bit.

  python tests/behaviour.py ROOT             # 20 steps of every strategy
  python tests/behaviour.py ROOT > before    # a file to compare with later
  python tests/behaviour.py OLD NEW          # roots, or such files
  ... --only=report,supervised               # not every strategy

Each ROOT is a checkout, whose own code trains its own quickstart with XLA's
default flags on one CPU device, about 20 s of CPU time for each strategy. A
line of what is printed is JSON: the strategy, a digest of all parameters after
the last step, one of the whole state, and the loss of each step as a
hexadecimal float. The exit code of a comparison is 0 if all of it is equal in
each strategy of OLD. XLA compiles for the processor at hand, so compare on one
machine only.

A run is killed when its last checkpoint is there: no evaluation, no pictures.
"""

import hashlib
import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STEPS = 20
LIMIT = 900                  # Seconds for a run, on a busy machine.
# To the quickstart. The first lines are what it once was.
CHANGES = {
    "data.name": "photo_crops", "augment.crop_scale": (0.5, 1.0),
    "augment.jitter_strength": 0.25, "augment.gray": 0.1,
    "tasks.contrastive.weight": 1.0, "tasks.rotation.weight": 3.0,
    "tasks.supervised.num_classes": 8, "optimizer.base_lr": 3e-3,
    "total_steps": STEPS, "checkpoint_every": STEPS, "batch_size": 16,
    "log_every": 1, "diagnose_every": 0,
    "model.unroll": 1}       # A layer is compiled once: seconds.


def behaviour(root, only=""):
  """What the run of each strategy did, as it becomes known."""
  environment = {key: value for key, value in os.environ.items()
                 if not key.startswith(("XLA_", "JAX_", "MTVIT_", "NPROC"))}
  root = os.path.abspath(root)
  with tempfile.TemporaryDirectory(prefix="mtvit_behaviour_") as folder:
    with subprocess.Popen(
        [sys.executable, "-P", __file__, "--worker", root, folder, only],
        cwd=folder, stdout=subprocess.PIPE, text=True, env=environment | {
            "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1",
            "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",
            "MTVIT_CACHE_DIR": f"{folder}/cache"}) as worker:
      for strategy in map(str.strip, worker.stdout):
        workdir = pathlib.Path(folder, strategy)
        yield {"strategy": strategy, **digests(workdir),
               "losses": losses(workdir)}
        shutil.rmtree(workdir)
  if worker.returncode:
    sys.exit(f"{root}: not all strategies could be trained")


def work(root, folder, only):
  """Trains every strategy in a fork of this process, which knows its code.

  Importing JAX and TensorFlow takes as long as a run; nothing is computed
  before the fork.
  """
  import flax.linen  # noqa: F401
  import ml_collections.config_flags  # noqa: F401
  import optax  # noqa: F401
  import orbax.checkpoint  # noqa: F401
  import tensorflow  # noqa: F401

  from mtvit.configs import common
  for strategy in only.split(",") if only else common.STRATEGIES:
    train(root, strategy, pathlib.Path(folder, strategy))
    print(strategy, flush=True)


def train(root, strategy, workdir):
  """Runs the command until its last checkpoint is there."""
  output = workdir.with_suffix(".txt")
  process = os.fork()
  if not process:
    for number in (1, 2):
      os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [
        "mtvit.pretrain", f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in CHANGES.items()),
        f"--config={root}/configs/quickstart.py:strategy={strategy}"]
    runpy.run_module("mtvit.pretrain", run_name="__main__", alter_sys=True)
    os._exit(1)
  deadline = time.monotonic() + LIMIT
  try:
    # Orbax gives it this name when it is whole.
    while not (workdir / "checkpoints" / str(STEPS)).is_dir():
      ended, _ = os.waitpid(process, os.WNOHANG)
      if ended or time.monotonic() > deadline:
        process = 0 if ended else process
        sys.exit(f"{strategy}:\n{output.read_text()[-3000:]}")
      time.sleep(0.05)
  finally:
    if process:
      os.kill(process, signal.SIGKILL)
      os.waitpid(process, 0)


def digests(workdir):
  """SHA-256 of the parameters, and of all of the state, by sorted name."""
  import states               # tests/states.py; it imports JAX.
  _, leaves = states.leaves(workdir, STEPS)
  parameters = {
      name: x for name, x in leaves.items() if name.startswith("['params']")}
  assert len(parameters) > 10, sorted(leaves)
  return {"parameters": _digest(parameters), "state": _digest(leaves)}


def _digest(leaves):
  total = hashlib.sha256()
  for name in sorted(leaves):
    x = leaves[name]
    total.update(f"{name} {x.dtype} {x.shape} ".encode() + x.tobytes())
  return total.hexdigest()


def losses(workdir):
  """The total loss of each step, exactly."""
  lines = [json.loads(line) for line in (
      workdir / "metrics.jsonl").read_text().splitlines()]
  found = {line["step"]: line["train/loss"].hex() for line in lines
           if "train/loss" in line}
  assert list(found) == list(range(1, STEPS + 1)), list(found)
  return list(found.values())


def told(side, only):
  """The lines of a root, or of a file that was made of one."""
  if os.path.isdir(side):
    return behaviour(side, only)
  lines = map(json.loads, pathlib.Path(side).read_text().splitlines())
  return [line for line in lines
          if not only or line["strategy"] in only.split(",")]


def compare(old, new, only):
  """Prints which strategies are equal; returns whether all are."""
  before = {line["strategy"]: line for line in told(old, only)}
  equal = {}
  for line in told(new, only):
    name = line["strategy"]
    if name in before:
      equal[name] = line == before[name]
      print(f"{name}: {'equal' if equal[name] else 'DIFFERS'}", flush=True)
      if not equal[name]:
        print(f"  {before[name]}\n  {line}")
  for name in before.keys() - equal.keys():
    print(f"{name}: MISSING")
  print(f"{sum(equal.values())} of {len(before)} strategies of {old} are equal "
        f"bit for bit in {new} after {STEPS} steps")
  return 0 < sum(equal.values()) == len(before)


def main(*sides):
  """Returns the exit code."""
  if sides[:1] == ("--worker",):
    work(*sides[1:])
    return 0
  only = "".join(x[len("--only="):] for x in sides if x.startswith("--only="))
  sides = [x for x in sides if not x.startswith("--")]
  if len(sides) == 2:
    return 0 if compare(*sides, only) else 1
  if len(sides) != 1:
    sys.exit(__doc__)
  for line in behaviour(*sides, only):
    print(json.dumps(line), flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main(*sys.argv[1:]))

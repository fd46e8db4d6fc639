"""What checkpoints hold, read without mtvit."""

import hashlib
import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp


def steps(workdir):
  """The steps whose checkpoints are there, ascending."""
  return sorted(int(d.name) for d in pathlib.Path(
      workdir, "checkpoints").iterdir() if d.name.isdigit())


def leaves(workdir, step=None):
  """(step, path -> array) of a checkpoint, the newest by default."""
  step = steps(workdir)[-1] if step is None else step
  folder = pathlib.Path(workdir).absolute() / "checkpoints" / str(step)
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.metadata(folder / "state").item_metadata.tree
    state = checkpointer.restore(
        folder / "state", restore_args=jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree))
  return step, {
      jax.tree_util.keystr(path): np.asarray(x)
      for path, x in jax.tree_util.tree_leaves_with_path(state)}


def digest(workdir, step=None):
  """(step, SHA-256 over all arrays) of a checkpoint."""
  step, found = leaves(workdir, step)
  total = hashlib.sha256()
  for key in sorted(found):
    total.update(f"{key}{found[key].dtype}{found[key].shape}".encode())
    total.update(found[key].tobytes())
  return step, total.hexdigest()[:16]


def assert_same(a, b):
  """The newest checkpoints of two runs are equal to the last bit."""
  (step_a, a), (step_b, b) = leaves(a), leaves(b)
  assert step_a == step_b and a.keys() == b.keys() and len(a) > 50
  for key in a:
    assert a[key].dtype == b[key].dtype and (
        a[key].tobytes() == b[key].tobytes()), key

"""Do the tasks pull the encoder the same way? Norms and cosines of gradients.

For each task the gradient of its normalised loss with respect to the encoder,
on one batch; by groups of layers: its norm, and the cosine between every two
tasks. Cost: one forward pass and a backward pass for each task, so about
(1 + 2 k) / 3 training steps for k tasks, and memory for k encoder gradients.
"""

from typing import Any, Callable, Mapping, NamedTuple, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit.models import parameter_names
from mtvit.training import evaluation
from mtvit.training import train_step

# "embed" is the patch projection, the positions and the tokens; the blocks are
# cut into thirds; the last norm is left to "all".
GROUPS = ("embed", "early", "middle", "late", "all")


class Gradients(evaluation.Evaluator):
  """The evaluator `gradients`: every `diagnose_every` steps, before them."""

  name = "gradients"
  title = "gradients of each task"
  when = "before"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self.every = context.config.diagnose_every
    self._diagnose = create(context.parts.objective, context.parts.mesh)

  def run(self, look: evaluation.Look) -> evaluation.Found:
    return evaluation.Found(self._diagnose(look.state, look.batch))


def create(
    objective: train_step.Objective, mesh: jax.sharding.Mesh
) -> Callable[[Any, Any], dict[str, float]]:
  """A function (state, global batch) -> scalars `gradients/<group>/...`.

  They are `gradients/<group>/norm/<task>` and
  `gradients/<group>/cosine/<task>/<task>`. A cosine with a gradient of 0 is 0.
  """
  names = [task.name for task in objective.tasks]

  def products(state, batch):
    def losses(encoder):
      found, _ = objective.losses(
          state.params | {"encoder": encoder}, state, batch)
      return jnp.stack([found[name] for name in names])     # [k]

    _, pullback = jax.vjp(losses, state.params["encoder"])
    # One backward pass is compiled, and run for each task.
    grads = jax.lax.map(
        lambda one: pullback(one)[0], jnp.eye(len(names)))  # [k, ...] leaves
    return gram(grads)

  compiled = jax.jit(products, out_shardings=NamedSharding(mesh, P()))

  def diagnose(state: Any, batch: Any) -> dict[str, float]:
    found = jax.device_get(compiled(state, batch))
    return {key: value for group, matrix in found.items()
            for key, value in scalars(group, names, matrix).items()}

  return diagnose


def gram(grads: Any) -> dict[str, jax.Array]:
  """Group -> inner products of the tasks' gradients, float32 [k, k].

  Args:
    grads: the encoder's tree with leaves [k, ...].
  """
  k = jax.tree.leaves(grads)[0].shape[0]
  products = dict.fromkeys(GROUPS, jnp.zeros((k, k)))

  def add(group, x):
    x = x.reshape(k, -1).astype(jnp.float32)                # [k, size]
    products[group] += jnp.matmul(
        x, x.T, precision=jax.lax.Precision.HIGHEST)

  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    name = parameter_names.path_name(path)
    add("all", leaf)
    if name.startswith("blocks/"):
      for group, layers in zip(("early", "middle", "late"), np.array_split(
          np.arange(leaf.shape[1]), 3)):
        add(group, leaf[:, layers])
    elif not name.startswith("norm/"):
      add("embed", leaf)
  return products


def scalars(
    group: str, names: Sequence[str], matrix: np.ndarray
) -> dict[str, float]:
  """Norms and cosines of a Gram matrix [k, k], named for metrics.jsonl."""
  norms = np.sqrt(np.maximum(np.diag(matrix), 0))           # [k]
  result = {f"gradients/{group}/norm/{name}": float(norm)
            for name, norm in zip(names, norms)}
  for i, a in enumerate(names):
    for j in range(i + 1, len(names)):
      scale = norms[i] * norms[j]
      result[f"gradients/{group}/cosine/{a}/{names[j]}"] = float(
          matrix[i, j] / scale if scale > 0 else 0.0)
  return result


class Table(NamedTuple):
  """How the tasks' gradients of a group of layers compare.

  Attributes:
    tasks: k names.
    norms: [k].
    cosines: [k, k].
  """
  tasks: list[str]
  norms: np.ndarray
  cosines: np.ndarray


def table(lines: Sequence[Mapping[str, float]], group: str) -> Table:
  """What a run's metrics.jsonl says of a group, averaged over the run.

  Args:
    lines: of `metrics.read`.
    group: one of `GROUPS`.
  """
  prefix = f"gradients/{group}/"
  values: dict[str, list[float]] = {}
  for line in lines:
    for key, value in line.items():
      if key.startswith(prefix):
        values.setdefault(key.removeprefix(prefix), []).append(value)
  mean = {key: float(np.mean(x)) for key, x in values.items()}
  names = [key.partition("/")[2] for key in mean if key.startswith("norm/")]
  cosines = np.eye(len(names))
  for i, a in enumerate(names):
    for j, b in enumerate(names):
      if f"cosine/{a}/{b}" in mean:
        cosines[i, j] = cosines[j, i] = mean[f"cosine/{a}/{b}"]
  return Table(names, np.array([mean[f"norm/{a}"] for a in names]), cosines)

"""Features of clean images, computed on the mesh."""

import functools
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from etils import epy
import numpy as np

from mtvit import encoder as encoder_lib
from mtvit.models import interface
from mtvit.training import evaluation
from mtvit.training import sharding

with epy.lazy_imports():
  from mtvit.data import pipeline

if TYPE_CHECKING:
  from mtvit.models import pretrainer

# Images at most, a multiple of the devices. On CPU larger ones are slower: they
# fall out of the caches.
BATCH = 128


def extractor(
    model: "pretrainer.Pretrainer", mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
  """A jitted (params, image [b, h, w, 3]) -> readouts in float32, [b, d].

  Args:
    model: a `Pretrainer`, whose parameters it is.
    mesh: of the run.
  """
  run = encoder_extractor(model.encoder(), mesh)
  return lambda params, image: run(params["encoder"], image)


@functools.cache      # Trained and random parameters share the program.
def encoder_extractor(
    module: interface.Encoder, mesh: jax.sharding.Mesh,
    layers: tuple[int, ...] | None = None
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
  """A jitted (params, image [b, h, w, 3]) -> readouts in float32.

  Args:
    module: whose parameters it is.
    mesh: the batch is spread over it.
    layers: k layers to read, 0 is the input of the first block; every readout
      is then [k, b, d]. None reads the last, [b, d].
  """
  def extract(params, image):
    out = module.apply({"params": params}, image, layers=layers is not None)
    if layers is None:
      found = encoder_lib.readouts(out)
    else:
      found = jax.tree.map(lambda *x: jnp.stack(x), *[
          encoder_lib.readouts(encoder_lib.at_layer(module, params, out, layer))
          for layer in layers])
    return jax.tree.map(lambda x: x.astype(jnp.float32), found)

  return jax.jit(extract, out_shardings=NamedSharding(mesh, P()))


def batch_size(num_examples: int, mesh: jax.sharding.Mesh) -> int:
  """Rows of a batch: few for few images, and a multiple of the devices."""
  return -(-min(BATCH, num_examples) // mesh.size) * mesh.size


def extract(
    params: interface.Params, batches: Iterable[Mapping[str, np.ndarray]],
    extractor_fn: Callable[[Any, jax.Array], dict[str, jax.Array]],
    mesh: jax.sharding.Mesh, should_stop: Callable[[], bool] = lambda: False
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Features and labels of all valid rows.

  Args:
    params: what `extractor_fn` wants.
    batches: of `pipeline.eval_batches`, the same on every host.
    extractor_fn: of `extractor` or `encoder_extractor`.
    mesh: of the run.
    should_stop: asked before each batch; True ends early.

  Returns:
    Readout -> float32 [..., n, d], and int32 [n].
  """
  found, labels = [], []
  for batch in batches:
    if should_stop():
      break
    image = sharding.spread(batch["image"], mesh)
    valid = batch["valid"]
    out = jax.device_get(extractor_fn(params, image))
    found.append({name: x[..., valid, :] for name, x in out.items()})
    labels.append(batch["label"][valid])
  features = {
      name: np.concatenate([f[name] for f in found], axis=-2)
      for name in found[0]
  } if found else {}
  return features, np.concatenate(labels) if labels else np.zeros(0, np.int32)


class RunImages:
  """A run's own images, clean, and what its model makes of them.

  Called with (params, split, limit) it gives `evaluation.Features`.
  """

  def __init__(self, context: evaluation.Context):
    """Binds what does not change."""
    self._context = context
    self._mesh = context.parts.mesh
    self._extract = extractor(context.parts.model, self._mesh)
    self._batch = batch_size(
        max(context.train.num_examples, context.test.num_examples), self._mesh)

  def __call__(
      self, params: interface.Params, split: str, limit: int
  ) -> evaluation.Features:
    return evaluation.Features(
        *self.outputs(self._extract, params, split, limit))

  def outputs(
      self, extractor_fn: Callable[[Any, jax.Array], dict[str, jax.Array]],
      params: interface.Params, split: str, limit: int
  ) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What `extract` returns, of the first `limit` images; of all if 0."""
    config = self._context.config
    source = {"train": self._context.train, "test": self._context.test}[split]
    batches = pipeline.eval_batches(
        source, config.model.image_size, self._batch, limit or None,
        config.input == "gray")
    return extract(
        params, batches, extractor_fn, self._mesh, self._context.should_stop)

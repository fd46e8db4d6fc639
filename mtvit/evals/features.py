"""Features of clean images, computed on the mesh."""

from typing import Any, Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import numpy as np

from mtvit import sharding
from mtvit.models import vit


def readouts(features: vit.Features) -> dict[str, jax.Array]:
  """Readout name -> [b, d]: each token, and "gap", the mean of the patches."""
  return dict(features.tokens) | {"gap": features.patches.mean(axis=1)}


def extractor(
    model: Any, mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
  """A jitted (params, image [b, h, w, 3]) -> readouts in float32."""
  encoder = model.encoder()

  def extract(params, image):
    features = encoder.apply({"params": params["encoder"]}, image)
    return {
        name: x.astype(jnp.float32) for name, x in readouts(features).items()}

  return jax.jit(extract, out_shardings=NamedSharding(mesh, P()))


def extract(
    params: Any, batches: Iterable[Mapping[str, np.ndarray]],
    extractor_fn: Callable[[Any, jax.Array], dict[str, jax.Array]],
    mesh: jax.sharding.Mesh, should_stop: Callable[[], bool] = lambda: False
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Features and labels of all valid rows.

  Args:
    params: of a `Pretrainer`.
    batches: of `pipeline.eval_batches`, the same on every host.
    extractor_fn: of `extractor`.
    mesh: of the run.
    should_stop: asked before each batch; True ends early.

  Returns:
    Readout -> float32 [n, d], and int32 [n].
  """
  rows = sharding.batch_sharding(mesh)
  found, labels = [], []
  for batch in batches:
    if should_stop():
      break
    image = batch["image"]
    image = jax.make_array_from_callback(
        image.shape, rows, lambda index, image=image: image[index])
    valid = batch["valid"]
    out = jax.device_get(extractor_fn(params, image))
    found.append({name: x[valid] for name, x in out.items()})
    labels.append(batch["label"][valid])
  features = {
      name: np.concatenate([f[name] for f in found]) for name in found[0]
  } if found else {}
  return features, np.concatenate(labels) if labels else np.zeros(0, np.int32)

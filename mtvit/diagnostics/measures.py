"""Why an encoder is good or not: the diagnostics of an evaluation.

Over-smoothing by layer, position embeddings, rank of the readouts, a dense
probe and the cheat index, on clean images through the run's own input
transform.
"""

import dataclasses
import functools
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
from etils import epy

from mtvit import encoder as encoder_lib
from mtvit.diagnostics import cheat
from mtvit.diagnostics import positions
from mtvit.diagnostics import rank
from mtvit.diagnostics import smoothing
from mtvit.probes import dense
from mtvit.probes import frozen
from mtvit.probes import knn
from mtvit.probes import linear
from mtvit.training import sharding

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline

BATCH = 256           # Images at most.
# What a device may hold of tokens of all layers and attention at once.
LAYERS_BYTES = 256 * 2**20
DENSE_PATCHES = 16    # Of a mosaic, at most; four images give these labels.
DENSE_L2 = 1e-3


class Images(NamedTuple):
  """Images uint8 [m, s, s, 3] and their labels int32 [m]."""
  images: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """How many images are looked at, at most.

  Attributes:
    layers: test images for over-smoothing.
    train: training images whose neighbours vote, and for the ranks.
    test: test images for the accuracy with changed embeddings.
    mosaics: of training and test images.
  """
  layers: int = 512
  train: int = 5000
  test: int = 1000
  mosaics: tuple[int, int] = (2000, 500)


def diagnose(
    encoder: encoder_lib.Encoder, mesh: jax.sharding.Mesh,
    train: "datasets.Source", test: "datasets.Source", *,
    cheat_rows: list[dict[str, Any]], sizes: Sizes = Sizes()
) -> dict[str, Any]:
  """The "diagnostics" section of an evaluation; `json` can write it.

  Args:
    encoder: to look into.
    mesh: where it runs.
    train: images with labels, to fit to.
    test: others, to measure on.
    cheat_rows: of `cheat.index`; may be empty.
    sizes: how many images of both.
  """
  params = jax.device_put(encoder.params, NamedSharding(mesh, P()))
  readouts, accuracy = _readouts(
      encoder, params, mesh, (train, sizes.train), (test, sizes.test))
  found = None
  if encoder.position_param:
    found = positions.describe(
        encoder.params[encoder.position_param], encoder.grid) | {
            "accuracy": accuracy}
  return {
      "layers": _layers(encoder, params, mesh, test, sizes.layers),
      "positions": found, "rank": rank.describe(readouts),
      "dense": _dense(encoder, params, mesh, (train, test), sizes.mosaics),
      "cheat": cheat_rows}


def _batches(
    encoder: encoder_lib.Encoder, mesh: jax.sharding.Mesh,
    source: "datasets.Source", limit: int, most: int
) -> Iterator[dict[str, np.ndarray]]:
  """Clean images of a source, in batches that the devices divide."""
  rows = min(most, limit, source.num_examples)
  rows = -(-rows // mesh.size) * mesh.size
  return pipeline.eval_batches(
      source, encoder.image_size, rows, limit, encoder.gray)


def _layers(
    encoder: encoder_lib.Encoder, params: Any, mesh: jax.sharding.Mesh,
    source: "datasets.Source", limit: int
) -> list[dict[str, Any]]:
  """Over-smoothing, one row for each layer."""
  special, (gh, gw) = len(encoder.token_names), encoder.grid
  module, sequence = encoder.module, special + gh * gw

  def encode(inputs):
    params, image = inputs
    features = module.apply(
        {"params": params}, image, layers=True, attention=True)
    return features.layers[:, :, special:], features.attention

  of_image = 4 * sequence * (
      (module.depth + 1) * module.width
      + module.depth * module.heads * sequence)             # bytes
  most = max(1, min(BATCH, LAYERS_BYTES // of_image)) * mesh.size

  def batches():
    for batch in _batches(encoder, mesh, source, limit, most):
      yield (params, sharding.spread(batch["image"], mesh)), batch["valid"]

  return smoothing.by_layer(encode, batches, encoder.grid, mesh)


def _readouts(
    encoder: encoder_lib.Encoder, params: Any, mesh: jax.sharding.Mesh,
    *sets: tuple["datasets.Source", int]
) -> tuple[dict[str, np.ndarray], dict[str, float] | None]:
  """Readouts of the first set [m, d], and the accuracy from first to second.

  The accuracy is that of kNN (k=20) of the mean patch with position embeddings
  as trained, shuffled and zeroed; None without embeddings or labels.
  """
  embeddings = (
      positions.changed(encoder.params[encoder.position_param])
      if encoder.position_param else {})

  @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, P()))
  def extract(params, embeddings, image):
    read = lambda params: jax.tree.map(
        lambda x: x.astype(jnp.float32), encoder_lib.readouts(
            encoder.module.apply({"params": params}, image)))
    found = read(params)
    return found, {"as_trained": found["gap"]} | {
        name: read(params | {encoder.position_param: embedding})["gap"]
        for name, embedding in embeddings.items()}

  results = []
  for source, limit in sets:
    found = []
    for batch in _batches(encoder, mesh, source, limit, BATCH):
      out = extract(params, embeddings, sharding.spread(batch["image"], mesh))
      found.append(jax.tree.map(
          lambda x, valid=batch["valid"]: np.asarray(x)[valid],
          (*out, batch["label"])))
    results.append(jax.tree.map(lambda *x: np.concatenate(x), *found))
  (parts, train, labels), (_, test, test_labels) = results
  readouts = frozen.with_pairs(parts, encoder.readouts)
  if not embeddings or min(labels.min(), test_labels.min()) < 0:
    return readouts, None
  return readouts, {
      name: knn.accuracy(
          train[name], labels, test[name], test_labels, k=20,
          temperature=0.07) for name in train}


def _dense(
    encoder: encoder_lib.Encoder, params: Any, mesh: jax.sharding.Mesh,
    sources: Iterable["datasets.Source"], counts: tuple[int, int]
) -> dict[str, float] | None:
  """The dense probe; None if no patch has a quadrant, or without labels."""
  ids = dense.pick(encoder.grid, DENSE_PATCHES)
  if encoder.image_size % 2 or not len(ids):
    return None
  tokens = jax.jit(
      lambda params, image: encoder.module.apply(
          {"params": params}, image).patches[:, ids].astype(jnp.float32),
      out_shardings=NamedSharding(mesh, P()))
  sets = []
  for source, count in zip(sources, counts):
    small, labels = _shrunk(encoder, mesh, source, count)
    if len(small) < dense.QUADRANTS or labels.min() < 0:
      return None
    mosaics = dense.mosaics(small, labels)
    x = _in_batches(functools.partial(tokens, params), mosaics.images, mesh)
    sets.append((x, dense.patch_labels(mosaics.classes, encoder.grid, ids)))
  (x, labels), (test, test_labels) = sets   # [m, k, d] and [m, k]
  probe = linear.fit(
      x.reshape(-1, x.shape[-1]), labels.ravel(),
      int(max(labels.max(), test_labels.max())) + 1, DENSE_L2)
  guesses = probe.predict(test.reshape(-1, test.shape[-1]))
  return dense.score(guesses.reshape(test_labels.shape), test_labels)


def _shrunk(
    encoder: encoder_lib.Encoder, mesh: jax.sharding.Mesh,
    source: "datasets.Source", mosaics: int
) -> Images:
  """Images at half the side, enough for so many mosaics."""
  found = [
      (dense.shrink(batch["image"][batch["valid"]]),
       batch["label"][batch["valid"]])
      for batch in _batches(
          encoder, mesh, source, dense.QUADRANTS * mosaics, BATCH)]
  return Images(*(np.concatenate(x) for x in zip(*found)))


def _in_batches(
    function: Callable[[jax.Array], jax.Array], images: np.ndarray,
    mesh: jax.sharding.Mesh
) -> np.ndarray:
  """A function of images [b, ...], on any number of them."""
  rows = -(-min(BATCH, len(images)) // mesh.size) * mesh.size
  found = []
  for start in range(0, len(images), rows):
    part = images[start:start + rows]
    padding = [(0, rows - len(part))] + [(0, 0)] * (part.ndim - 1)
    out = function(sharding.spread(np.pad(part, padding), mesh))
    found.append(np.asarray(out)[:len(part)])
  return np.concatenate(found)


def table(section: dict[str, Any]) -> str:
  """The section as text."""
  parts = [_layer_table(section["layers"])]
  if section["positions"]:
    parts.append(_position_table(section["positions"]))
  parts.append("\n".join(
      [f"{'readout':12} {'RankMe':>9} {'spread':>9}"]
      + [f"{row['readout']:12} {row['rankme']:9.1f} "
         f"{row['spread_per_dimension']:9.3f}" for row in section["rank"]]))
  if section["dense"]:
    parts.append(
        "dense probe (2x2 mosaics): {accuracy:.3f} ({low:.3f} .. {high:.3f}), "
        "chance {chance:.3f}".format(**section["dense"]))
  if section["cheat"]:
    parts.append(cheat.table(section["cheat"]))
  return "\n\n".join(parts)


def _layer_table(rows: list[dict[str, Any]]) -> str:
  """One line for each layer."""
  names = {
      "cosine": "cosine", "centred": "cosine_centred",
      "rank": "effective_rank", "image": "image_share",
      "position": "position_share", "residual": "residual_share",
      "entropy": "attention_entropy", "distance": "attention_distance"}
  lines = ["layer" + "".join(f" {name:>8}" for name in names)]
  for row in rows:
    values = (row[key] for key in names.values())
    lines.append(f"{row['layer']:5}" + "".join(
        " " * 9 if x is None else f" {x:8.3f}" for x in values))
  return "\n".join(lines)


def _position_table(found: dict[str, Any]) -> str:
  """What `positions.describe` gives, and the accuracy if there is one."""
  text = (
      "position embeddings: R² of row {r2_row:.3f}, of column "
      "{r2_column:.3f}; nearness {distance_correlation:.3f}").format(**found)
  if found["accuracy"]:
    text += (
        "\nkNN (gap) with embeddings as trained {as_trained:.3f}, shuffled "
        "{shuffled:.3f}, zeroed {zeroed:.3f}"
    ).format(**found["accuracy"])
  return text

"""Why an encoder is good or not: the diagnostics of an evaluation.

Over-smoothing by layer, position embeddings, rank of the readouts and a dense
probe, on clean images through the run's own input transform. Each is a stage;
programs are compiled once for all parameters of an architecture.
"""

import dataclasses
import functools
from typing import Any, Callable, Iterator, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
from etils import epy

from mtvit.diagnostics import positions
from mtvit.diagnostics import rank
from mtvit.diagnostics import smoothing
from mtvit.models import interface
from mtvit.probes import dense
from mtvit.probes import features
from mtvit.probes import knn
from mtvit.probes import linear
from mtvit.probes import subject as subject_lib
from mtvit.training import sharding

with epy.lazy_imports():
  from mtvit.data import datasets
  from mtvit.data import pipeline

BATCH = 256           # Images at most.
# What a device may hold of tokens of all layers and attention at once.
LAYERS_BYTES = 256 * 2**20
RANK_IMAGES = 2048    # Training images at most, evenly spaced, for the ranks.
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
    train: training images whose neighbours vote with changed embeddings.
    test: test images that they vote for.
    mosaics: of training and test images.
  """
  layers: int = 256
  train: int = 1000
  test: int = 1000
  mosaics: tuple[int, int] = (500, 250)


THOROUGH = Sizes(layers=512, train=5000, mosaics=(2000, 500))


def layers(
    subject: subject_lib.Subject, sizes: Sizes = Sizes()
) -> list[dict[str, Any]]:
  """Over-smoothing, one row for each layer."""
  encoder, module = subject.encoder, subject.encoder.module
  gh, gw = encoder.grid
  sequence = len(encoder.token_names) + gh * gw
  of_image = 4 * sequence * (
      (module.depth + 1) * module.width
      + module.depth * module.heads * sequence)             # bytes
  most = max(1, min(BATCH, LAYERS_BYTES // of_image)) * subject.mesh.size

  def batches():
    for batch in _batches(subject, subject.test, sizes.layers, most):
      yield (subject.params, sharding.spread(batch["image"], subject.mesh)), (
          batch["valid"])

  return smoothing.by_layer(
      _tokens_and_attention(module), batches, encoder.grid, subject.mesh)


@functools.cache
def _tokens_and_attention(module: interface.Encoder) -> smoothing.Encode:
  """(params, image) -> what `smoothing` looks at."""
  special = len(module.token_names)

  def encode(inputs):
    params, image = inputs
    found = module.apply(
        {"params": params}, image, layers=True, attention=True)
    return found.layers[:, :, special:], found.attention

  return encode


def places(
    subject: subject_lib.Subject, sizes: Sizes = Sizes()
) -> dict[str, Any] | None:
  """What the position embeddings know, and what is left without them.

  Returns:
    None if there are none. What `positions.describe` does, and `accuracy`: of
    kNN (k=20) of the mean patch with embeddings as trained, shuffled and
    zeroed; None without labels.
  """
  name = subject.encoder.position_param
  if name is None:
    return None
  embedding = subject.encoder.params[name]                  # [n, d]
  extract = features.encoder_extractor(subject.encoder.module, subject.mesh)
  found: dict[str, float] = {}
  for what, other in ({"as_trained": embedding}
                      | positions.changed(embedding)).items():
    (x, labels), (x_test, test_labels) = (
        features.extract(
            subject.params | {name: other},
            _batches(subject, source, limit, features.BATCH), extract,
            subject.mesh)
        for source, limit in ((subject.train, sizes.train),
                              (subject.test, sizes.test)))
    if min(labels.min(), test_labels.min()) < 0:
      break
    found[what] = knn.accuracy(
        x["gap"], labels, x_test["gap"], test_labels, k=20, temperature=0.07)
  return positions.describe(embedding, subject.encoder.grid) | {
      "accuracy": found or None}


def ranks(subject: subject_lib.Subject) -> list[dict[str, Any]]:
  """How many dimensions each readout uses, on training images."""
  split = subject.train_features
  return rank.describe({
      name: x[::-(-len(x) // RANK_IMAGES)]
      for name, x in split.features.items()})


def mosaics(
    subject: subject_lib.Subject, sizes: Sizes = Sizes()
) -> dict[str, float] | None:
  """The dense probe; None if no patch has a quadrant, or without labels."""
  encoder, mesh = subject.encoder, subject.mesh
  ids = dense.pick(encoder.grid, DENSE_PATCHES)
  if encoder.image_size % 2 or not len(ids):
    return None
  tokens = _patches(encoder.module, tuple(ids.tolist()), mesh)
  sets = []
  for source, count in zip((subject.train, subject.test), sizes.mosaics):
    small, labels = _shrunk(subject, source, count)
    if len(small) < dense.QUADRANTS or labels.min() < 0:
      return None
    made = dense.mosaics(small, labels)
    x = _in_batches(
        functools.partial(tokens, subject.params), made.images, mesh)
    sets.append((x, dense.patch_labels(made.classes, encoder.grid, ids)))
  (x, labels), (test, test_labels) = sets   # [m, k, d] and [m, k]
  probe = linear.fit(
      x.reshape(-1, x.shape[-1]), labels.ravel(),
      int(max(labels.max(), test_labels.max())) + 1, DENSE_L2)
  guesses = probe.predict(test.reshape(-1, test.shape[-1]))
  return dense.score(guesses.reshape(test_labels.shape), test_labels)


@functools.cache
def _patches(
    module: interface.Encoder, ids: tuple[int, ...], mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array], jax.Array]:
  """A jitted (params, image [b, s, s, 3]) -> patches `ids`, [b, k, d]."""
  return jax.jit(
      lambda params, image: module.apply(
          {"params": params}, image).patches[:, np.array(ids)].astype(
              jnp.float32),
      out_shardings=NamedSharding(mesh, P()))


def _batches(
    subject: subject_lib.Subject, source: "datasets.Source", limit: int,
    most: int
) -> Iterator[dict[str, np.ndarray]]:
  """Clean images of a source, in batches that the devices divide."""
  encoder, size = subject.encoder, subject.mesh.size
  rows = -(-min(most, limit, source.num_examples) // size) * size
  return pipeline.eval_batches(
      source, encoder.image_size, rows, limit, encoder.gray)


def _shrunk(
    subject: subject_lib.Subject, source: "datasets.Source", count: int
) -> Images:
  """Images at half the side, enough for so many mosaics."""
  found = [
      (dense.shrink(batch["image"][batch["valid"]]),
       batch["label"][batch["valid"]])
      for batch in _batches(
          subject, source, dense.QUADRANTS * count, BATCH)]
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

"""Features on disk, so that a second evaluation extracts nothing.

A file is named by everything that its content depends on: the parameters and
the model, the images, how many, and which layers.
"""

import contextlib
import dataclasses
import re
from typing import Any, Callable, Iterator, Mapping, Sequence, TypeGuard

from etils import epath
from etils import epy
import jax
import numpy as np

from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.data import images
from mtvit.models import interface
from mtvit.probes import features as features_lib
from mtvit.probes import frozen
from mtvit.run import distributed
from mtvit.run import paths

with epy.lazy_imports():
  from mtvit.data import cache_files
  from mtvit.data import datasets
  from mtvit.data import pipeline
  from mtvit.run import console

_VERSION = 1      # Of what features are; another one makes all files anew.
_MOST = 24        # Files in a folder; an evaluation makes six.
_OURS = re.compile(r"[0-9a-f]{24}\.mtvit")


class Extractor:
  """Features of an encoder, from the cache or computed on the mesh."""

  def __init__(
      self, encoder: encoder_lib.Encoder, params: interface.Params,
      mesh: jax.sharding.Mesh, folder: epath.Path,
      say: Callable[[str], None] = print
  ):
    """Binds what does not change.

    Args:
      encoder: whose features.
      params: its parameters, on the mesh.
      mesh: to compute on.
      folder: of the cache; all processes see it, the first one writes.
      say: told what was in the cache.
    """
    self._encoder = encoder
    self._mesh = mesh
    self._folder = folder
    self._say = say
    self._params = params
    self._about = {
        "version": _VERSION, "decoder": images.VERSION,
        "params": fingerprint.of_arrays(encoder.params), "step": encoder.step,
        "model": dataclasses.asdict(encoder.model), "gray": encoder.gray,
        "tokens": encoder.token_names,
        "position_policy": encoder.module.position_policy}

  def __call__(
      self, source: "datasets.Source", limit: int,
      layers: Sequence[int] | None = None
  ) -> frozen.Split:
    """Features and labels of a split, of tokens and of "gap".

    Args:
      source: the split.
      limit: so many of its images, evenly spaced; 0 takes all.
      layers: k of them, for readouts [k, n, d]; None for the last, [n, d].

    Raises:
      NonFiniteError: features are not finite.
    """
    count = min(limit or source.num_examples, source.num_examples)
    file = self._folder / (fingerprint.of_json(self._about | {
        "source": [source.name, source.fingerprint], "count": count,
        "layers": layers})[:24] + cache_files.SUFFIX)
    what = f"features of {count:,} images of {source.name}"
    shape = ((len(layers),) if layers else ()) + (
        count, self._encoder.module.width)
    split = _load(file, (*self._encoder.token_names, "gap"), shape)
    if _all_have(split):
      self._say(f"{what}: read from {file}")
      return split
    split = self._extract(source, count, layers, what)
    if any(not np.isfinite(x).all() for x in split.features.values()):
      raise errors.NonFiniteError(
          f"{self._encoder.name}: {what} are not finite",
          "evaluate an earlier checkpoint, --step=N")
    # With others in the place of bad images they hold for this once.
    if distributed.is_main() and not source.bad:
      _save(file, split)
    return split

  def _extract(
      self, source: "datasets.Source", count: int,
      layers: Sequence[int] | None, what: str
  ) -> frozen.Split:
    encoder = self._encoder
    extractor = features_lib.encoder_extractor(
        encoder.module, self._mesh, None if layers is None else tuple(layers))
    batches = pipeline.eval_batches(
        source, encoder.image_size,
        features_lib.batch_size(count, self._mesh), count, encoder.gray)
    return frozen.Split(*features_lib.extract(
        self._params, _watched(batches, what, count), extractor, self._mesh))


def _watched(
    batches: Iterator[Mapping[str, Any]], what: str, count: int
) -> Iterator[Mapping[str, Any]]:
  """The batches, with a line now and then if they take long."""
  done, progress = 0, console.Progress(what, count)
  for batch in batches:
    yield batch
    done += int(batch["valid"].sum())
    if distributed.is_main():
      progress.update(done)


def _all_have(split: frozen.Split | None) -> TypeGuard[frozen.Split]:
  """Whether every process has it; they extract together or not at all."""
  if jax.process_count() == 1:
    return split is not None
  return all(distributed.gather(split is not None))


def _save(file: epath.Path, split: frozen.Split) -> None:
  arrays = {f"feature_{name}": x for name, x in split.features.items()}
  try:
    with paths.on_disk(file.parent) as folder:
      saved = cache_files.save(
          folder / file.name, arrays | {"labels": split.labels})
    if saved:
      with contextlib.suppress(OSError):       # Others evaluate as well.
        _remove_oldest(epath.Path(file.parent))
  except OSError as e:
    console.note(
        f"{file} can't be written ({e.strerror}); it will be made anew")


def _remove_oldest(folder: epath.Path) -> None:
  """Removes features that were kept longest ago, of more than `_MOST` files."""
  with paths.os_errors(folder):
    files = [file for file in folder.iterdir() if _OURS.fullmatch(file.name)]
    files.sort(key=lambda file: file.stat().mtime, reverse=True)
    for file in files[_MOST:]:
      file.unlink(missing_ok=True)


def _load(
    file: epath.Path, readouts: Sequence[str], shape: tuple[int, ...]
) -> frozen.Split | None:
  """What is cached, if it is what was asked for."""
  wanted = {f"feature_{name}": (np.float32, shape) for name in readouts}
  found = cache_files.load(
      file, wanted | {"labels": (np.int32, shape[-2:-1])})
  if found is None:
    return None
  return frozen.Split(
      {name: found[f"feature_{name}"] for name in readouts}, found["labels"])

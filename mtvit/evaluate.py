"""Says what a trained encoder has learned, on any labelled data set.

  mtvit evaluate --workdir=runs/my_run
  mtvit evaluate --workdir=runs/my_run --step=400 --data=folder:PATH

Weighted kNN, a linear probe and few-shot classification of frozen features, for
every readout of the encoder, and kNN and linear by layer. The readout and the
regularisation are chosen on a tenth of the training split; the test split is
seen once. Then what is inside: layers, position embeddings, ranks, mosaics, the
cheat index. Prints tables, and writes evaluation/<data set>/evaluation.json and
pictures into the work directory. The features are kept beside it.
"""

import dataclasses
import importlib.metadata
import time
from typing import Any, NamedTuple

from absl import flags
import jax
import numpy as np

from mtvit import config as config_lib
from mtvit import errors
from mtvit.diagnostics import cheat
from mtvit.diagnostics import measures
from mtvit.pictures import evaluation as evaluation_pictures
from mtvit.pictures import tensorboard
from mtvit.probes import feature_cache
from mtvit.probes import frozen
from mtvit.probes import target as target_lib
from mtvit.run import distributed
from mtvit.run import entry
from mtvit.run import paths
from mtvit.run import results
from mtvit.training import run_data
from mtvit.training import sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(target_lib.Choice):
  """What is evaluated and how: the flags of these names."""
  layer: int | None = None
  num_train: int = 0
  num_test: int = 0
  layer_images: int = 5000
  draws: int = 5
  diagnostics: bool = True
  cheat_steps: int = 60
  shuffle_labels: bool = False


def _define_flags() -> None:
  # Not on import: other programs have flags of the same names.
  flags.DEFINE_string(
      "workdir", None, "Of the run; or one of its checkpoints, or a "
      ".safetensors or .npz file of weights.")
  flags.DEFINE_integer(
      "step", None, "Which checkpoint; default the newest.", lower_bound=0)
  flags.DEFINE_string(
      "data", "", "photo_crops, folder:PATH or a TFDS name; default the run's.")
  flags.DEFINE_string(
      "train_split", "", "Default the run's, or train with --data.")
  flags.DEFINE_string(
      "test_split", "", "Default the run's, or test with --data.")
  flags.DEFINE_string(
      "data_dir", "", "Where TFDS keeps its data; default the run's.")
  flags.DEFINE_string(
      "cache_dir", "", "Where decoded images and lists of files are kept; "
      "default $MTVIT_CACHE_DIR or ~/.cache/mtvit, whatever the run's.")
  flags.DEFINE_integer(
      "layer", None, "Whose features are tested, 0 is the input of the first "
      "block; default the last.", lower_bound=0)
  flags.DEFINE_integer(
      "num_train", 0, "Training images, evenly spaced; 0 for all.",
      lower_bound=0)
  flags.DEFINE_integer(
      "num_test", 0, "Test images, evenly spaced; 0 for all.", lower_bound=0)
  flags.DEFINE_integer(
      "layer_images", 5000, "Training images for the probes by layer, and a "
      "fifth more to validate them; 0 leaves these out.", lower_bound=0)
  flags.DEFINE_integer(
      "draws", 5, "Draws of the few-shot images.", lower_bound=2)
  flags.DEFINE_bool(
      "diagnostics", True, "Look inside too: layers, positions, ranks, "
      "mosaics.")
  flags.DEFINE_integer(
      "cheat_steps", 60, "Steps to refit each head for the cheat index; 0 "
      "leaves it out. mtvit cheat_index takes more.", lower_bound=0)
  flags.DEFINE_bool(
      "shuffle_labels", False, "Permute the training labels: expect chance.")
  flags.DEFINE_bool(
      "random_init", False, "Evaluate the architecture with random "
      "parameters.")


def main() -> None:
  """The command line."""
  distributed.initialize()
  workdir = flags.FLAGS["workdir"].value
  if not workdir:
    raise errors.ConfigError("--workdir is missing", "--workdir=runs/NAME")
  given: dict[str, Any] = {
      field.name: flags.FLAGS[field.name].value
      for field in dataclasses.fields(Options)}
  evaluate(paths.parse(workdir), Options(**given))


def evaluate(path: paths.Given, options: Options) -> dict[str, Any]:
  """Evaluates one encoder on one data set.

  Args:
    path: the work directory of a run, one of its checkpoints, or a file of
      weights.
    options: see there.

  Returns:
    What `evaluation.json` holds.

  Raises:
    UserError: see `errors` for the kinds.
  """
  # ---- The encoder, and data with labels
  began, path = time.time(), paths.parse(path)
  target = distributed.fail_together(lambda: target_lib.open_target(
      path, options))
  return evaluate_target(target, options, began)


def evaluate_target(
    target: target_lib.Target, options: Options, began: float | None = None
) -> dict[str, Any]:
  """The same of what is in memory; `began` is when, in seconds."""
  began = began or time.time()
  depth = target.encoder.module.depth
  if options.layer is not None and options.layer > depth:
    raise errors.ConfigError(
        f"--layer={options.layer}", f"there are 0, the input, to {depth}")
  distributed.check_same(
      {"step": target.encoder.step} | {
          split: getattr(target, split).fingerprint for split in (
              "train", "test")}, "evaluation data", run_data.ALIKE)
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  with jax.set_mesh(mesh):
    # ---- Probes: features once, then kNN, linear, few-shot, and by layer
    splits = _features(target, mesh, options)
    evaluation = _describe(target, splits)
    evaluation["probes"] = _probe(target, splits, options)
    _say(frozen.table(evaluation["probes"]))

    # ---- Diagnostics: layers, positions, ranks, mosaics, the cheat index
    file = target.folder / f"{_stem(target, options)}.json"
    # What took hours, for large data; it says what is still to come.
    results.save_sealed(file, evaluation | {
        "seconds": time.time() - began,
        "unfinished": "diagnostics and pictures"})
    if file.stem == "evaluation" and distributed.is_main():
      evaluation_pictures.remove_pictures(target.folder)
    if options.diagnostics:
      evaluation["diagnostics"] = measures.diagnose(
          target.encoder, mesh, target.train, target.test,
          cheat_rows=[] if options.random_init else cheat.of_run(
              target.run, target.train, target.test, options.cheat_steps))
      _say("\n" + measures.table(evaluation["diagnostics"]))

  # ---- Pictures, TensorBoard, and evaluation.json as a whole
  evaluation["seconds"] = time.time() - began
  if file.stem == "evaluation" and distributed.is_main():
    _draw(target, splits, evaluation)
  results.save_sealed(file, evaluation)
  _say(f"\n{evaluation['seconds']:.0f} s: {file}")
  return evaluation


class _Splits(NamedTuple):
  """Features and labels that the probes need.

  Attributes:
    train: of the training split.
    test: of the test split.
    layers: of every layer, of some training images; None if left out.
  """
  train: frozen.Split
  test: frozen.Split
  layers: frozen.Split | None


def _features(
    target: target_lib.Target, mesh: jax.sharding.Mesh, options: Options
) -> _Splits:
  """Features of both splits, and those of all layers.

  Raises:
    DataError: images have no label, or no class has two.
  """
  cached = feature_cache.Extractor(
      target.encoder, mesh, target.root / "features", _say)

  def extract(*args):
    split = cached(*args)
    return frozen.Split(
        frozen.with_pairs(split.features, target.encoder.readouts),
        split.labels)

  depth, splits = target.encoder.module.depth, []
  layers = None if options.layer in (None, depth) else [options.layer]
  for source, limit in (
      (target.train, options.num_train), (target.test, options.num_test)):
    split = extract(source, limit, layers)
    if split.labels.min() < 0:
      raise errors.DataError(
          f"{source.name} has images without a label", "use another split")
    if layers:
      split = frozen.Split(
          {name: x[0] for name, x in split.features.items()}, split.labels)
    splits.append(split)
  train, test = splits
  if not frozen.validation(train.labels).any():
    raise errors.DataError(
        f"{target.train.name}: no class has two training images, and none can "
        "be kept for validation", "use more images")
  # Five sixths to fit, one to validate.
  count = options.layer_images + options.layer_images // 5
  if not count:
    return _Splits(train, test, None)
  count = min(options.num_train or count, count)
  layers_split = extract(target.train, count, list(range(depth + 1)))
  return _Splits(train, test, layers_split)


def _probe(
    target: target_lib.Target, splits: _Splits, options: Options
) -> dict[str, Any]:
  """The evaluation's section `probes`."""

  def labelled(split):
    if not options.shuffle_labels:
      return split
    return frozen.Split(split.features, np.random.default_rng(0).permutation(
        split.labels))

  depth, num_classes = target.encoder.module.depth, len(target.train.classes)
  found = frozen.probe(
      labelled(splits.train), splits.test,
      depth if options.layer is None else options.layer, num_classes,
      options.draws)
  rows = [] if splits.layers is None else frozen.by_layer(
      labelled(splits.layers), list(range(depth + 1)), num_classes,
      share=1 / 6)
  return found | {"layers": rows}


def _draw(
    target: target_lib.Target, splits: _Splits, evaluation: dict[str, Any]
) -> None:
  """Writes the pictures of an evaluation, and all of it to TensorBoard."""
  drawn = []
  with paths.on_disk(target.folder) as folder:
    if "diagnostics" in evaluation:
      drawn = evaluation_pictures.save_pictures(
          target.encoder, target.train, target.test,
          (splits.train, splits.test), evaluation, folder)
    tensorboard.write(
        target.events, target.encoder.step, target.folder.name, evaluation,
        drawn)


def _describe(target: target_lib.Target, splits: _Splits) -> dict[str, Any]:
  """What is evaluated, as the head of evaluation.json."""
  num_val = int(frozen.validation(splits.train.labels).sum())
  data = {key: getattr(target.data, key) for key in (
      "name", "train_split", "test_split")}
  return {
      "run": target.encoder.name, "step": target.encoder.step,
      "data": data | {
          "num_train": len(splits.train.labels) - num_val, "num_val": num_val,
          "num_test": len(splits.test.labels),
          "classes": list(target.train.classes)},
      "seconds": 0.0,
      "versions": {name: importlib.metadata.version(name)
                   for name in ("jax", "flax", "numpy", "scipy")}}


def _stem(target: target_lib.Target, options: Options) -> str:
  """Of the JSON file; only the newest checkpoint's is plain "evaluation"."""
  stem = "evaluation"
  if options.shuffle_labels:
    stem += "_shuffled"
  if options.random_init:
    stem += "_random_init"
  for name in ("num_train", "num_test"):
    if getattr(options, name):
      stem += f"_{name}{getattr(options, name)}"
  if options.layer is not None:
    stem += f"_layer{options.layer}"
  if options.step is not None or target.single:
    stem += f"_step{target.encoder.step}"
  return stem


def _say(text: str) -> None:
  """Prints on the first process."""
  if distributed.is_main():
    print(text, flush=True)


if __name__ == "__main__":
  distributed.define_flags()
  _define_flags()
  entry.run(main)

"""Says what a trained encoder has learned, on any data set.

  mtvit evaluate --workdir=runs/my_run
  mtvit evaluate --workdir=runs/my_run --step=400 --data=folder:PATH

Weighted kNN, a linear probe and few-shot classification of frozen features, for
every readout of the encoder, and kNN and linear by layer. The readout and the
regularisation are chosen on a tenth of the training split; the test split is
seen once. Then what is inside: layers, position embeddings, ranks, mosaics and,
with --thorough, the cheat index. Without labels the probes make way for
retrieval: how often a view finds the other view of its image. All of it beside
random init: the same architecture with the run's own first parameters. Prints
tables, and writes evaluation/<data set>/evaluation.json and pictures into the
work directory.
"""

import contextlib
import dataclasses
import importlib.metadata
import pathlib
import tempfile
import time
from typing import Any, Mapping

from absl import flags
from etils import epath
import jax

from mtvit import config as config_lib
from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.diagnostics import stages as stages_lib
from mtvit.diagnostics import tables as diagnostics_tables
from mtvit.pictures import evaluation as evaluation_pictures
from mtvit.pictures import tensorboard
from mtvit.probes import frozen
from mtvit.probes import options as options_lib
from mtvit.probes import subject as subject_lib
from mtvit.probes import tables
from mtvit.probes import target as target_lib
from mtvit.probes import verdict
from mtvit.run import console
from mtvit.run import distributed
from mtvit.run import entry
from mtvit.run import paths
from mtvit.run import reading
from mtvit.run import results
from mtvit.training import run_data
from mtvit.training import sharding

Options = options_lib.Options
UNLABELLED_IMAGES = 5000     # For training, at most, where there are no labels.


def main() -> None:
  """The command line."""
  distributed.initialize()
  workdir = flags.FLAGS["workdir"].value
  if not workdir:
    raise errors.ConfigError("--workdir is missing", "--workdir=runs/NAME")
  evaluate(paths.parse(workdir), options_lib.given())


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
  began, path = time.time(), paths.parse(path)
  target = distributed.fail_together(lambda: target_lib.open_target(
      path, options))
  return evaluate_target(target, options, began)


def evaluate_target(
    target: target_lib.Target, options: Options, began: float | None = None
) -> dict[str, Any]:
  """The same of what is in memory; `began` is when, in seconds."""
  # ---- The encoder and random init, and their features
  began, options = began or time.time(), options.settled()
  _check(target, options)
  file = target.folder / f"{_stem(target, options)}.json"
  about = _fingerprint(target, options)
  earlier = _thorough(file, about)
  stages = stages_lib.of(target, options, earlier)
  progress = _Progress(began, 2 + len(stages))
  progress.next("features")
  trained, at_random = _subjects(target, options)
  with jax.set_mesh(trained.mesh):
    evaluation = _describe(target, trained) | {
        "fingerprint": about,
        "thorough": options.thorough or bool(earlier),
        "probes": frozen.nothing(),
        "random_init": {"probes": frozen.nothing()}}
    at_random.extract()

    # ---- Every stage of both; the first one answers whether it is good
    for i, stage in enumerate(stages):
      progress.next(stage.name)
      stages_lib.run(stage, trained, at_random, evaluation, earlier)
      if not i:
        _answer(evaluation)
      # What took hours, for large data; it says what is still to come.
      evaluation["seconds"] = time.time() - began
      left = [stage.name for stage in stages[i + 1:]]
      results.save_sealed(file, evaluation | {
          "unfinished": ", ".join([*left, "pictures"])})
      if not i and file.stem == "evaluation" and distributed.is_main():
        evaluation_pictures.remove_pictures(target.folder)

  # ---- Tables, pictures, TensorBoard, and evaluation.json as a whole
  progress.next("pictures")
  if distributed.is_main() and file.stem in (
      "evaluation", f"evaluation_step{target.encoder.step}"):
    _draw(target, trained, evaluation, file)
  evaluation["seconds"] = time.time() - began
  results.save_sealed(file, evaluation)
  _say(_tables(evaluation))
  _say(f"\n{evaluation['seconds']:.0f} s: {file}")
  return evaluation


class _Progress:
  """A line for each stage when it begins, on stderr."""

  def __init__(self, began: float, total: int):
    self._began, self._total, self._done = began, total, 0

  def next(self, name: str) -> None:
    """Says that the next stage begins."""
    self._done += 1
    if distributed.is_main():
      console.note(f"[{self._done}/{self._total}, after "
                   f"{time.time() - self._began:.0f} s] {name}")


def _check(target: target_lib.Target, options: Options) -> None:
  """Raises ConfigError for no such layer, or if processes have other data."""
  depth = target.encoder.module.depth
  if options.layer is not None and options.layer > depth:
    raise errors.ConfigError(
        f"--layer={options.layer}", f"there are 0, the input, to {depth}")
  distributed.check_same(
      {"step": target.encoder.step} | {
          split: getattr(target, split).fingerprint for split in (
              "train", "test")}, "evaluation data", run_data.ALIKE)


def _subjects(
    target: target_lib.Target, options: Options
) -> tuple[subject_lib.Subject, subject_lib.Subject]:
  """The encoder that was trained, and random init."""
  mesh = sharding.create_mesh(config_lib.Mesh(data=-1, fsdp=1, tensor=1))
  if not target.labelled:
    console.note(
        f"{target.train.name} has "
        + ("one class" if target.train.classes else "no labels")
        + ": without probes; --data=folder:PATH, or a TFDS name, that has "
        "labels brings them")
    # Ranks and neighbours need no more.
    options = dataclasses.replace(
        options, num_train=options.num_train or UNLABELLED_IMAGES)
  trained, at_random = (
      subject_lib.Subject(
          encoder=encoder, mesh=mesh, train=target.train, test=target.test,
          folder=target.root / "features", options=options)
      for encoder in (target.encoder, target.random_init()))
  return trained, at_random


def _fingerprint(target: target_lib.Target, options: Options) -> str:
  """Of all that an evaluation's numbers are about."""
  return fingerprint.of_json([
      fingerprint.of_arrays(target.encoder.params), target.train.fingerprint,
      target.test.fingerprint, options.layer, options.num_train,
      options.num_test, options.shuffle_labels])


def _thorough(file: epath.Path, about: str) -> Mapping[str, Any]:
  """An earlier evaluation of the same that was thorough; else nothing."""
  try:
    found = reading.read_json(file)
  except (FileNotFoundError, reading.Unusable):
    return {}
  same = isinstance(found, dict) and found.get("fingerprint") == about
  return found if same and found.get("thorough") else {}


def _answer(evaluation: Mapping[str, Any]) -> None:
  """Says whether the encoder is good, on what, and what to beware of."""
  warning = verdict.warning(evaluation)
  _say("\n".join([
      verdict.headline(evaluation), verdict.sets(evaluation),
      *([f"warning: {warning}"] if warning else []), ""]))


def _tables(evaluation: Mapping[str, Any]) -> str:
  """All figures, beside those of random init."""
  at_random = evaluation["random_init"]
  parts = []
  if evaluation.get("retrieval"):
    parts.append(tables.retrieval(
        evaluation["retrieval"], at_random["retrieval"]))
  if evaluation["probes"]["test"]:
    parts.append(tables.table(evaluation["probes"], at_random["probes"]))
  if "diagnostics" in evaluation:
    parts.append(diagnostics_tables.table(
        evaluation["diagnostics"], at_random["diagnostics"]))
  return "\n\n".join(parts)


def _draw(
    target: target_lib.Target, trained: subject_lib.Subject,
    evaluation: Mapping[str, Any], file: epath.Path
) -> None:
  """Writes the pictures, and all of it to TensorBoard at the step.

  The pictures of a step that was asked for go to TensorBoard alone: the folder
  has those of the newest.
  """
  drawn = []
  place: contextlib.AbstractContextManager[str | pathlib.Path] = (
      paths.on_disk(target.folder) if file.stem == "evaluation"
      else tempfile.TemporaryDirectory())
  with place as folder:
    if "diagnostics" in evaluation:
      drawn = evaluation_pictures.save_pictures(trained, evaluation, folder)
    tensorboard.write(
        target.events, target.encoder.step, target.folder.name, evaluation,
        drawn)


def _describe(
    target: target_lib.Target, subject: subject_lib.Subject
) -> dict[str, Any]:
  """What is evaluated, as the head of evaluation.json."""
  subject.extract()
  num_train = len(subject.train_features.labels)
  num_val = 0
  if target.labelled:
    subject_lib.check_labels(subject)
    num_val = int(frozen.validation(subject.train_features.labels).sum())
  data = {key: getattr(target.data, key) for key in (
      "name", "train_split", "test_split")}
  return {
      "run": target.encoder.name, "step": target.encoder.step,
      "data": data | {
          "num_train": num_train - num_val, "num_val": num_val,
          "num_test": len(subject.test_features.labels),
          "classes": list(target.train.classes)},
      "seconds": 0.0,
      "versions": {name: importlib.metadata.version(name)
                   for name in ("jax", "flax", "numpy", "scipy")}}


def _stem(target: target_lib.Target, options: Options) -> str:
  """Of the JSON file; only the newest checkpoint's is plain "evaluation"."""
  stem = "evaluation"
  if options.shuffle_labels:
    stem += "_shuffled"
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
  options_lib.define_flags()
  flags.adopt_module_key_flags(options_lib)      # So that --help shows them.
  entry.run(main)

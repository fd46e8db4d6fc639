"""What an evaluation measures, stage by stage."""

import functools
from typing import Any, Callable, Mapping

from mtvit.diagnostics import cheat
from mtvit.diagnostics import measures
from mtvit.probes import features
from mtvit.probes import frozen
from mtvit.probes import options as options_lib
from mtvit.probes import retrieval
from mtvit.probes import subject as subject_lib
from mtvit.probes import target as target_lib

Stage = subject_lib.Stage
Subject = subject_lib.Subject
_CHEAT = ("diagnostics", "cheat")


def of(
    target: target_lib.Target, options: options_lib.Options,
    earlier: Mapping[str, Any]
) -> list[Stage]:
  """The stages, in the order in which they run.

  Args:
    target: what is evaluated.
    options: settled.
    earlier: an evaluation of the same that was thorough, or nothing.
  """
  sizes = measures.THOROUGH if options.thorough else measures.Sizes()
  stages = [Stage("kNN, linear probe, few labels", ("probes",), _probes,
                  needs_labels=True)]
  if options.layer_images:
    stages.append(Stage(
        "kNN and linear probe by layer", ("probes", "layers"), _by_layer,
        needs_labels=True, deepened=True))
  if not target.labelled:
    stages.insert(0, Stage(
        "retrieval", ("retrieval",), _retrieval(target)))
  if options.diagnostics:
    stages += [
        Stage("rank and spread of features", ("diagnostics", "rank"),
              measures.ranks),
        Stage("tokens by layer", ("diagnostics", "layers"),
              lambda subject: measures.layers(subject, sizes), deepened=True),
        Stage("position embeddings", ("diagnostics", "positions"),
              lambda subject: measures.places(subject, sizes), deepened=True),
        Stage("mosaics", ("diagnostics", "dense"),
              lambda subject: measures.mosaics(subject, sizes),
              needs_labels=True, deepened=True)]
    if options.cheat_steps or get(earlier, _CHEAT):
      stages.append(Stage(
          "cheat index", _CHEAT, lambda subject: cheat.of_run(
              target.run, subject.train, subject.test,
              options.cheat_steps or 0), compared=False, deepened=True))
  return [stage for stage in stages
          if target.labelled or not stage.needs_labels]


def run(
    stage: Stage, trained: Subject, at_random: Subject,
    evaluation: dict[str, Any], earlier: Mapping[str, Any]
) -> None:
  """Runs a stage, or takes over what a thorough one has found earlier.

  Args:
    stage: to run.
    trained: the encoder.
    at_random: random init.
    evaluation: what is found goes there.
    earlier: see `of`.
  """
  pairs = [(trained, evaluation, earlier)]
  if stage.compared:
    pairs.append((at_random, evaluation.setdefault("random_init", {}),
                  earlier.get("random_init") or {}))
  for subject, found, before in pairs:
    value = get(before, stage.place) if stage.deepened else None
    _put(found, stage.place, stage.run(subject) if value is None else value)


def get(found: Mapping[str, Any], place: tuple[str, ...]) -> Any:
  """What stands under these keys, or None."""
  value: Any = found
  for key in place:
    value = value.get(key) if isinstance(value, Mapping) else None
  return value


def _put(
    found: dict[str, Any], place: tuple[str, ...], value: Any
) -> None:
  for key in place[:-1]:
    found = found.setdefault(key, {})
  found[place[-1]] = value


def _probes(subject: Subject) -> dict[str, Any]:
  return frozen.probe(
      subject.train_features, subject.test_features, subject.layer,
      len(subject.train.classes), subject.options.draws) | {"layers": []}


def _retrieval(
    target: target_lib.Target
) -> Callable[[Subject], list[dict[str, Any]]]:
  """Finds how many test views find the other one, the chosen readout first."""
  @functools.cache
  def views(mesh):
    return retrieval.Views(target.config, target.test, mesh)

  def measure(subject):
    encoder, chosen = subject.encoder, target.config.knn.readout
    found, labels = features.extract(
        subject.params, views(subject.mesh).batches(),
        features.encoder_extractor(encoder.module, subject.mesh), subject.mesh)
    readouts = sorted(encoder.readouts, key=lambda name: name != chosen)
    shares = retrieval.scores(frozen.with_pairs(found, readouts))
    return [{"readout": name, "images": len(labels) // 2, "share": share}
            for name, share in shares.items()]

  return measure


def _by_layer(subject: Subject) -> list[frozen.Row]:
  return frozen.by_layer(
      subject.layer_features(), list(range(subject.encoder.module.depth + 1)),
      len(subject.train.classes), share=1 / 6)

"""What the model card of an export tells of the run."""

from typing import Any, Mapping

from etils import epath

from mtvit import errors
from mtvit.interchange import card
from mtvit.probes import verdict
from mtvit.report import encoder as encoder_lib
from mtvit.report import formats
from mtvit.report import runs

_INTERVALS = (
    "Test accuracy of classifiers on frozen features, with 95 % intervals. "
    "What is read was chosen on validation images. Random init is the same "
    "architecture before training.")


def story(
    folder: epath.Path, step: int, meta: Mapping[str, Any]
) -> card.Story:
  """What is known of a run at one of its checkpoints.

  Args:
    folder: of the run; what is not there, or damaged, is left out.
    step: of the checkpoint.
    meta: of the checkpoint.
  """
  told = card.Story(config=meta["config"], data=meta["data"])
  try:
    run = runs.read(folder, folder.name)
  except errors.ConfigError:         # A checkpoint that was copied alone.
    return told
  before: dict[str, float] = {}
  for line in run.lines:
    if line["step"] <= step:
      before |= line
  if run.score("steps") == step:
    before |= {key: value for key in run.result
               if (value := run.score(key)) is not None}
  skills = {key.removesuffix("/skill"): value for key, value in before.items()
            if key.endswith("/skill")}
  results = [part for evaluation in run.evaluations
             if evaluation.values["step"] == step
             for part in _evaluated(evaluation)]
  if not results and run.score("steps") == step:
    results = _at_the_end(run)
  return card.Story(
      config=meta["config"], data=meta["data"], skills=skills, results=results)


def _evaluated(evaluation: runs.Evaluation) -> list[str]:
  """One evaluation: on what, and a table."""
  data, rows = evaluation.values["data"], []
  for probe in encoder_lib.HEADLINES:
    row = verdict.chosen_row(evaluation.values, probe)
    if row:
      rows.append([
          encoder_lib.probe_title(probe), row["readout"], _interval(row),
          _interval(verdict.chosen_row(
              evaluation.random_init, probe))])
  classes = len(data["classes"])
  return [
      f"On {card.code(card.public(data['name']))}, split "
      f"{card.code(data['test_split'])}: {data['num_test']:,} images of "
      f"{classes} classes (guessing: {formats.percent(1 / max(1, classes))}), "
      f"with {data['num_train'] + data['num_val']:,} labelled images of the "
      f"split {card.code(data['train_split'])}.",
      card.table(["classifier", "reads", "accuracy", "random init"], rows),
      _INTERVALS]


def _interval(row: Mapping[str, Any] | None) -> str:
  """45.1 % (44.0 to 46.2)."""
  if row is None:
    return formats.NONE
  text = formats.percent(row["accuracy"])
  if row.get("low") is None or row.get("high") is None:
    return text
  return f"{text} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def _at_the_end(run: runs.Run) -> list[str]:
  """What the run itself measured at its end, beside random init."""
  end = "_random_init"
  rows = [[card.code(key.removesuffix(end)),
           *(formats.number(run.score(x)) for x in (key.removesuffix(end),
                                                    key))]
          for key in run.result if key.endswith(end)
          and run.score(key) is not None]
  if not rows:
    return []
  return ["What the run itself measured at its end, without intervals "
          "(`mtvit evaluate` gives them):", card.table(
              ["measure", "trained", "random init"], rows)]

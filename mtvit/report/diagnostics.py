"""The report's sections on the insides of the encoder: layers, positions."""

from typing import Any, Mapping, Sequence

from mtvit.pictures import plots
from mtvit.report import encoder
from mtvit.report import figures
from mtvit.report import formats
from mtvit.report import markup
from mtvit.report import page
from mtvit.report import runs as runs_lib


def layers(book: runs_lib.Book) -> page.Section:
  """Over-smoothing, and accuracy, by layer."""
  parts = []
  for i, (data, pairs) in enumerate(book.by_data().items()):
    names = [encoder.name_of(run, evaluation, pairs)
             for run, evaluation in pairs]
    found = [list(evaluation.diagnostics.get("layers") or ())
             for _, evaluation in pairs]
    at_random = [list(evaluation.random_diagnostics.get("layers") or ())
                 for _, evaluation in pairs]
    parts.append(markup.tag("h3", f"On {data}"))
    if any(found):
      parts += [
          markup.tag("p", "Layer 0 is the embedded image, the last is the "
                     "encoder's output; dashed: random init."),
          figures.grid(book, f"layers_{i + 1}", plots.layer_panels(
              found + at_random), names, "layer")]
    else:
      parts.append(markup.missing(
          "This evaluation has no diagnostics of layers",
          pairs[0][0].command("evaluate")))
    panels = probe_panels([evaluation for _, evaluation in pairs])
    if panels:
      parts += [
          markup.tag("p", "Accuracy on validation images of what is read at "
                     "each layer; dashed: random init."),
          figures.grid(
              book, f"layer_probes_{i + 1}", panels, names, "layer")]
    parts += [markup.fold(f"The numbers of {name}{of}", _layer_table(rows))
              for of, every in (("", found), (", random init", at_random))
              for name, rows in zip(names, every) if rows]
  return page.Section(
      name="layers", title="Layer by layer", lead=(
          "Do the patches of an image keep apart? If their cosine rises to 1 "
          "and the residual share (what is neither common to the image nor to "
          "the place) falls to 0, the layers smooth everything over. Entropy 1 "
          "is attention to everything alike; distance says how far, in "
          "patches, a patch looks."),
      body=markup.join(parts + encoder.not_evaluated(book)))


def probe_panels(
    evaluations: Sequence[runs_lib.Evaluation]
) -> list[plots.Panel]:
  """Plots of validation accuracy by layer; see `figures.grid`."""
  panels: dict[str, dict[int, list[tuple[int, float]]]] = {}
  every = [*(x.values for x in evaluations),
           *(x.random_init or {} for x in evaluations)]
  for i, values in enumerate(every):
    for row in (values.get("probes") or {}).get("layers") or ():
      title = f"{encoder.probe_title(row['probe'])} of {row['readout']}"
      panels.setdefault(title, {}).setdefault(i, []).append(
          (row["layer"], row["val_accuracy"]))
  return [(title, {i: sorted(points) for i, points in series.items()})
          for title, series in sorted(panels.items())]


def _layer_table(rows: Sequence[Mapping[str, Any]]) -> markup.Html:
  return markup.table(
      ["layer", *plots.MEASURES.values()],
      [[row["layer"], *(formats.number(row.get(key)) for key in plots.MEASURES)]
       for row in rows])


def positions(book: runs_lib.Book) -> page.Section:
  """What the position embeddings know."""
  return encoder.pictures_of(book, encoder.Gallery(
      name="positions", title="Position embeddings",
      lead="Each small map belongs to a patch (the dot) and shows how similar "
      "its position embedding is to those of all other places: red is alike. "
      "R² says how well row and column can be read off an embedding (1: "
      "exactly, 0 or less: not at all). If shuffling or blanking the "
      "embeddings costs no accuracy, the encoder does not use them.",
      alt="Similarity maps of the position embeddings", more=_position_table,
      expected=lambda evaluation: (
          evaluation.diagnostics.get("positions") is not None)))


def _position_table(evaluation: runs_lib.Evaluation) -> markup.Html:
  found = evaluation.diagnostics.get("positions")
  if found is None:
    if evaluation.diagnostics:
      return markup.tag("p", "This encoder has no position embeddings.")
    return markup.missing("This evaluation has no diagnostics")
  other = evaluation.random_diagnostics.get("positions")
  rows = []
  for title, values in (("trained", found), ("random init", other)):
    if values is not None:
      accuracy = values.get("accuracy") or {}
      rows.append([title, *(formats.number(values[key]) for key in (
          "r2_row", "r2_column", "distance_correlation")), *(
              formats.percent(accuracy.get(key))
              for key in ("as_trained", "shuffled", "zeroed"))])
  return markup.table(
      ["", "R² row", "R² column", "correlation with nearness", "kNN as it is",
       "embeddings shuffled", "embeddings blank"], rows)


def rank(book: runs_lib.Book) -> page.Section:
  """Collapse, and what single patches know."""
  parts = []
  pairs = book.evaluated()
  for run, evaluation in pairs:
    found = evaluation.diagnostics
    if len(pairs) > 1:
      parts.append(markup.tag("h3", f"{run.name}, on {evaluation.data}"))
    rows, dense = found.get("rank") or (), found.get("dense")
    other = evaluation.random_diagnostics
    if rows:
      parts.append(_rank_table(rows, other.get("rank") or ()))
    if dense:
      parts.append(markup.table(
          ["probe of single patches", "test accuracy", "random init",
           "guessing"],
          [["mosaics of 2×2 images", formats.accuracy(dense),
            formats.accuracy(other.get("dense")),
            formats.percent(dense["chance"])]]))
    if not rows and not dense:
      parts.append(markup.missing(
          "This evaluation has no diagnostics", run.command("evaluate")))
  return page.Section(
      name="rank", title="Collapse, and single patches", lead=(
          "RankMe is about how many directions the features use, and the "
          "spread is 1 if they use all alike and 0 if every image looks the "
          "same to the encoder (collapse). The probe of single patches tells "
          "the class of the image in which a patch lies, in mosaics of four "
          "images."),
      body=markup.join(parts + encoder.not_evaluated(book)))


def _rank_table(
    rows: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> markup.Html:
  at_random = {row["readout"]: row for row in other}
  keys = (("rankme", 1), ("spread_per_dimension", 3))
  return markup.table(
      ["readout", "RankMe", "random init", "spread per dimension",
       "random init"],
      [[row["readout"], *(
          formats.number(x.get(key), digits) for key, digits in keys
          for x in (row, at_random.get(row["readout"], {})))]
       for row in rows])


def cheat(book: runs_lib.Book) -> page.Section:
  """How much of the position tasks needs no picture."""
  parts = []
  for run in book.runs:
    rows = run.cheat or next(filter(None, (
        evaluation.diagnostics.get("cheat")
        for evaluation in run.evaluations)), ())
    if len(book.runs) > 1:
      parts.append(markup.tag("h3", run.name))
    if rows:
      parts.append(markup.table(
          ["task, and what is blank", "trained head", "refitted head",
           "chance", "99 % of guessing"], [_cheat_row(row) for row in rows]))
    else:
      parts.append(markup.missing(
          "Not measured, or no position task trained",
          run.command("cheat_index")))
  return page.Section(
      name="cheat", title="Cheat index", lead=(
          "Could the tasks about places be solved without looking? Accuracy "
          "minus chance on views whose patches, or position embeddings, are "
          "blank: far above 0 with blank contents means that the answer is "
          "read off the embeddings, not off the picture. Numbers within the "
          "last column are no better than guessing."),
      body=markup.join(parts))


def _cheat_row(row: Mapping[str, Any]) -> list[str]:
  index = lambda key: f"{row[key] - row['chance']:+.3f}"
  low, high = row.get("chance_low"), row.get("chance_high")
  within = formats.NONE if low is None or high is None else (
      f"{low - row['chance']:+.3f} to {high - row['chance']:+.3f}")
  return [f"{row['task']} ({row['position']}): {row['blank']}",
          index("trained"), index("refitted"), formats.number(row["chance"]),
          within]

"""The report's sections on what the encoder has learnt: its evaluations."""

import dataclasses
from typing import Any, Callable, Iterator, Mapping, Sequence

from mtvit.probes import verdict
from mtvit.report import formats
from mtvit.report import markup
from mtvit.report import page
from mtvit.report import runs as runs_lib
from mtvit.report import training

# The three that a run is judged by.
HEADLINES = ("knn_k20", "linear", "fewshot_10")
_EVALUATE = "evaluate"
_CHOSEN = (
    "Which of the encoder's outputs is read was chosen on validation images, "
    "not on the test images, for random init as well. An encoder that was "
    "trained by the task supervised has seen the labels of its data. ")
_INTERVALS = (
    "Below each number is its 95 % interval: over test images for kNN and the "
    "linear probe, over random draws of the training images for few images.")


def probe_title(probe: str) -> str:
  """A probe's name for people."""
  if probe.startswith("knn_k"):
    return f"kNN, k={probe.removeprefix('knn_k')}"
  if probe == "linear":
    return "linear probe"
  if probe.startswith("fewshot_"):
    count = probe.removeprefix("fewshot_")
    if count.endswith("%"):
      return f"{count.rstrip('%')} % of the images"
    return f"{count} image{'s' * (count != '1')} per class"
  return probe


def summary(book: runs_lib.Book) -> page.Section:
  """Whether it is any good, and the three numbers that matter."""
  parts = []
  for data, pairs in book.by_data().items():
    parts.append(markup.tag("h3", f"On {data}"))
    if pairs[0][1].classified:
      parts += [*_answers(pairs), markup.tag(
          "div", _headlines(pairs), class_="big")]
    else:
      parts.append(_retrieval_table(pairs))
  parts += [markup.tag("p", _CHOSEN + _INTERVALS, class_="lead")]
  parts += [markup.tag("p", describe(run)) for run in book.runs]
  parts += [markup.missing(f"Left out: {text}")
            for run in book.runs for text in run.left_out]
  parts += not_evaluated(book)
  return page.Section(
      name="summary", title="Is it good?", lead=(
          "How well images can be classified from what the frozen encoder says "
          "of them, beside random init: the same architecture before training, "
          "on the same images."),
      body=markup.join(parts))


def _beside_random(
    pairs: Sequence[tuple[runs_lib.Run, runs_lib.Evaluation]]
) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
  """Name, style and values of each evaluation, and of its random init."""
  for run, evaluation in pairs:
    name = name_of(run, evaluation, pairs)
    yield name, None, evaluation.values
    if evaluation.random_init is not None:
      yield f"{name}, random init", "reference", evaluation.random_init


def _retrieval_table(
    pairs: Sequence[tuple[runs_lib.Run, runs_lib.Evaluation]]
) -> markup.Html:
  """What is known of an encoder without labels: an image by another view."""
  rows: list[list[Any]] = []
  styles: list[str | None] = []
  for title, style, values in _beside_random(pairs):
    for row in (values.get("retrieval") or ())[:1]:
      rows.append([title, row["readout"], formats.percent(row["share"]),
                   f"{row['images']:,}"])
      styles.append(style)
  if not rows:
    return markup.missing(
        "These images have no labels", pairs[0][0].command(_EVALUATE))
  return markup.table(
      ["without labels", "reads", "views that find the other view of their "
       "image", "among so many"], rows, styles)


def _answers(
    pairs: Sequence[tuple[runs_lib.Run, runs_lib.Evaluation]]
) -> list[markup.Html]:
  """The answer in a sentence, the sets, and a warning, of each run."""
  parts = []
  for run, evaluation in pairs:
    name = "" if len(pairs) == 1 else f"{name_of(run, evaluation, pairs)}: "
    answer = verdict.headline(evaluation.compared)
    if answer:
      parts.append(markup.tag("p", name + answer, class_="answer"))
    warning = verdict.warning(evaluation.values)
    if warning:
      parts.append(markup.missing(f"{name}Beware: {warning}."))
    if evaluation.random_init is None:
      parts.append(markup.missing(
          f"{name}This evaluation lacks random init, without which a figure "
          "says little", f"{run.command(_EVALUATE)} {evaluation.options}"))
  parts.append(markup.tag("p", verdict.sets(pairs[0][1].values) + "."))
  return parts


def _headlines(
    pairs: Sequence[tuple[runs_lib.Run, runs_lib.Evaluation]]
) -> markup.Html:
  """What validation chose of each headline, above random init and guessing."""
  rows: list[list[Any]] = []
  styles: list[str | None] = []
  for title, style, values in _beside_random(pairs):
    rows.append([title, *(
        formats.accuracy(row, f"reads {row['readout']}" if row else "")
        for row in (verdict.chosen_row(values, probe)
                    for probe in HEADLINES))])
    styles.append(style)
  classes = len(pairs[0][1].values["data"]["classes"])
  rows.append([f"guessing among {classes} classes",
               *[formats.percent(pairs[0][1].chance)] * len(HEADLINES)])
  return markup.table(["test accuracy", *map(probe_title, HEADLINES)], rows,
                      [*styles, "reference"])


def describe(run: runs_lib.Run) -> str:
  """A run in two sentences."""
  config, text = run.config, run.name
  if config:
    names = ", ".join(training.trained_tasks(run)) or "no task"
    text += (f": ViT {config['model'].get('variant')}, trained on "
             f"{config['data'].get('name')} by {names}")
  steps = run.score("steps")
  if steps is not None:
    text += f", {steps:.0f} steps of {config.get('batch_size')} images"
  text += "."
  after, before = map(run.score, (
      "knn/accuracy", "knn/accuracy_random_init"))
  if after is not None:
    text += f" At the end of training its own kNN was {formats.percent(after)}"
    if before is not None:
      text += f"; before training {formats.percent(before)}"
    text += "."
  return text


def probes(book: runs_lib.Book) -> page.Section:
  """Test accuracy of every readout and probe."""
  parts = []
  for data, pairs in book.by_data().items():
    if not pairs[0][1].classified:
      continue
    parts += [
        markup.tag("h3", f"On {data}"), _probe_table(pairs),
        markup.tag("p", f"{verdict.sets(pairs[0][1].values)}; guessing: "
                   f"{formats.percent(pairs[0][1].chance)}."),
        markup.fold("The same as a list", markup.table(
            ["run", "readout", "layer", "probe", "accuracy", "low", "high",
             "validation"],
            [[run.name, row["readout"], row["layer"], row["probe"], *(
                formats.number(row.get(key), 4)
                for key in ("accuracy", "low", "high", "val_accuracy"))]
             for run, evaluation in pairs
             for row in evaluation.probes["test"]]))]
  return page.Section(
      name="probes", title="Probes", lead=(
          "Test accuracy of classifiers on frozen features. A row is what is "
          "read: a special token (cls, ct, ...) or the mean of all patches "
          "(gap). The star marks what validation chose for that column; read "
          "that one, since the best of a column by test is too good by luck. "
          "The last line of a cell is what random init reaches. "
          + _INTERVALS),
      body=markup.join(parts + not_evaluated(book)))


def name_of(run: runs_lib.Run, evaluation: runs_lib.Evaluation,
            pairs: Sequence[tuple[runs_lib.Run, Any]]) -> str:
  """The run, and the folder of the evaluation if the run has several here."""
  several = sum(other is run for other, _ in pairs) > 1
  return f"{run.name} ({evaluation.folder.name})" if several else run.name


def _probe_table(
    pairs: Sequence[tuple[runs_lib.Run, runs_lib.Evaluation]]
) -> markup.Html:
  """Rows: runs and readouts; columns: probes."""
  names = dict.fromkeys(row["probe"] for _, evaluation in pairs
                        for row in evaluation.probes["test"])
  rows = []
  for run, evaluation in pairs:
    found, at_random = map(_by_place, (
        evaluation.values, evaluation.random_init))
    places = dict.fromkeys((readout, layer) for readout, layer, _ in found)
    several = len({layer for _, layer in places}) > 1
    for readout, layer in places:
      title = f"{readout}, layer {layer}" if several else readout
      if len(pairs) > 1:
        title = f"{name_of(run, evaluation, pairs)} · {title}"
      cells = []
      for probe in names:
        row = found.get((readout, layer, probe))
        other = at_random.get((readout, layer, probe))
        cells.append(formats.accuracy(
            row, f"random {formats.percent(other['accuracy'])}" if other
            else "", chosen=row is not None
            and row is verdict.chosen_row(evaluation.values, probe)))
      rows.append([title, *cells])
  return markup.table(["readout", *map(probe_title, names)], rows)


def _by_place(
    values: Mapping[str, Any] | None
) -> dict[tuple[str, int, str], Mapping[str, Any]]:
  """Readout, layer and probe -> the row of it."""
  probes = (values or {}).get("probes") or {}
  return {(row["readout"], row["layer"], row["probe"]): row
          for row in probes.get("test", ())}


def not_evaluated(book: runs_lib.Book) -> list[markup.Html]:
  """A line for each run that has no evaluation, or one that was cut short."""
  lines = [markup.missing(
      f"{run.name} has not been evaluated", run.command(_EVALUATE))
      for run in book.runs if not run.evaluations]
  return lines + [markup.missing(
      f"The evaluation of {run.name} on {evaluation.values['data']['name']} "
      f"was cut short: it lacks {evaluation.values['unfinished']}",
      f"{run.command(_EVALUATE)} {evaluation.options}")
      for run, evaluation in book.evaluated()
      if evaluation.values.get("unfinished")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
  """A section with a picture of each evaluation.

  Attributes:
    name: of the section; the pictures are `<name>.png`.
    title: of the section.
    lead: of the section.
    alt: what the picture shows.
    more: evaluation -> HTML above the picture.
    expected: evaluation -> whether it has the picture.
  """
  name: str
  title: str
  lead: str
  alt: str
  more: Callable[[Any], markup.Html] = lambda evaluation: markup.Html()
  expected: Callable[[Any], bool] = lambda evaluation: True


def pictures_of(book: runs_lib.Book, gallery: Gallery) -> page.Section:
  """A picture of each evaluation, with something above it."""
  pairs, parts = book.evaluated(), []
  for run, evaluation in pairs:
    if len(pairs) > 1:
      parts.append(markup.tag("h3", f"{run.name}, on {evaluation.data}"))
    parts.append(gallery.more(evaluation))
    file = evaluation.folder / f"{gallery.name}.png"
    if file.exists():
      parts.append(markup.picture(file, f"{gallery.alt} ({run.name})"))
    elif gallery.expected(evaluation):
      parts.append(markup.missing(
          f"There is no {file.name} of this evaluation",
          run.command(_EVALUATE)))
  return page.Section(
      name=gallery.name, title=gallery.title, lead=gallery.lead,
      body=markup.join(parts + not_evaluated(book)))


def attention(book: runs_lib.Book) -> page.Section:
  """Where the special tokens look."""
  return pictures_of(book, Gallery(
      name="attention", title="Attention",
      lead="Where each special token looks in the last layer, averaged over "
      "its heads: bright patches count most. The number above a map is the "
      "share of attention that goes to patches; the rest goes to the tokens "
      "themselves.", alt="Test images with attention maps laid over them"))


def neighbours(book: runs_lib.Book) -> page.Section:
  """Which training images the encoder finds similar."""
  return pictures_of(book, Gallery(
      name="neighbours", title="Nearest neighbours",
      lead="Test images, chosen without looking, and the training images that "
      "the encoder finds most similar. A green frame: of the same class; a red "
      "one: of another. Below: the class, and the cosine (1 is the same "
      "direction).",
      alt="Test images, each with its nearest training images in a row"))

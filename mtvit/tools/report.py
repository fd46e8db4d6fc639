"""Writes one HTML file about a run, or about several side by side.

  mtvit report --workdir=runs/quickstart
  mtvit report --workdir=runs/a,runs/b --output=compare.html
  mtvit report --workdir=runs/lr,1 --workdir=runs/lr,2

The file needs nothing else: pictures are inside. It is made of what is on disk,
without TensorFlow and without the model; what is missing is left out, with the
command that makes it. By default it is RUN/report/index.html, or
RUN/report/comparison.html of the first of several runs. The PNGs that it draws
lie beside it.
"""

import sys

from absl import flags

from mtvit import errors
from mtvit.report import diagnostics
from mtvit.report import encoder
from mtvit.report import page
from mtvit.report import runs as runs_lib
from mtvit.report import training
from mtvit.run import entry
from mtvit.run import files
from mtvit.run import paths

SECTIONS = (
    encoder.summary, training.curves, encoder.probes, training.tasks,
    diagnostics.layers, diagnostics.rank, diagnostics.positions,
    encoder.attention, encoder.neighbours, training.gradients,
    diagnostics.cheat, training.config, training.environment)


def save(book: runs_lib.Book) -> None:
  """Writes the report of a book, and the PNGs that it draws beside it."""
  names = [run.name for run in book.runs]
  title = f"Report of {names[0]}" if len(names) == 1 else (
      f"{len(names)} runs side by side")
  subtitle = "Training of a Vision Transformer: " + ", ".join(
      str(run.folder) for run in book.runs)
  text = page.render(title, subtitle, [make(book) for make in SECTIONS])
  files.write(book.output, text)


def main() -> None:
  """Reads the runs and writes the report."""
  folders = flags.FLAGS.workdir
  runs = runs_lib.read_all(runs_lib.given(folders))
  for text in (text for run in runs for text in run.left_out):
    print(errors.printable(f"left out: {text}"), file=sys.stderr)
  name = "index.html" if len(runs) == 1 else "comparison.html"
  output = paths.parse(
      flags.FLAGS.output or runs[0].folder / "report" / name)
  if output.suffix != ".html":
    raise errors.ConfigError(f"--output={output} must end in .html")
  with (errors.unwritable(f"{output}", "another --output"),
        paths.on_disk(output.parent) as folder):
    file = folder / output.name
    save(runs_lib.Book(runs=runs, output=file))
    size = file.stat().st_size
  print(f"{output} ({size / 1e6:.1f} MB)")


if __name__ == "__main__":
  # Not on import: other programs have flags of the same names.
  flags.DEFINE_multi_string(
      "workdir", [], "Of the run, or of several: A,B, or the flag repeated.")
  flags.DEFINE_string("output", None, "The HTML file.")
  entry.run(main)

"""Shows a study: from its rows alone, in seconds, without training."""

import importlib
import pathlib
import sys
from typing import Sequence

from mtvit import errors
from mtvit.report import markup
from mtvit.report import page
from mtvit.run import files
from mtvit.run import paths
from mtvit.study import arms
from mtvit.study import blocks
from mtvit.study import document
from mtvit.study import gates
from mtvit.study import results as results_lib
from mtvit.study import rows
from mtvit.study import verdicts


def show(named: arms.Named, output: str | None = None) -> None:
  """Prints Markdown; with `output`, a folder, writes a page there too.

  The page is index.html, which needs nothing else; its plots lie beside it.

  Raises:
    ConfigError: the rows can't be read, or the page can't be written.
  """
  sections = document.sections(findings(named))
  print(errors.printable(markdown(title(named), sections)))
  if output is None:
    return
  given = paths.parse(output)
  with (errors.unwritable(f"{given}", "another --output"),
        paths.on_disk(given) as folder):
    save(title(named), sections, folder)
  print(f"{given / 'index.html'}", file=sys.stderr)


def title(named: arms.Named) -> str:
  """Of the page."""
  return f"Study {named.file.stem}" + (f", {named.tier}" if named.tier else "")


def findings(named: arms.Named) -> document.Findings:
  """All that the rows of a study say."""
  study, table = named.study, rows.read(named.rows)
  results = results_lib.Results(
      {x.name: range(study.num_seeds(x)) for x in study.arms}, table.rows,
      table.costs[-1] if table.costs else None)
  there = {arm for arm, _ in results.done}
  found = [gates.configs(results, {
      x.name: study.digest(x) for x in study.arms if x.name in there}),
           *gates.general(results)]
  of_comparisons = verdicts.of_comparisons(results, study.comparisons)
  if not study.claims:
    return document.Findings(results, found, of_comparisons, (), table.notes)
  try:
    claims = importlib.import_module(study.claims)
  except ModuleNotFoundError as e:
    raise errors.ConfigError(
        f"claims={study.claims!r}: no such module",
        "a module with the functions gates(results) and verdicts(results)"
    ) from e
  return document.Findings(
      results, [*found, *claims.gates(results)], claims.verdicts(results),
      of_comparisons, table.notes)


def markdown(name: str, sections: list[blocks.Section]) -> str:
  """The tables and notes as Markdown; plots are left to the page."""
  lines = [f"# {name}", ""]
  for section in sections:
    lines += [f"## {section.title}", "", section.lead, ""]
    for block in section.blocks:
      if isinstance(block, str):
        lines += [block, ""]
      elif isinstance(block, blocks.Table):
        lines += [_line(block.header), _line(["---"] * len(block.header)),
                  *map(_line, block.rows), ""]
  return "\n".join(lines).rstrip()


def _line(cells: Sequence[str]) -> str:
  return "| " + " | ".join(x.replace("|", "\\|") for x in cells) + " |"


def save(
    name: str, sections: list[blocks.Section], folder: pathlib.Path
) -> None:
  """Writes index.html and its plots."""
  text = page.render(name, "Settings compared over seeds.", [
      page.Section(name=x.name, title=x.title, lead=x.lead,
                   body=_body(x, folder)) for x in sections])
  files.write(folder / "index.html", text)


def _body(section: blocks.Section, folder: pathlib.Path) -> markup.Html:
  """The blocks as HTML; small plots stand side by side."""
  parts, small = [], []
  for block in section.blocks:
    if isinstance(block, str):
      parts.append(markup.tag("p", block))
    elif isinstance(block, blocks.Table):
      table = markup.table(block.header, block.rows)
      parts.append(markup.tag("div", table, class_="text")
                   if block.wordy else table)
    else:
      file = folder / f"{block.name}.png"
      block.draw(file)
      small.append(markup.picture(file, block.alt))
  if len(small) > 1:
    return markup.join([markup.tag("div", *small, class_="plots"), *parts])
  return markup.join([*small, *parts])

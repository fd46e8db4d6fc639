"""Compares settings over seeds: runs, then tables, of a study's file.

  mtvit study plan FILE.py[:TIER]
  mtvit study run FILE.py[:TIER] --workers=2
  mtvit study cost FILE.py[:TIER]
  mtvit study show FILE.py[:TIER] --output=DIR

`plan` tells runs, FLOPs and hours. `run` makes what has no row yet; the same
command goes on after any interruption. `cost` measures a step of each arm,
interleaved, on an idle machine. `show` prints tables and verdicts as Markdown,
from the rows alone; DIR gets a page with plots too. Rows are added to
FILE.TIER.jsonl, beside the file. How to write one: mtvit/study/README.md.
"""

import os
import pathlib
import sys
from typing import Callable

from absl import flags

from mtvit import errors
from mtvit.run import entry
from mtvit.run import paths
from mtvit.study import arms
from mtvit.study import cost as cost_lib
from mtvit.study import one as one_lib
from mtvit.study import planning
from mtvit.study import rows
from mtvit.study import running
from mtvit.study import show as show_lib

_WORKERS = flags.DEFINE_integer(
    "workers", 1, "Runs at a time; they share cores, or a GPU's memory.",
    lower_bound=1)
_ARMS = flags.DEFINE_list("arms", [], "Only these arms.")
_SEEDS = flags.DEFINE_list("seeds", [], "Only these seeds.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the runs are kept; default runs/study/FILE.TIER.")
_DATA = flags.DEFINE_string(
    "data", "", "Takes the place of data.name in all arms: folder:PATH.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "A folder for the page of `show`, index.html.")
_ATTEMPT = flags.DEFINE_integer("attempt", 1, "Of `one`.", lower_bound=1)


def _options(named: arms.Named) -> running.Options:
  try:
    seeds = tuple(map(int, _SEEDS.value))
  except ValueError as e:
    raise errors.ConfigError(
        f"--seeds={','.join(_SEEDS.value)}", "--seeds=0,1") from e
  given = _WORKDIR.value or f"runs/study/{named.rows.stem}"
  paths.check_local(**{"--workdir": given})     # Beside locks and logs.
  return running.Options(
      workdir=pathlib.Path(paths.expand(given)),
      workers=_WORKERS.value, arms=tuple(_ARMS.value), seeds=seeds,
      data=_DATA.value)


def _plan(named: arms.Named) -> None:
  """Prints the plan."""
  measured = planning.speed(named.study)
  print(planning.text(planning.lines(
      named.study, rows.read(named.rows), measured), measured))


def _run(named: arms.Named) -> None:
  """Makes the runs."""
  running.run(named, _options(named))
  show_lib.show(named)


def _one(named: arms.Named) -> None:
  """Makes a single run, as a process of `run`."""
  options = _options(named)
  parent = os.environ.get("MTVIT_STUDY_PARENT")
  if parent:
    one_lib.end_with(int(parent))
  for one in running.chosen(named.study, options):
    one_lib.run(named, one.arm, one.seed, running.folder(
        options.workdir, one), options.data, _ATTEMPT.value)


def _cost(named: arms.Named) -> None:
  """Measures what a step of each arm costs, and adds that to the rows."""
  cost_lib.record(named, _ARMS.value)


def _show(named: arms.Named) -> None:
  """Prints what the rows say."""
  show_lib.show(named, _OUTPUT.value)


KINDS: dict[str, Callable[[arms.Named], None]] = {
    "plan": _plan, "run": _run, "cost": _cost, "show": _show,
    "one": _one}


def main(kind: str, file: str) -> None:
  """Does what the first word says with the study that the second names."""
  if kind not in KINDS:
    raise errors.ConfigError(
        f"no `mtvit study {errors.printable(kind)}`" if kind
        else "what with which study?",
        "mtvit study plan | run | cost | show FILE.py")
  KINDS[kind](arms.load(file))


def words() -> list[str]:
  """Takes up to two leading words, which are no flags, off the command line."""
  count = next((i for i, x in enumerate(sys.argv[1:3]) if x.startswith("-")),
               len(sys.argv[1:3]))
  taken, sys.argv[1:] = sys.argv[1:1 + count], sys.argv[1 + count:]
  return taken + [""] * (2 - count)


if __name__ == "__main__":
  _WORDS = words()
  entry.run(lambda: main(*_WORDS))

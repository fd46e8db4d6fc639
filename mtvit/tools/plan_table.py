"""Plans many configs and prints tables of them, in Markdown.

  mtvit plan_table --output=plans
  mtvit plan_table --output=plans --only='models/B.*v5e'

Each row is a `mtvit plan` of its own, which leaves a JSON file in the
folder; rows that have one are not planned again, so it can be stopped and
continued. A row takes one to ten minutes on two cores. --list prints the
commands and runs nothing.
"""

import dataclasses
import pathlib
import re
import shlex
import subprocess
import sys
from typing import Any, Callable, Sequence

from absl import flags
from absl import logging

from mtvit import errors
from mtvit.planning import plans
from mtvit.run import entry
from mtvit.run import paths
from mtvit.run import reading

_OUTPUT = flags.DEFINE_string("output", None, "Folder of the JSON files.")
_ONLY = flags.DEFINE_string(
    "only", "", "Regular expression; plans only rows whose name it finds.")
_LIST = flags.DEFINE_bool("list", False, "Print the commands, and no more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One plan.

  Attributes:
    table: that it belongs to.
    variant: of the model.
    topology: the slice.
    views: of a chip.
    strategy: of configs/imagenet.py.
    unroll: 0 for all layers, which takes the compiler longer; 1 for a scan.
    remat: of the layers.
    fsdp: of the mesh.
  """
  table: str
  variant: str
  topology: str
  views: int
  strategy: str = "report"
  unroll: int = 0
  remat: str = "none"
  fsdp: int = 1

  @property
  def name(self) -> str:
    """For --only."""
    return f"{self.table}/{self.variant}/{self.strategy}/{self.topology}"

  def file(self, folder: pathlib.Path) -> pathlib.Path:
    """Where its plan is; rows of two tables may share one."""
    name = (f"{self.variant}-{self.strategy}-{self.topology}-{self.views}views-"
            f"unroll{self.unroll}-{self.remat}-fsdp{self.fsdp}")
    return folder / f"{re.sub('[/:]', '-', name)}.json"

  def command(self, folder: pathlib.Path) -> list[str]:
    """What makes its file."""
    return [
        sys.executable, "-m", "mtvit.tools.plan",
        "--config=imagenet:"
        f"variant={self.variant},strategy={self.strategy}",
        f"--topology={self.topology}", f"--views_per_chip={self.views}",
        f"--config.model.unroll={self.unroll}",
        f"--config.model.remat={self.remat}", f"--config.mesh.fsdp={self.fsdp}",
        f"--json={self.file(folder)}"]


# Views, layers, remat and fsdp on v5e, then views, remat and fsdp on v5p. An
# fsdp of the whole slice is slow: XLA then sends parts of activations around.
_SIZES = {
    "Ti/16": (256, 0, "none", 1, 256, "none", 1),
    "S/16": (128, 0, "none", 1, 256, "none", 1),
    "B/16": (128, 0, "none", 1, 128, "none", 1),
    "L/16": (64, 1, "dots", 1, 128, "none", 1),
    "H/14": (32, 1, "full", 4, 64, "dots", 8),
    "g/14": (32, 1, "full", 4, 64, "full", 8),
}


def rows() -> list[Row]:
  """All of them."""
  made = []
  for variant, sizes in _SIZES.items():
    views, unroll, remat, fsdp, *deep = sizes
    size: dict[str, Any] = dict(table="models", variant=variant, unroll=unroll)
    v5e: dict[str, Any] = dict(views=views, remat=remat, fsdp=fsdp)
    v5p: dict[str, Any] = dict(zip(("views", "remat", "fsdp"), deep))
    made += [
        Row(topology="v5e:2x4", **v5e, **size),
        Row(topology="v5e:16x16", **v5e, **size),
        Row(topology="v5p:8x8x16", **v5p, **size)]
  made += [
      Row(table="scaling", variant="S/16", topology=f"v5e:{shape}", views=128)
      for shape in ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16")]
  made += [
      Row(table="tasks", variant="B/16", topology="v5e:2x4", views=64,
          strategy=name) for name in ("contrastive", "report", "patch_level")]
  # So many passes fit only with remat.
  made += [
      Row(table="separate", variant="S/16", topology="v5e:2x4", views=32,
          strategy=name, unroll=1, remat="full")
      for name in ("contrastive", "patch_level", "separate")]
  return made


Cells = dict[str, Callable[
    [plans.Estimate, plans.Estimate | None], str]]
# Column -> its text, of a plan and the table's first one that fits.
_FIT: Cells = {
    "HBM, GiB": lambda x, first: (
        f"{x.memory.total / 2**30:.1f}" if x.memory.total else "?"),
    "fits": lambda x, first: "yes" if x.memory.fits else "no",
}
_SPEED: Cells = {
    "images/s a chip": lambda x, first: f"{x.images_per_second / x.chips:,.0f}",
    "MFU": lambda x, first: f"{x.mfu:.1%}",
    "interconnect, MB": lambda x, first: (
        f"{sum(x.interconnect_bytes.values()) / 1e6:,.0f}"),
    "limit": lambda x, first: x.limit,
}
_RATIO: Cells = {
    "cycles, M": lambda x, first: f"{x.cycles / 1e6:.1f}",
    "against the first": lambda x, first: f"{x.cycles / first.cycles:.2f}x",
    "FLOPs": lambda x, first: f"{x.model_flops / first.model_flops:.2f}x",
}
_SCALING: Cells = {
    "images/s": lambda x, first: f"{x.images_per_second:,.0f}",
    "scaling": lambda x, first: "{:.1%}".format(
        x.images_per_second / x.chips
        / (first.images_per_second / first.chips)),
}
COLUMNS = {
    "models": _FIT | _SPEED, "scaling": _SCALING | _SPEED,
    "tasks": _RATIO | _FIT | _SPEED, "separate": _RATIO | _FIT | _SPEED}


def markdown(
    table: str, found: Sequence[tuple[Row, plans.Estimate]]
) -> str:
  """A table of plans."""
  columns = COLUMNS[table]
  lines = [
      f"**{table}** ({plans.NOTE})", "",
      f"| model | tasks | slice | views a chip | layout | "
      f"{' | '.join(columns)} |", "|---" * (5 + len(columns)) + "|"]
  first = next((x for _, x in found if x.memory.fits), None)
  for row, x in found:
    mesh = "x".join(map(str, x.mesh.values()))
    layers = "unrolled" if row.unroll == 0 else "scanned"
    cells = [
        text(x, first) if x.memory.fits or name in _FIT else ""
        for name, text in columns.items()]
    lines.append(
        f"| {row.variant} | {row.strategy} | {x.topology} | {x.views:g} | "
        f"{mesh}, remat {x.settings['remat']}, {layers} | "
        f"{' | '.join(cells)} |")
  return "\n".join(lines)


def main() -> None:
  """Plans what isn't planned yet, and prints the tables."""
  if not _OUTPUT.value:
    raise errors.ConfigError("--output is missing", "--output=DIR")
  try:
    errors.check_patterns(only=_ONLY.value)
  except ValueError as e:
    raise errors.ConfigError(f"--{e}") from e
  folder = pathlib.Path(paths.expand(_OUTPUT.value))
  chosen = [row for row in rows() if re.search(_ONLY.value, row.name)]
  if _LIST.value:
    print("\n".join(shlex.join(row.command(folder)) for row in chosen))
    return
  failed = []
  for row in chosen:
    if not _planned(row.file(folder)):
      print(f"{row.name} ...", file=sys.stderr, flush=True)
      # A process for each, which gives the compiler's memory back.
      done = subprocess.run(row.command(folder), stdout=subprocess.DEVNULL)
      failed += [row.name] if done.returncode else []
  for table in COLUMNS:
    found = [(row, plan) for row in chosen if row.table == table
             and (plan := _planned(row.file(folder)))]
    if found:
      print(markdown(table, found) + "\n")
  if failed:
    raise errors.UserError(
        f"not planned: {', '.join(failed)}", "see their messages above")


def _planned(file: pathlib.Path) -> plans.Estimate | None:
  """The first plan of a file; None if it has none, or is damaged."""
  try:
    saved = reading.read_json(file)
    found = saved.get("estimates") if isinstance(saved, dict) else None
    if not isinstance(found, list) or not found:
      raise reading.Unusable("holds no plan")
    return plans.from_values(found[0])
  except FileNotFoundError:
    return None
  except reading.Unusable as e:
    logging.warning("%s %s; it is made anew", file, e)
    return None


if __name__ == "__main__":
  entry.run(main)

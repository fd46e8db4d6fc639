"""TPU chips in one table, and what follows from the shape of a slice."""

import dataclasses
import re

from mtvit import errors

GB = 1e9
GIB = 2.0**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One chip.

  Attributes:
    name: as in a topology.
    peak: bf16 FLOP/s.
    hbm_bytes: size of the main memory.
    hbm_bandwidth: bytes a second.
    ici_bandwidth: bytes a second that all links together send; Google's tables
      of 2025 give both directions, twice as much.
    ports: links to neighbours.
    matrix_units: of all cores.
    matrix_side: rows and columns of each.
    config: the chip as one device, where the compiler has to be told so.
    slices: some shapes that exist.
    source: where the figures are from.
  """
  name: str
  peak: float
  hbm_bytes: float
  hbm_bandwidth: float
  ici_bandwidth: float
  ports: int
  matrix_units: int
  matrix_side: int
  config: str = "default"
  slices: tuple[str, ...]
  source: str

  @property
  def clock(self) -> float:
    """Cycles a second: those that the peak takes, one product a cell each."""
    return self.peak / (2 * self.matrix_units * self.matrix_side**2)


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "8x8x16")
_DOCS = "https://docs.cloud.google.com/tpu/docs/"
CHIPS = {chip.name: chip for chip in (
    Chip(
        name="v4", peak=275e12, hbm_bytes=32 * GIB, hbm_bandwidth=1200 * GB,
        # 6 links of 50 GB/s: arXiv:2304.01433, table 4.
        ici_bandwidth=300 * GB, ports=6, matrix_units=8, matrix_side=128,
        config="megacore", slices=_DEEP, source=_DOCS + "v4"),
    Chip(
        name="v5e", peak=197e12, hbm_bytes=16 * GIB, hbm_bandwidth=819 * GB,
        ici_bandwidth=200 * GB, ports=4, matrix_units=4, matrix_side=128,
        slices=_FLAT, source=_DOCS + "v5e"),
    Chip(
        name="v5p", peak=459e12, hbm_bytes=95 * GIB, hbm_bandwidth=2765 * GB,
        ici_bandwidth=600 * GB, ports=6, matrix_units=8, matrix_side=128,
        slices=_DEEP, source=_DOCS + "v5p"),
    Chip(
        name="v6e", peak=918e12, hbm_bytes=32 * GIB, hbm_bandwidth=1638 * GB,
        # Two units in the documentation; the compiler's cycles are of four.
        ici_bandwidth=400 * GB, ports=4, matrix_units=4, matrix_side=256,
        slices=_FLAT, source=_DOCS + "v6e"),
)}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Connected chips.

  Attributes:
    chip: all of them.
    shape: of the grid.
  """
  chip: Chip
  shape: tuple[int, ...]

  @property
  def name(self) -> str:
    """Such as "v5e:2x4"."""
    return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

  @property
  def ici_bandwidth(self) -> float:
    """Bytes a second that a chip at an edge can send, over all its links.

    An axis of the grid is a ring, with two links for each chip, if it has 16
    chips in two dimensions, or if all are multiples of 4 in three; else its
    ends have one.
    """
    cube = not any(size % 4 for size in self.shape)
    ring = lambda size: size == 16 if len(self.shape) == 2 else cube
    links = sum(1 + ring(size) for size in self.shape if size > 1)
    return self.chip.ici_bandwidth * links / self.chip.ports


def parse(name: str) -> Slice:
  """The slice of a name such as "v5p:8x8x16".

  Raises:
    ConfigError: there is no such chip, or the grid has another dimension.
  """
  kind, _, shape = name.partition(":")
  if kind not in CHIPS:
    raise errors.ConfigError(
        f"--topology={name}: no such chip", f"one of {', '.join(CHIPS)}, as in "
        f"--topology=v5e:2x4{errors.suggest(kind, CHIPS)}")
  chip = CHIPS[kind]
  flat = chip.ports == 4
  if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)" + ("" if flat else "{2}"), shape):
    raise errors.ConfigError(
        f"--topology={name}: {kind} wants the grid as "
        + ("ROWSxCOLUMNS" if flat else "XxYxZ"),
        f"one of {', '.join(f'{kind}:{s}' for s in chip.slices)}")
  return Slice(chip, tuple(map(int, shape.split("x"))))

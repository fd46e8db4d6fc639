"""Looks for the mesh, remat and batch with the most images a second.

More remat and more sharding only cost time, so each is tried where memory, and
nothing else, stopped the batch from growing.
"""

import dataclasses
from typing import Callable, Iterator, Sequence

from mtvit import config as config_lib
from mtvit import errors
from mtvit.planning import estimate as estimate_lib
from mtvit.planning import plans

Estimate = plans.Estimate
REMATS = ("none", "dots", "full")
FEWEST_VIEWS = 8
_FSDP = (1, 4, 16, 64, 256)


@dataclasses.dataclass(frozen=True)
class Trial:
  """What a search varies.

  Attributes:
    mesh: its sizes.
    remat: of `REMATS`.
    views: of a chip.
  """
  mesh: config_lib.Mesh
  remat: str
  views: int

  def of(self, config: config_lib.Config, num_chips: int) -> config_lib.Config:
    """A config that is like this."""
    config = dataclasses.replace(
        config, mesh=self.mesh,
        model=dataclasses.replace(config.model, remat=self.remat))
    return estimate_lib.with_views(config, self.views, num_chips)

  def made(self, found: Estimate) -> bool:
    """Whether an estimate is of this."""
    return (found.mesh == dataclasses.asdict(self.mesh)
            and found.settings["remat"] == self.remat
            and found.views == self.views)

  def __str__(self) -> str:
    mesh = "x".join(map(str, dataclasses.astuple(self.mesh)))
    return f"mesh {mesh:10} remat {self.remat:5} {self.views:4} views a chip"


def meshes(num_chips: int) -> list[config_lib.Mesh]:
  """Mesh shapes, from the least to the most sharding; at last tensor=2."""
  fsdp = [f for f in _FSDP if num_chips % f == 0]
  shapes = [(f, 1) for f in fsdp] + [
      (f, 2) for f in fsdp[-2:] if num_chips % (2 * f) == 0]
  return [config_lib.Mesh(data=num_chips // (f * t), fsdp=f, tensor=t)
          for f, t in shapes]


def search(
    num_chips: int, most_views: int, run: Callable[[Trial], Estimate]
) -> Iterator[Estimate]:
  """Yields estimates as they are made; those that don't fit too.

  Args:
    num_chips: of the slice.
    most_views: of a chip; what is tried first.
    run: makes one; a mesh for which it raises ConfigError is left out.

  Raises:
    ConfigError: of `run`, if it raises it for every mesh.
  """
  remats: tuple[str, ...] = REMATS
  error: errors.ConfigError | None = None
  any_made = False
  for mesh in meshes(num_chips):
    for remat in remats:
      try:
        for found in _batches(mesh, remat, most_views, run):
          any_made = True
          yield found
      except errors.ConfigError as e:
        error = e
        break
      if found.memory.fits and found.views == most_views:
        remats = remats[:remats.index(remat)]
        break
      if found.memory.state > found.memory.capacity:
        break                              # Remat doesn't make it smaller.
  if error and not any_made:
    raise error


def _batches(
    mesh: config_lib.Mesh, remat: str, most_views: int,
    run: Callable[[Trial], Estimate]
) -> Iterator[Estimate]:
  """Halves the batch until it fits; leaves out what surely doesn't."""
  views = most_views
  while True:
    found = run(Trial(mesh, remat, views))
    yield found
    if found.memory.fits:
      return
    memory, last = found.memory, views
    # At best everything but the state shrinks with the batch.
    rest = (memory.total or 0.0) - memory.state
    views //= 2
    while views >= FEWEST_VIEWS and (
        memory.state + rest * views / last > memory.capacity):
      views //= 2
    if views < FEWEST_VIEWS:
      return


def best(found: Sequence[Estimate]) -> Estimate | None:
  """The one with the most images a second among those that fit."""
  return max((x for x in found if x.memory.fits), default=None,
             key=lambda x: x.images_per_second or 0.0)

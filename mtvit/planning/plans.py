"""What a plan holds: memory, time and the rest, of one chip and one step."""

import dataclasses
import types
import typing
from typing import Any

from mtvit.run import reading

NOTE = "estimated by the compiler, not measured"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes of a chip's main memory; all but the sums without padding.

  Attributes:
    parameters: of the model.
    optimizer: its moments.
    teacher: the momentum encoder.
    task_state: what tasks and their weighting carry, such as a queue.
    batch: the chip's views.
    activations: everything that the step makes on its way; None if it doesn't
      fit.
    total: all that the compiler reserves; None if it doesn't fit and the
      compiler doesn't say.
    capacity: of the chip.
    fits: the compiler found a place for everything, and a chip has that much.
  """
  parameters: float
  optimizer: float
  teacher: float
  task_state: float
  batch: float
  activations: float | None
  total: float | None
  capacity: float
  fits: bool

  @property
  def state(self) -> float:
    """What a chip keeps between steps."""
    return (self.parameters + self.optimizer + self.teacher
            + self.task_state)

  @property
  def arguments(self) -> float:
    """What a step starts with."""
    return self.state + self.batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Time:
  """Seconds of a step.

  Attributes:
    cores: cycles that the compiler estimates, over the clock; with vector work
      and what kernels wait for memory.
    compute: a bound: compiled FLOPs at the chip's peak.
    hbm: a bound: bytes of main memory at its bandwidth.
    interconnect: a bound: bytes sent at the bandwidth of the chip's links.
    waiting: the part of `interconnect` in which the cores wait for it.
    step: the longest of cores, hbm and the interconnect's other part, and then
      the waiting.
  """
  cores: float
  compute: float
  hbm: float
  interconnect: float
  waiting: float
  step: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A plan; all but `images_per_second` of one chip and one step.

  Attributes:
    topology: such as "v5e:2x4".
    chips: of it.
    mesh: axis -> size.
    settings: what else a search varies.
    views: of a chip.
    memory: see there.
    model_flops: of the model, without recomputation; see `cost.flops`.
    compiled_flops: of the matrix products in the compiled step.
    interconnect_bytes: collective -> bytes sent.
    cycles: that the compiler estimates, without collectives.
    unknown_loops: loops that count once, since nobody knows how often they run.
    time: see there; None if it doesn't fit.
    images_per_second: of the slice.
    mfu: model FLOPs over what the peak allows in the step's time.
    limit: "compute" (the cores are the slowest; see `Time`), "HBM bandwidth",
      "interconnect", "HBM capacity", or "unknown".
    custom_calls: of a GPU's libraries -> how often they stand in the program.
    compute: of a GPU: seconds that the model's FLOPs take at its peak.
    hbm_bytes: of a GPU: read and written by its kernels.
    compile_seconds: on this machine.
  """
  topology: str
  chips: int
  mesh: dict[str, int]
  settings: dict[str, Any]
  views: float
  memory: Memory
  model_flops: float
  compiled_flops: float | None = None
  interconnect_bytes: dict[str, float] | None = None
  cycles: float | None = None
  unknown_loops: int = 0
  time: Time | None = None
  images_per_second: float | None = None
  mfu: float | None = None
  limit: str = "HBM capacity"
  custom_calls: dict[str, int] | None = None
  compute: float | None = None
  hbm_bytes: float | None = None
  compile_seconds: float


def from_values(values: Any) -> Estimate:
  """From what `dataclasses.asdict` made of one.

  Raises:
    Unusable: it is of another version, or damaged.
  """
  if not _fits(values, Estimate):
    raise reading.Unusable("holds no plan of this version")
  seconds = values["time"]
  return Estimate(**values | {
      "memory": Memory(**values["memory"]),
      "time": seconds and Time(**seconds)})


def _fits(value: Any, kind: Any) -> bool:
  """Whether a JSON value is of an annotated type of these classes."""
  if isinstance(kind, types.UnionType):
    return any(_fits(value, one) for one in typing.get_args(kind))
  if dataclasses.is_dataclass(kind):
    hints = typing.get_type_hints(kind)
    return isinstance(value, dict) and value.keys() == hints.keys() and all(
        _fits(value[key], hint) for key, hint in hints.items())
  if typing.get_origin(kind) is dict:
    of_values = typing.get_args(kind)[1]
    return isinstance(value, dict) and all(
        _fits(x, of_values) for x in value.values())
  if kind is Any:
    return True
  return type(value) is kind or kind is float and type(value) is int

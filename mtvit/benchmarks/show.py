"""Statistics of repetitions, and Markdown tables of them."""

import contextlib
import dataclasses
import importlib.metadata
import pathlib
import platform
import statistics
from typing import Any, Mapping, Sequence

from mtvit.benchmarks.peers import protocol

# What ours use, as far as it is installed; peers tell their own.
_PACKAGES = ("jax", "jax-cuda12-plugin", "jax-cuda13-plugin", "tensorflow",
             "tensorflow-cpu", "opencv-python-headless", "numpy")


@dataclasses.dataclass(frozen=True)
class Spread:
  """Several measurements of one thing: the median, the least, the most."""
  median: float
  least: float
  most: float

  def text(self, digits: int = 0) -> str:
    """Such as "5 (4 to 7)"."""
    one = lambda x: f"{x:,.{digits}f}"
    return f"{one(self.median)} ({one(self.least)} to {one(self.most)})"


def spread(values: Sequence[float]) -> Spread:
  """Of at least one value."""
  return Spread(statistics.median(values), min(values), max(values))


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
  """Of the quotients of what was measured in the same round."""
  return spread([x / y for x, y in zip(values, others, strict=True)])


def rates(repetitions: Sequence[Mapping[str, float]]) -> list[float]:
  """What each counted, per second."""
  return [x["count"] / x["seconds"] for x in repetitions]


def cpu_milliseconds(repetitions: Sequence[Mapping[str, float]]) -> list[float]:
  """CPU milliseconds for each that was counted."""
  return [x["cpu_seconds"] / x["count"] * 1e3 for x in repetitions]


def milliseconds(values: Sequence[float]) -> str:
  """Their spread; of short ones the microseconds too."""
  found = spread(values)
  return found.text(1 if found.most >= 1 else 3)


def against(
    repetitions: Sequence[Mapping[str, float]],
    others: Sequence[Mapping[str, float]]
) -> list[str]:
  """How much faster than others, by the clock and by CPU time.

  The second is what stays right on a machine that has other work too.
  """
  return [ratio(rates(repetitions), rates(others)).text(2),
          ratio(cpu_milliseconds(others),
                cpu_milliseconds(repetitions)).text(2)]


def memory(repetitions: Sequence[Mapping[str, float]]) -> str:
  """The most memory that the process has had, in MB."""
  most = repetitions[-1]["peak_bytes"]
  return f"{most / 1e6:,.0f}" if most else "?"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """In Markdown."""
  lines = [columns, ["---"] * len(columns), *rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions() -> dict[str, str]:
  """Of Python and of the packages that ours use."""
  found = {"python": platform.python_version()}
  for name in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def machine() -> dict[str, Any]:
  """The processor, and the cores that may be used."""
  return {"processor": _processor(), "cores": protocol.cores()}


def machine_text(found: Mapping[str, Any]) -> str:
  """What `machine` has found, and the accelerator that a contestant told."""
  text = f"{found['processor']}, {found['cores']} cores"
  if "accelerator" in found:
    device = found["accelerator"]
    text = f"{device['count']} {device['kind']}; {text}"
  return text


def _processor() -> str:
  try:
    text = pathlib.Path("/proc/cpuinfo").read_text()
    return next(line.partition(":")[2].strip() for line in text.splitlines()
                if line.startswith("model name"))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()

"""Where the time of compiled code goes, by kinds of HLO instructions."""

import collections
import glob
import tempfile
from typing import Callable

import jax

from mtvit.planning import hlo

# Instructions that only run others, which have events of their own.
_OUTER = {"while", "call", "conditional", "async-start", "async-done"}
_PRODUCTS = {"dot", "convolution"}
_REDUCTIONS = {"reduce", "reduce-window", "sort", "scatter"}
_MOVES = {
    "copy", "transpose", "reshape", "bitcast", "broadcast", "concatenate",
    "slice", "dynamic-slice", "dynamic-update-slice", "pad", "gather",
    "reverse", "iota", "tuple", "get-tuple-element", "parameter", "constant"}


def kinds(text: str) -> dict[str, str]:
  """Instruction -> what it mostly does.

  Args:
    text: of the compiled module.
  """
  module = hlo.parse(text)

  def opcodes(one: hlo.Instruction) -> set[str]:
    inner = [x for role, names in one.called.items() if role == "calls"
             for name in names for x in module.computations[name].values()]
    return {one.opcode}.union(*map(opcodes, inner)) - {"fusion"}

  def kind(found: set[str]) -> str:
    if found & _PRODUCTS:
      return "matrix products, and what is fused with them"
    if found <= _MOVES:
      return "copies and transposes"
    if found & _REDUCTIONS:
      return "reductions, and what is fused with them"
    return "elementwise"

  return {one.name: kind(opcodes(one))
          for part in module.computations.values() for one in part.values()
          if one.opcode not in _OUTER}


def of_steps(
    text: str, work: Callable[[], int], first: Callable[[], int]
) -> dict[str, float]:
  """Kind of instruction -> its share of the time; see `kinds`.

  Args:
    text: of the compiled module that `work` runs.
    work: is traced once.
    first: done before; see `protocol.timed`.
  """
  names = kinds(text)
  total: collections.Counter[str] = collections.Counter()
  first()
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      work()
    file, = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
    for plane in jax.profiler.ProfileData.from_file(file).planes:
      for line in plane.lines:
        for event in line.events:
          name = dict(event.stats).get("hlo_op")
          if name in names and event.name == name:
            total[names[name]] += event.duration_ns
  return {kind: time / total.total() for kind, time in total.most_common()}

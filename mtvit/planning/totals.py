"""Adds up what a compiled step does, with loops by their trip counts.

XLA's own sums count the body of a loop once.
"""

import collections
import dataclasses
import functools
import math
import re
from typing import Any

from mtvit.planning import hlo
from mtvit.planning import products

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all",
               "collective-permute")
# They move nothing themselves.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while",
    "conditional", "call", "after-all", "partition-id", "custom-call"}


@dataclasses.dataclass
class Totals:
  """Of one device in one step.

  Attributes:
    cycles: that the compiler estimates for its cores, without collectives.
    flops: of matrix products and convolutions.
    hbm_bytes: read from and written to main memory.
    blocking: collective -> bytes that it sends, while the cores wait.
    overlapped: likewise, while the cores work.
    unknown_loops: loops without a known trip count, counted once.
  """
  cycles: float = 0.0
  flops: float = 0.0
  hbm_bytes: float = 0.0
  blocking: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  overlapped: collections.Counter = dataclasses.field(
      default_factory=collections.Counter)
  unknown_loops: int = 0

  @property
  def collectives(self) -> dict[str, float]:
    """Collective -> bytes that it sends."""
    return dict(self.blocking + self.overlapped)

  def add(self, other: "Totals", times: float) -> None:
    """Adds so many times another."""
    self.cycles += times * other.cycles
    self.flops += times * other.flops
    self.hbm_bytes += times * other.hbm_bytes
    self.unknown_loops += other.unknown_loops
    for name in ("blocking", "overlapped"):
      for kind, count in getattr(other, name).items():
        getattr(self, name)[kind] += times * count


def of(text: str, num_devices: int) -> Totals:
  """Of a compiled module.

  Args:
    text: of the module.
    num_devices: that it runs on.
  """
  return _Walk(hlo.parse(text), num_devices).computation(None)


class _Walk:
  """The sums of each computation, each made once."""

  def __init__(self, module: hlo.Module, num_devices: int):
    self._module, self._num_devices = module, num_devices
    self.computation = functools.cache(self._computation)

  def _computation(self, name: str | None, fused: bool = False) -> Totals:
    """Of a computation; None for the main one.

    Args:
      name: of it.
      fused: it is the inside of one kernel, whose cycles and bytes are the
        caller's.
    """
    body = self._module.computations[name or self._module.entry]
    total = Totals()
    for x in body.values():
      if not fused:
        total.cycles += x.cycles
        total.hbm_bytes += self._hbm_bytes(x, body)
      total.flops += products.flops(x, body)
      self._add_collective(total, x, body, name or "")
      self._add_called(total, x, body, fused)
    return total

  def _add_called(
      self, total: Totals, x: hlo.Instruction, body: hlo.Computation,
      fused: bool
  ) -> None:
    """Adds what an instruction calls, as often as it does."""
    if x.opcode == "while":
      times = _trip_count(x, body, self._module)
      total.unknown_loops += times is None
      for role in ("body", "condition"):
        total.add(self.computation(x.called[role][0], fused), times or 1)
    elif x.opcode == "conditional":
      branches = [self.computation(name, fused) for role, names
                  in x.called.items() for name in names if role != "to_apply"]
      total.add(max(branches, key=lambda t: (t.cycles, t.flops)), 1)
    elif x.opcode in ("fusion", "call", "async-start"):
      called = x.called.get("calls") or x.called["to_apply"]
      inner = self.computation(called[0], fused or x.opcode != "call")
      if x.opcode == "async-start":
        inner = dataclasses.replace(
            inner, blocking=collections.Counter(),
            overlapped=inner.blocking + inner.overlapped)
      total.add(inner, 1)

  def _add_collective(
      self, total: Totals, x: hlo.Instruction, body: hlo.Computation,
      where: str
  ) -> None:
    """Adds what a chip sends, by the ring algorithms."""
    kind = x.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
      return
    # A collective that the compiler spreads over several kernels stands in
    # each; it counts in the first.
    spread = '"async_collective_fusion_config"' in x.attributes
    if spread and not any("AsyncCollectiveStart" in y.attributes
                          for y in body.values()):
      return
    count = _group_size(x, self._num_devices)
    size = sum(a.bytes for name in x.operands for a in body[name].arrays)
    if kind == "all-reduce" and where.startswith("all-reduce-scatter"):
      kind = "reduce-scatter"
    share = {"all-reduce": 2 * (count - 1) / count, "all-gather": count - 1,
             "collective-permute": 1.0}.get(kind, (count - 1) / count)
    waits = not (spread or x.opcode.endswith("-start"))
    # Typeshed knows only counters of whole numbers.
    sent: Any = total.blocking if waits else total.overlapped
    sent[kind] += share * size

  def _hbm_bytes(self, x: hlo.Instruction, body: hlo.Computation) -> float:
    """Read and written by a kernel or a copy."""
    operands = [body[name] for name in x.operands]
    if x.opcode.endswith("-done") and operands:
      ends = [*operands[0].operands[:1], x.name]
      return sum(body[end].arrays[0].in_hbm for end in ends) * sum(
          a.bytes for a in x.arrays)
    if x.opcode == "custom-call" and 'custom_call_target="__cu' in x.attributes:
      # A GPU's libraries; bytes that they make are their workspace.
      return sum(a.bytes for y in [*operands, x] for a in y.arrays
                 if a.bits > 8)
    if x.opcode in _FREE or x.opcode.endswith(("-start", "-done")):
      return 0.0
    if x.opcode == "fusion":
      return self._fusion_bytes(x, operands)
    arrays = [a for y in operands for a in y.arrays] + [*x.arrays]
    if x.opcode in ("dynamic-slice", "gather", "slice"):
      arrays = [*x.arrays] * 2
    elif x.opcode == "dynamic-update-slice":
      arrays = [*operands[1].arrays] * 2
    return sum(a.bytes for a in arrays if a.in_hbm)

  def _fusion_bytes(
      self, x: hlo.Instruction, operands: list[hlo.Instruction]
  ) -> float:
    """What is only sliced or updated in part counts by that part."""
    inside = self._module.computations[x.called["calls"][0]]
    places = [y for y in inside.values() if y.opcode == "parameter"]
    places.sort(key=lambda y: int(y.inputs))
    total = 0.0
    updated = [_root(inside)]
    if updated[0].opcode == "tuple":
      updated = [inside[name] for name in updated[0].operands]
    for array, y in zip(x.arrays, updated):
      part = _updated_part(y, inside)
      total += array.in_hbm * (array.bytes if part is None else part)
    for operand, place in zip(operands, places):
      parts = [part for name in _names(place, inside)
               for y in inside.values() if name in y.operands
               and y.opcode != "bitcast"
               for part in [_read_part(y, name)]]
      for array in operand.arrays[:1]:
        known = [part for part in parts if part is not None]
        whole = not parts or len(known) < len(parts)
        total += array.in_hbm * (
            array.bytes if whole else min(array.bytes, sum(known)))
    return total


def _trip_count(
    x: hlo.Instruction, caller: hlo.Computation, module: hlo.Module
) -> int | None:
  """How often a loop runs that counts up to a constant; None for others."""
  if x.trip_count is not None:
    return x.trip_count
  body, condition = (
      module.computations[x.called[role][0]] for role in ("body", "condition"))
  start = caller[x.operands[0]]
  test = _root(condition)
  if test.opcode != "compare" or "direction=LT" not in test.attributes or (
      start.opcode != "tuple"):
    return None
  counter, limit = (condition[name] for name in test.operands)
  place = _place(counter)
  if place is None or _root(body).opcode != "tuple":
    return None
  counted = body[_root(body).operands[place]]
  if counted.opcode != "add":
    return None
  steps = [_constant(body[name], body) for name in counted.operands]
  end, end_place = _constant(limit, condition), _place(limit)
  if end is None and end_place is not None:
    end = _constant(caller[start.operands[end_place]], caller)
  begin = _constant(caller[start.operands[place]], caller)
  step = next((n for n in steps if n), None)
  if begin is None or end is None or step is None:
    return None
  return max(0, math.ceil((end - begin) / step))


def _root(body: hlo.Computation) -> hlo.Instruction:
  """What a computation returns."""
  return next(x for x in body.values() if x.is_root)


def _place(x: hlo.Instruction) -> int | None:
  """Which of its argument's parts this is; None for something else."""
  if x.opcode != "get-tuple-element":
    return None
  return int(re.findall(r"index=(\d+)", x.attributes)[0])


def _constant(x: hlo.Instruction, body: hlo.Computation) -> int | None:
  """The value of a constant integer, or of a copy of one."""
  while x.opcode in ("copy", "bitcast", "reshape"):
    x = body[x.operands[0]]
  known = x.opcode == "constant" and re.fullmatch(r"-?\d+", x.inputs)
  return int(x.inputs) if known else None


def _names(x: hlo.Instruction, body: hlo.Computation) -> list[str]:
  """Of an array, under which it is read: its own, and those of bitcasts."""
  names = [x.name]
  for name in names:
    names += [y.name for y in body.values()
              if y.opcode == "bitcast" and name in y.operands]
  return names


def _read_part(x: hlo.Instruction, name: str) -> float | None:
  """Bytes of `name` that an instruction reads; None for all."""
  if x.operands[0] == name:
    if x.opcode in ("dynamic-slice", "slice", "gather"):
      return sum(a.bytes for a in x.arrays)
    if x.opcode == "dynamic-update-slice":
      return 0.0
  return None


def _updated_part(
    x: hlo.Instruction, body: hlo.Computation
) -> float | None:
  """Bytes that an update in place writes; None if it writes all."""
  while x.opcode == "bitcast":
    x = body[x.operands[0]]
  if x.opcode == "dynamic-update-slice":
    return sum(a.bytes for a in body[x.operands[1]].arrays)
  return None


def _group_size(x: hlo.Instruction, num_devices: int) -> int:
  """How many devices take part in a collective."""
  text = x.attributes
  if found := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
    return found[1].count(",") + 1
  if found := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
    return int(found[1])
  if found := re.search(
      r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
    return math.prod(
        int(part or sizes[axis]) for axis, part in re.findall(
            r"'([^']+)'(?::\(\d+\)(\d+))?", found[2]))
  return num_devices

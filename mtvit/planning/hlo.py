"""Reads a compiled module as text: computations, instructions, arrays.

The text is what `jax.stages.Compiled.as_text` gives; its grammar is
https://openxla.org/xla/operation_semantics as printed by HloInstruction. Only
what `totals` needs is read.
"""

import dataclasses
import functools
import math
import re

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<= ]*)\](\{[^{}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|branch_computations|"
                     r"true_computation|false_computation)="
                     r"(\{[^{}]*\}|%?[\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
  """A shape with its type and place.

  Attributes:
    shape: its dimensions.
    bits: of an element; 0 for a token.
    in_hbm: in the chip's main memory; else in on-chip memory.
  """
  shape: tuple[int, ...]
  bits: int
  in_hbm: bool

  @property
  def bytes(self) -> float:
    """Without the padding of its tiles."""
    return math.prod(self.shape) * self.bits / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line.

  Attributes:
    name: without the %.
    opcode: such as "fusion".
    arrays: what it makes; several for a tuple.
    inputs: what stands in its brackets.
    attributes: the rest of the line.
    is_root: what it makes is what its computation returns.
  """
  name: str
  opcode: str
  arrays: tuple[Array, ...]
  inputs: str
  attributes: str
  is_root: bool

  @functools.cached_property
  def operands(self) -> tuple[str, ...]:
    """Names of what it takes."""
    return tuple(_NAME.findall(self.inputs))

  @property
  def called(self) -> dict[str, tuple[str, ...]]:
    """Role, such as "body", -> computations."""
    return {role: tuple(n.strip("% ") for n in names.strip("{}").split(","))
            for role, names in _CALLED.findall(self.attributes)}

  @property
  def cycles(self) -> int:
    """Of one core, as the compiler estimates; 0 where it doesn't."""
    found = re.search(r'"estimated_cycles":"?(\d+)', self.attributes)
    return int(found[1]) if found else 0

  @property
  def trip_count(self) -> int | None:
    """Of a loop; None where the compiler doesn't know it."""
    found = re.search(r'known_trip_count":?\{"n":"?(\d+)', self.attributes)
    return int(found[1]) if found else None


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
  """Computation name -> its instructions by name, in order; and the main one.

  Attributes:
    computations: all of them.
    entry: the main one's name.
  """
  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Module:
  """Reads a module.

  Raises:
    ValueError: it has no ENTRY.
  """
  computations: dict[str, Computation] = {}
  entry, current = None, None
  for line in text.splitlines():
    if line.startswith("}"):
      current = None
    elif current is None:
      if head := _HEAD.match(line):
        current = computations.setdefault(head[2], {})
        entry = head[2] if head[1] else entry
    elif found := _LINE.match(line):
      instruction = _instruction(found[2], found[3], bool(found[1]))
      current[instruction.name] = instruction
  if entry is None:
    raise ValueError("no ENTRY in the text of the compiled module")
  return Module(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
  """From "TYPE opcode(operands), attributes"."""
  end = _closing(text) if text.startswith("(") else text.index(" ")
  opcode, _, rest = text[end:].strip().partition("(")
  close = _closing("(" + rest) - 2
  return Instruction(
      name, opcode, _arrays(text[:end]), rest[:close], rest[close + 1:],
      is_root)


def _closing(text: str) -> int:
  """Just behind the bracket that closes the first one."""
  depth = 0
  for found in re.finditer(r"[()]", text):
    depth += 1 if found[0] == "(" else -1
    if not depth:
      return found.end()
  raise ValueError(f"unbalanced: {text[:80]}")


@functools.lru_cache(maxsize=4096)
def _arrays(text: str) -> tuple[Array, ...]:
  """The arrays of a type; sizes with a bound count as their bound."""
  return tuple(
      Array(tuple(int(d.strip("<= ")) for d in dims.split(",") if d),
            _bits(kind), "S(" not in layout)
      for kind, dims, layout in _ARRAY.findall(text))


def _bits(kind: str) -> int:
  """Of an element: pred is a byte, f8e4m3fn has 8."""
  found = re.match(r"[a-z]+(\d+)", kind)
  return int(found[1]) if found else {"pred": 8}.get(kind, 0)

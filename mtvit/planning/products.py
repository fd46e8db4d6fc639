"""FLOPs of one matrix product or convolution of a compiled module."""

import functools
import math
import re

import numpy as np

from mtvit.planning import hlo


def flops(x: hlo.Instruction, body: hlo.Computation) -> float:
  """Of a product or a convolution: two for each multiplication used."""
  if x.opcode == "dot":
    summed = re.findall(r"lhs_contracting_dims=\{([\d,]*)\}", x.attributes)[0]
    left = body[x.operands[0]].arrays[0].shape
    terms = math.prod([left[int(i)] for i in summed.split(",") if i])
    return 2.0 * math.prod(x.arrays[0].shape) * terms
  if x.opcode != "convolution":
    return 0.0
  left, kernel = (body[name].arrays[0].shape for name in x.operands[:2])
  labels = re.findall(r"dim_labels=(\w+)_(\w+)->(\w+)", x.attributes)[0]
  at = lambda shape, label, axis: shape[labels[label].index(axis)]
  groups = re.search(r"batch_group_count=(\d+)", x.attributes)
  made = x.arrays[0].shape
  found = re.search(r"window=\{([^}]*)\}", x.attributes)
  window = dict(w.split("=") for w in found[1].split()) if found else {}
  positions = 1
  for i in range(len(made) - 2):
    field = lambda name, default, i=i: (
        window[name].split("x")[i] if name in window else default)
    positions *= _positions(
        at(left, 0, str(i)), at(kernel, 1, str(i)), at(made, 2, str(i)),
        int(field("stride", 1)), int(field("pad", "0_0").split("_")[0]),
        int(field("lhs_dilate", 1)), int(field("rhs_dilate", 1)))
  return 2.0 * positions * at(left, 0, "b") / int(
      groups[1] if groups else 1) * at(made, 2, "f") * at(kernel, 1, "i")


@functools.lru_cache(maxsize=4096)
def _positions(
    size: int, kernel: int, made: int, stride: int, pad: int, dilate: int,
    kernel_dilate: int
) -> int:
  """Pairs of an output and a kernel position that meet an input."""
  at = (np.arange(made)[:, None] * stride - pad
        + np.arange(kernel) * kernel_dilate)              # [made, kernel]
  return int(np.sum(
      (at >= 0) & (at <= (size - 1) * dilate) & (at % dilate == 0)))

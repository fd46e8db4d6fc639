"""Estimates as text and as JSON."""

import dataclasses
import json
import pathlib
from typing import Any, Mapping, Sequence

from absl import logging
import jax
import jaxlib

from mtvit.planning import compiler
from mtvit.planning import plans
from mtvit.planning import search
from mtvit.run import files
from mtvit.run import reading


def text(found: plans.Estimate) -> str:
  """What the command prints of one plan."""
  memory = found.memory
  mesh = " x ".join(f"{axis} {size}" for axis, size in found.mesh.items())
  parts = ("parameters", "optimizer", "teacher", "task_state", "batch",
           "activations")
  lines = [
      f"{found.topology}, {found.chips} chips, {mesh}; a chip, a step, "
      f"{found.views:g} views ({plans.NOTE}):",
      "  HBM                 " + ", ".join(
          f"{name.replace('_', ' ')} {_size(getattr(memory, name))}"
          for name in parts if getattr(memory, name)),
      f"    in all            {_size(memory.total)} of "
      f"{_size(memory.capacity)}: {'fits' if memory.fits else 'DOES NOT FIT'}",
      f"  FLOPs               {found.model_flops / 1e9:,.1f} G of the model"]
  if found.custom_calls is not None:
    lines += [
        "  calls of libraries  " + (", ".join(
            f"{count} {name}" for name, count in found.custom_calls.items())
            or "none"),
        f"  read and written    {found.hbm_bytes / 1e9:,.0f} GB",
        "  step                unknown: the compiler for GPUs gives no cycles; "
        f"at the chip's peak {1e3 * found.compute:.2f} ms",
        f"  compiled in         {found.compile_seconds:.0f} s"]
  if found.time is None:
    return "\n".join([*lines, f"  limit               {found.limit}"])
  seconds, sent = found.time, found.interconnect_bytes
  ms = lambda x: f"{x * 1e3:.2f} ms"
  lines[-1] += f", {found.compiled_flops / 1e9:,.1f} G compiled"
  lines += [
      f"  interconnect        {sum(sent.values()) / 1e6:.1f} MB: " + (", ".join(
          f"{kind} {size / 1e6:.1f}" for kind, size in sorted(sent.items()))
          or "nothing"),
      f"  cycles              {found.cycles / 1e6:.2f} M without collectives",
      f"  step                {ms(seconds.step)}: cores {ms(seconds.cores)}, "
      f"waiting for the interconnect {ms(seconds.waiting)}",
      f"    at full speed     FLOPs {ms(seconds.compute)}, HBM "
      f"{ms(seconds.hbm)}, interconnect {ms(seconds.interconnect)}",
      f"  images/s            {found.images_per_second:,.0f}, "
      f"{found.images_per_second / found.chips:,.1f} a chip",
      f"  MFU                 {found.mfu:.1%}",
      f"  limit               {found.limit}",
      f"  compiled in         {found.compile_seconds:.0f} s"]
  if found.unknown_loops:
    lines.append(f"  {found.unknown_loops} loops of unknown length count once")
  return "\n".join(lines)


def _size(size: float | None) -> str:
  """Bytes, for people."""
  if size is None:
    return "more"
  unit, name = next(
      (unit, name) for unit, name in (
          (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
      if size >= 0.1 * unit or unit == 1)
  return f"{size / unit:.2f} {name}"


def line(found: plans.Estimate) -> str:
  """One of many plans."""
  mesh = "x".join(map(str, found.mesh.values()))
  start = (f"mesh {mesh:10} remat {found.settings['remat']:5} "
           f"{found.views:4g} views a chip: ")
  if found.time is None:
    needed = found.memory.total
    return start + "does not fit" + (
        f", needs {_size(needed)}" if needed else "")
  return start + (
      f"{found.images_per_second:,.0f} images/s, MFU {found.mfu:.1%}, "
      f"{_size(found.memory.total)}, {found.compile_seconds:.0f} s")


def write(
    file: pathlib.Path, config: Mapping[str, Any],
    found: Sequence[plans.Estimate]
) -> None:
  """Writes plans as JSON, the file as a whole.

  Args:
    file: to write.
    config: that they start from, as plain values.
    found: all of them.
  """
  best = search.best(found)
  files.write(file, json.dumps(reading.sealed({
      "note": plans.NOTE, "versions": _versions(), "config": config,
      "best": best and dataclasses.asdict(best),
      "estimates": [dataclasses.asdict(x) for x in found],
  }), indent=1) + "\n")


def read(
    file: pathlib.Path, config: Mapping[str, Any]
) -> list[plans.Estimate]:
  """The plans of a file that `write` made of this config and versions.

  A file that can't be used, or is of others, has none; a warning says so.
  """
  try:
    saved = reading.read_json(file)
    if not isinstance(saved, dict) or not isinstance(
        saved.get("estimates"), list):
      raise reading.Unusable("holds no plans")
    if saved.get("versions") != _versions() or (
        saved.get("config") != json.loads(json.dumps(config))):
      return []
    return [plans.from_values(x) for x in saved["estimates"]]
  except FileNotFoundError:
    return []
  except reading.Unusable as e:
    logging.warning("%s %s; it is made anew", file, e)
    return []


def _versions() -> dict[str, str]:
  """What an estimate depends on beside its config."""
  return {"jax": jax.__version__, "jaxlib": jaxlib.__version__,
          **compiler.versions()}

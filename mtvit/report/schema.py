"""JSON files that a report reads, checked before anything relies on them."""

import json
import math
from typing import Any, Mapping

from etils import epath

from mtvit import errors
from mtvit import paths

NUMBER = (int, float)
_DEEPEST = 20
# A key that ends in "?" may be missing or null; other keys may be there too.
CHEAT = [{"task": str, "position": str, "chance": NUMBER, "blank": str,
          "trained": NUMBER, "refitted": NUMBER, "count": NUMBER,
          "slot_bound?": NUMBER, "chance_low?": NUMBER, "chance_high?": NUMBER}]
_LAYER = {"layer": int} | {f"{key}?": NUMBER for key in (
    "cosine", "cosine_centred", "effective_rank", "image_share",
    "position_share", "residual_share", "attention_entropy",
    "attention_distance")}
_SCORED = {"readout": str, "layer": int, "probe": str}
EVALUATION = {
    "run": str, "step": int,
    "data": {"name": str, "train_split": str, "test_split": str,
             "num_train": int, "num_val": int, "num_test": int,
             "classes": [str]},
    "seconds?": NUMBER, "versions?": dict,
    "probes": {
        "chosen": dict,
        "test": [_SCORED | {"accuracy": NUMBER, "low?": NUMBER,
                            "high?": NUMBER, "val_accuracy?": NUMBER}],
        "layers?": [_SCORED | {"val_accuracy": NUMBER}]},
    "diagnostics?": {
        "layers?": [_LAYER],
        "positions?": {
            "r2_row": NUMBER, "r2_column": NUMBER,
            "distance_correlation": NUMBER,
            "accuracy?": {"as_trained": NUMBER, "shuffled": NUMBER,
                          "zeroed": NUMBER}},
        "rank?": [{"readout": str, "rankme": NUMBER,
                   "spread_per_dimension": NUMBER}],
        "dense?": {"accuracy": NUMBER, "low?": NUMBER, "high?": NUMBER,
                   "chance": NUMBER},
        "cheat?": CHEAT}}
RESULT = {"steps?": NUMBER, "seconds?": NUMBER, "versions?": dict}
CONFIG = {"model": dict, "data": dict, "tasks": dict}


def read(file: epath.Path, wanted: Any) -> Any:
  """The content of a JSON file, or None if there is no such file.

  Args:
    file: to read.
    wanted: what it must hold, as above.

  Raises:
    DataError: it is not JSON, or holds something else.
  """
  text = read_text(file)
  if text is None:
    return None
  try:
    value = json.loads(text)
    if _depth(value) > _DEEPEST:
      raise ValueError("nested too deeply")
  except (ValueError, RecursionError) as e:
    raise errors.DataError(
        f"{file} is not JSON: {str(e)[:100]}",
        "remove it, or write it again with what wrote it") from e
  wrong = _wrong(value, wanted, "")
  if wrong:
    raise errors.DataError(
        f"{file} is not what this version writes: {wrong}",
        "remove it, or write it again with what wrote it")
  return value


def read_lines(file: epath.Path) -> list[dict[str, float]]:
  """The reports of a metrics.jsonl: lines with a step, and their numbers.

  Torn lines are left out, as is what is not a finite number.

  Raises:
    DataError: it is not text.
  """
  lines = []
  for text in (read_text(file) or "").splitlines():
    try:
      line = json.loads(text)
    except (ValueError, RecursionError):
      continue
    if isinstance(line, dict) and _is(line.get("step"), NUMBER):
      lines.append({key: value for key, value in line.items()
                    if _is(value, NUMBER) and math.isfinite(value)})
  return [line for line in lines if "step" in line]


def read_text(file: epath.Path) -> str | None:
  """The text of a file, or None if there is no such file.

  Raises:
    DataError: it can't be read.
  """
  try:
    with paths.os_errors(file):
      return file.read_text(encoding="utf-8")
  except (FileNotFoundError, NotADirectoryError):
    return None
  except (OSError, UnicodeDecodeError) as e:
    raise errors.DataError(f"{file} can't be read: {str(e)[:200]}") from e


def _depth(value: Any) -> int:
  """Levels of objects and lists, counted up to one more than are allowed."""
  level, depth = [value], 0
  while level and depth <= _DEEPEST:
    level = [
        child for item in level if isinstance(item, dict | list) for child in
        (item.values() if isinstance(item, dict) else item)]
    depth += 1
  return depth


def _wrong(value: Any, wanted: Any, where: str) -> str:
  """Where a value differs from what is wanted; "" if it does not."""
  if isinstance(wanted, dict):
    if not isinstance(value, Mapping):
      return f"{where or 'it'} must be an object"
    for key, inner in wanted.items():
      name = key.rstrip("?")
      path = f"{where}.{name}".lstrip(".")
      if value.get(name) is None:
        if not key.endswith("?"):
          return f"{path} is missing"
      elif wrong := _wrong(value[name], inner, path):
        return wrong
    return ""
  if isinstance(wanted, list):
    if not isinstance(value, list):
      return f"{where or 'it'} must be a list"
    return next(filter(None, (
        _wrong(item, wanted[0], f"{where}[{i}]")
        for i, item in enumerate(value))), "")
  if _is(value, wanted):
    return ""
  return f"{where} is of another type"


def _is(value: Any, kind: Any) -> bool:
  if isinstance(value, bool):
    return False
  # An integer that is no float can't be drawn, nor shown as a percentage.
  return isinstance(value, kind) and not (
      isinstance(value, int) and abs(value) > 2**62)

"""JSON files that a report reads, checked before anything relies on them."""

import math
from typing import Any

from etils import epath

from mtvit.run import reading

NUMBER = (int, float)
# A key that ends in "?" may be missing or null; other keys may be there too.
CHEAT = [{"task": str, "position": str, "chance": NUMBER, "blank": str,
          "trained": NUMBER, "refitted": NUMBER, "count": NUMBER,
          "slot_bound?": NUMBER, "chance_low?": NUMBER, "chance_high?": NUMBER}]
_LAYER = {"layer": int} | {f"{key}?": NUMBER for key in (
    "cosine", "cosine_centred", "effective_rank", "image_share",
    "position_share", "residual_share", "attention_entropy",
    "attention_distance")}
_SCORED = {"readout": str, "layer": int, "probe": str}
_RETRIEVAL = [{"readout": str, "images": int, "share": NUMBER}]
_PROBES = {
    "chosen": dict,
    "test": [_SCORED | {"accuracy": NUMBER, "low?": NUMBER, "high?": NUMBER,
                        "val_accuracy?": NUMBER}],
    "layers?": [_SCORED | {"val_accuracy": NUMBER}]}
_DIAGNOSTICS = {
    "layers?": [_LAYER],
    "positions?": {
        "r2_row": NUMBER, "r2_column": NUMBER, "distance_correlation": NUMBER,
        "accuracy?": {"as_trained": NUMBER, "shuffled": NUMBER,
                      "zeroed": NUMBER}},
    "rank?": [{"readout": str, "rankme": NUMBER,
               "spread_per_dimension": NUMBER}],
    "dense?": {"accuracy": NUMBER, "low?": NUMBER, "high?": NUMBER,
               "chance": NUMBER},
    "cheat?": CHEAT}
EVALUATION = {
    "run": str, "step": int,
    "data": {"name": str, "train_split": str, "test_split": str,
             "num_train": int, "num_val": int, "num_test": int,
             "classes": [str]},
    "seconds?": NUMBER, "versions?": dict, "unfinished?": str,
    "retrieval?": _RETRIEVAL, "probes?": _PROBES,
    "diagnostics?": _DIAGNOSTICS,
    "random_init?": {"retrieval?": _RETRIEVAL, "probes?": _PROBES,
                     "diagnostics?": _DIAGNOSTICS}}
RESULT = {"steps?": NUMBER, "seconds?": NUMBER, "versions?": dict}
CONFIG = {"model": dict, "data": dict, "tasks": dict}


def read(file: epath.Path, wanted: Any) -> Any:
  """The content of a JSON file.

  Args:
    file: to read.
    wanted: what it must hold, as above.

  Raises:
    FileNotFoundError: there is no such file.
    Unusable: it is damaged, or holds something else.
  """
  return _checked(reading.read_json(file), wanted)


def read_cheat(file: epath.Path) -> Any:
  """The rows of a cheat_index.json; once that was all it had."""
  value = reading.read_json(file)
  return _checked(value.get("rows") if isinstance(value, dict) else value,
                  CHEAT)


def _checked(value: Any, wanted: Any) -> Any:
  wrong = _wrong(value, wanted, "")
  if wrong:
    raise reading.Unusable(f"is not what this version writes: {wrong}")
  return value


def _wrong(value: Any, wanted: Any, where: str) -> str:
  """Where a value differs from what is wanted; "" if it does not."""
  if isinstance(wanted, dict):
    if not isinstance(value, dict):
      return f"{where or 'it'} must be an object"
    for key, inner in wanted.items():
      name = key.rstrip("?")
      path = f"{where}.{name}".lstrip(".")
      if key in value and value[key] is None and inner == NUMBER:
        value[name] = math.nan       # As which JSON has null.
      elif value.get(name) is None:
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

"""Is it good? An evaluation in a sentence, and what to beware of."""

import math
from typing import Any, Mapping

# The probes that a run is judged by -> what they are called.
HEADLINES = {"linear": "linear probe", "knn_k20": "kNN"}
# Validation and test are far apart if they differ by more than these: a share
# of the images, and standard errors of the difference.
FAR, ERRORS = 0.05, 3.0


def chosen_row(
    values: Mapping[str, Any] | None, probe: str
) -> Mapping[str, Any] | None:
  """The test result of the readout that validation chose for a probe.

  Args:
    values: of an evaluation, or of its random init; None gives None.
    probe: its name.
  """
  found = (values or {}).get("probes") or {}
  readout = found.get("chosen", {}).get(probe)
  rows = [row for row in found.get("test", ())
          if row["probe"] == probe and row["readout"] == readout]
  return max(rows, key=lambda row: row["layer"], default=None)


def headline(values: Mapping[str, Any]) -> str:
  """The probes that count, or retrieval, each beside random init.

  Args:
    values: of an evaluation.
  """
  parts = []
  if values.get("retrieval"):
    row, other = (x["retrieval"][0] for x in (values, values["random_init"]))
    parts.append(
        f"{row['share']:.2f} of the views find the other view of their image "
        f"among {row['images']:,} with [{row['readout']}], random init "
        f"{other['share']:.2f}, chance {1 / row['images']:.4f}")
  for probe, title in HEADLINES.items():
    row = chosen_row(values, probe)
    if row is None:
      continue
    text = f"{title} {row['accuracy']:.2f} with [{row['readout']}]"
    other = chosen_row(values.get("random_init"), probe)
    if other is not None:
      gain = 100 * (row["accuracy"] - other["accuracy"])
      text += (f", random init {other['accuracy']:.2f} "
               f"({points(gain)} points)")
    parts.append(text)
  return "; ".join(parts)


def points(gain: float) -> str:
  """A difference with its sign, rounded: "+19", "-2" or "0"."""
  return f"{round(gain):+d}" if round(gain) else "0"


def sets(values: Mapping[str, Any]) -> str:
  """Which images were used."""
  data = values["data"]
  text = (f"{data['name']}: {data['num_train']:,} training and "
          f"{data['num_val']:,} validation images of {data['train_split']}, "
          f"{data['num_test']:,} test images of {data['test_split']}")
  return text + (f"; {len(data['classes'])} classes"
                 if data["classes"] else "")


def warning(values: Mapping[str, Any]) -> str:
  """Says if validation and test are further apart than chance explains.

  Args:
    values: of an evaluation.

  Returns:
    "" if they are not.
  """
  apart = []
  for probe, title in HEADLINES.items():
    row = chosen_row(values, probe)
    if row is None or row.get("val_accuracy") is None:
      continue
    val, test = row["val_accuracy"], row["accuracy"]
    error = math.hypot(_error(val, values["data"]["num_val"]),
                       _error(test, values["data"]["num_test"]))
    if abs(val - test) > max(FAR, ERRORS * error):
      apart.append(f"{title} {val:.2f} and {test:.2f}")
  if not apart:
    return ""
  return (f"validation and test are far apart ({', '.join(apart)}): their "
          "images differ in kind, and what validation chose need not be best "
          "on test")


def _error(share: float, count: int) -> float:
  """The standard error of a share of so many images, never 0 (Agresti)."""
  count += 4
  share = (share * (count - 4) + 2) / count
  return math.sqrt(share * (1 - share) / count)

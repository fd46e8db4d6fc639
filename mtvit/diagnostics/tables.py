"""The diagnostics of an evaluation as text, beside those of random init."""

from typing import Any, Iterable, Mapping

from mtvit.diagnostics import cheat

_LAYERS = {
    "cosine": "cosine", "centred": "cosine_centred", "rank": "effective_rank",
    "image": "image_share", "position": "position_share",
    "residual": "residual_share", "entropy": "attention_entropy",
    "distance": "attention_distance"}


def table(section: Mapping[str, Any], random_init: Mapping[str, Any]) -> str:
  """The section `diagnostics`.

  Args:
    section: of the encoder.
    random_init: the same of random init.
  """
  parts = []
  for title, found in (("layer", section), ("random", random_init)):
    if found.get("layers"):
      parts.append(_layer_table(title, found["layers"]))
  if section.get("positions"):
    parts.append(_position_table(section, random_init))
  if section.get("rank"):
    parts.append(_rank_table(section, random_init))
  if section.get("dense"):
    parts.append(
        "dense probe (2x2 mosaics): {accuracy:.3f} ({low:.3f} .. {high:.3f}), "
        "chance {chance:.3f}".format(**section["dense"])
        + f", random init {random_init['dense']['accuracy']:.3f}")
  if section.get("cheat"):
    parts.append(cheat.table(section["cheat"]))
  return "\n\n".join(parts)


def _layer_table(title: str, rows: Iterable[Mapping[str, Any]]) -> str:
  """One line for each layer."""
  lines = [f"{title:6}" + "".join(f" {name:>8}" for name in _LAYERS)]
  for row in rows:
    values = (row[key] for key in _LAYERS.values())
    lines.append(f"{row['layer']:6}" + "".join(
        " " * 9 if x is None else f" {x:8.3f}" for x in values))
  return "\n".join(lines)


def _rank_table(
    section: Mapping[str, Any], random_init: Mapping[str, Any]
) -> str:
  """RankMe and spread of each readout; behind the slash those of random."""
  other = {row["readout"]: row for row in random_init["rank"]}
  return "\n".join(
      [f"{'readout':12} {'RankMe / random':>16} {'spread / random':>16}"]
      + ["{:12} {:8.1f} /{:6.1f} {:8.3f} /{:6.3f}".format(row["readout"], *(
          x[key] for key in ("rankme", "spread_per_dimension")
          for x in (row, other[row["readout"]])))
         for row in section["rank"]])


def _position_table(
    section: Mapping[str, Any], random_init: Mapping[str, Any]
) -> str:
  """What `positions.describe` gives, and the accuracy if there is one."""
  lines = []
  for title, found in (("position embeddings", section["positions"]),
                       ("  random init", random_init["positions"])):
    lines.append(
        (title + ": R² of row {r2_row:.3f}, of column {r2_column:.3f}; "
         "nearness {distance_correlation:.3f}").format(**found))
    if found["accuracy"]:
      lines.append(
          "  kNN (gap) with embeddings as {} {as_trained:.3f}, shuffled "
          "{shuffled:.3f}, zeroed {zeroed:.3f}".format(
              "trained" if found is section["positions"] else "drawn",
              **found["accuracy"]))
  return "\n".join(lines)

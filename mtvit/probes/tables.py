"""The probes of an evaluation as text, in percent."""

from typing import Any, Mapping, Sequence

from mtvit.probes import frozen

_Rows = Mapping[tuple[str, str], frozen.Row]


def table(probes: Mapping[str, Any], random_init: Mapping[str, Any]) -> str:
  """All readouts and probes, each above what random init reaches.

  Args:
    probes: of the encoder.
    random_init: the same of random init.
  """
  found, at_random = _by_name(probes), _by_name(random_init)
  readouts = list(dict.fromkeys(row["readout"] for row in probes["test"]))
  lines = []
  for names in ((*frozen.KNN, frozen.LINEAR), tuple(frozen.FEWSHOT)):
    names = tuple(name for name in names if name in probes["chosen"])
    lines += [
        "", f"{'test, %':10}" + "".join(f"{name:>17} " for name in names)]
    for readout in readouts:
      for title, rows, chosen in (
          (readout, found, probes["chosen"]),
          ("  random", at_random, random_init["chosen"])):
        lines.append(f"{title:10}" + "".join(
            _cell(rows[readout, name], chosen[name] == readout)
            for name in names))
  lines += ["* the readout that validation chose; intervals of 95 %: bootstrap "
            "over test", "  images, or t over the draws of the few images"]
  for name in frozen.LAYER_PROBES if probes["layers"] else ():
    lines += _layer_table(name, probes["layers"], random_init["layers"])
  return "\n".join(lines[1:])


def retrieval(
    rows: Sequence[Mapping[str, Any]], random_init: Sequence[Mapping[str, Any]]
) -> str:
  """Instance retrieval, the chosen readout first.

  Args:
    rows: of the encoder.
    random_init: the same of random init.
  """
  return "\n".join([f"{'finds the other view, %':24} {'random':>6}"] + [
      f"{row['readout']:12} {100 * row['share']:11.1f} "
      f"{100 * other['share']:6.1f}"
      for row, other in zip(rows, random_init)])


def _by_name(probes: Mapping[str, Any]) -> _Rows:
  return {(row["readout"], row["probe"]): row for row in probes["test"]}


def _cell(row: frozen.Row, chosen: bool) -> str:
  mean, low, high = (100 * row[key] for key in ("accuracy", "low", "high"))
  if row["probe"] in frozen.FEWSHOT:             # Of t, so it is symmetric.
    text = f"{mean:.1f} ±{high - mean:.1f}"
  else:
    text = f"{mean:.1f} ({low:.1f}-{high:.1f})"
  return f"{text:>17}{'*' if chosen else ' '}"


def _layer_table(
    probe: str, rows: Sequence[frozen.Row], at_random: Sequence[frozen.Row]
) -> list[str]:
  """Layers by readouts, on validation; behind the slash random init."""
  found, other = ({
      (row["layer"], row["readout"]): 100 * row["val_accuracy"]
      for row in x if row["probe"] == probe} for x in (rows, at_random))
  layers, readouts = (list(dict.fromkeys(x)) for x in zip(*found))
  lines = ["", f"{probe} on validation, % / random init",
           f"{'layer':6}" + "".join(f"{name:>14}" for name in readouts)]
  for layer in layers:
    lines.append(f"{layer:<6}" + "".join(
        f"{found[layer, name]:7.1f} /{other[layer, name]:5.1f}"
        for name in readouts))
  return lines

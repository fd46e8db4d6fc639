"""What the probes say as text: each figure beside random init's."""

import pytest

from mtvit.probes import frozen
from mtvit.probes import tables


def section(shift):
  """Two readouts; accuracies rise by `shift`."""
  rows = [{"readout": readout, "layer": 6, "probe": probe,
           "accuracy": 0.5 + shift + 0.01 * i, "low": 0.45 + shift,
           "high": 0.56 + shift}
          for i, readout in enumerate(("ct", "gap"))
          for probe in (*frozen.KNN, frozen.LINEAR, *frozen.FEWSHOT)]
  return {"test": rows, "chosen": dict.fromkeys(
      (row["probe"] for row in rows), "gap"), "layers": [
          {"layer": layer, "readout": "gap", "probe": probe,
           "val_accuracy": 0.25 * layer + shift}
          for layer in (0, 1) for probe in frozen.LAYER_PROBES]}


def test_every_figure_stands_above_that_of_random_init():
  lines = tables.table(section(0.2), section(0.0)).splitlines()
  at = [i for i, line in enumerate(lines) if line.startswith("gap")]
  assert [lines[i + 1].split()[0] for i in at] == ["random"] * 2
  assert "71.0 (65.0-76.0)*" in lines[at[0]]
  assert "51.0 (45.0-56.0)*" in lines[at[0] + 1]
  assert "71.0 ±5.0*" in lines[at[1]] and "51.0 ±5.0*" in lines[at[1] + 1]
  assert ["1", "45.0", "/", "25.0"] in [line.split() for line in lines]
  # One readout for each probe, of both.
  assert "".join(lines).count("*") == 2 * 8 + 1
  assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("without", ["layers", "fewshot_10%"])
def test_what_is_not_there_is_left_out(without):
  found = section(0.0)
  if without == "layers":
    found["layers"] = []
  else:
    found["chosen"].pop(without)
  assert without not in tables.table(found, found)

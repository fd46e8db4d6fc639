"""Executes a notebook, in the environment of notebooks.

  python execute.py NOTEBOOK PARAMETERS OUTPUT

PARAMETERS is JSON, name -> value; they follow the cell tagged "parameters". The
notebook with its outputs is written to OUTPUT, also if a cell fails. The kernel
works in OUTPUT's folder.
"""

import json
import pathlib
import sys

import nbclient
import nbformat


def main(notebook, parameters, output):
  """Checks, executes and writes."""
  output = pathlib.Path(output)
  nb = nbformat.read(notebook, as_version=4)
  nbformat.validate(nb)
  cell, = [c for c in nb.cells if "parameters" in c.metadata.get("tags", ())]
  for name, value in json.loads(parameters).items():
    assert f"{name} = " in cell.source, name
    cell.source += f"\n{name} = {value!r}"
  client = nbclient.NotebookClient(
      nb, timeout=1200, kernel_name="python3",
      resources={"metadata": {"path": str(output.parent)}})
  try:
    client.execute()
  finally:
    nbformat.write(nb, output)


if __name__ == "__main__":
  main(*sys.argv[1:])

"""Runs in the other environment: timm and transformers, and never jax.

  python outside.py SCRIPT FOLDER [FOLDER ...]

For each FOLDER runs SCRIPT with `pixels`, float32 [b, 3, h, w], from the uint8
images in FOLDER/images.npz, and writes the arrays in its variable `results` to
FOLDER/results.npz. `snippets(exported)` is what the code in the README.md
of an export gives, run as it stands there.
"""

import os
import pathlib
import re
import runpy
import sys

import numpy as np
import torch


def snippets(exported, pixels):
  """Library and number of the snippet -> its `tokens`."""
  found = {}
  os.chdir(exported.parent)
  for i, code in enumerate(re.findall(
      "```python\n(.*?)```", (exported / "README.md").read_text(), re.S)):
    library = re.match(r"import (\w+)", code)[1]
    if library in ("timm", "transformers"):   # mtvit is not installed here.
      script = exported.parent / f"{exported.name}_{i}.py"
      script.write_text(code)
      made = runpy.run_path(str(script), {"pixels": pixels})
      found[f"{library} {i}"] = made["tokens"]
      if "features" in made:
        found["features"] = made["features"]
  return found


def main():
  script, *folders = sys.argv[1:]
  try:
    import torchvision  # noqa: F401
  except RuntimeError:
    # The build of PyPI is for CUDA, and leaves its operators out on torch for
    # CPU, which then misses them by name. Nothing here calls them.
    for name in [x for x in sys.modules if x.startswith("torchvision")]:
      del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
      library.define(
          f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
  for folder in folders:
    run(script, pathlib.Path(folder))


def run(script, folder):
  """The script, on the images of the folder."""
  with np.load(folder / "images.npz", allow_pickle=False) as file:
    images = torch.from_numpy(file["images"])
  pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
  with torch.no_grad():
    made = runpy.run_path(script, {"images": images, "pixels": pixels,
                                   "folder": folder, "snippets":
                                   lambda x: snippets(x, pixels)})
  results = made.get("results") or {"tokens": made["tokens"]}
  np.savez(folder / "results.npz", **{
      name: np.asarray(x) for name, x in results.items()})


main()

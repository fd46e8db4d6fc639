"""Makes `import torchvision` work where torch is built for CPU.

torchvision from PyPI is built for CUDA and leaves its operators out on torch
for CPU, which then misses them by name. Nothing here calls them.
"""

import sys

import torch

try:
  import torchvision  # noqa: F401
except RuntimeError:
  for name in [x for x in sys.modules if x.startswith("torchvision")]:
    del sys.modules[name]
  # Kept, since the operators go with it.
  LIBRARY = torch.library.Library("torchvision", "DEF")
  for name in ("nms", "qnms"):
    LIBRARY.define(
        f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

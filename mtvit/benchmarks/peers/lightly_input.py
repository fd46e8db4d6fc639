"""The views of lightly's SimCLR, made by torch's DataLoader from files.

Runs in an environment with torch and lightly; speaks `protocol`.
"""

import pathlib
from typing import Any, Callable

import operators  # noqa: F401  First: torchvision needs what it does.
import lightly
from lightly import transforms
from lightly.transforms import multi_view_transform
from lightly.transforms import simclr_transform
from PIL import Image
import protocol
import torch
import torchvision


class Views(torch.utils.data.Dataset):
  """An endless set of the views of image files."""

  def __init__(
      self, folder: str, transform: Callable[[Image.Image], list[torch.Tensor]]
  ):
    self.files = sorted(pathlib.Path(folder).rglob("*.*"))
    self.transform = transform

  def __len__(self) -> int:
    return 10**9

  def __getitem__(self, i: int) -> list[torch.Tensor]:
    with Image.open(self.files[i % len(self.files)]) as image:
      return self.transform(image.convert("RGB"))


def view(
    settings: dict, i: int
) -> simclr_transform.SimCLRViewTransform:
  """The transform of view i: SimCLR's, and solarisation if that is wanted."""
  made = simclr_transform.SimCLRViewTransform(
      input_size=settings["input_size"], cj_prob=settings["cj_prob"],
      cj_strength=settings["cj_strength"], min_scale=settings["min_scale"],
      random_gray_scale=settings["random_gray_scale"],
      gaussian_blur=settings["gaussian_blur"][i], hf_prob=settings["hf_prob"])
  if settings["solarization_prob"][i]:
    # Where lightly's transforms for BYOL have it: before ToTensor.
    steps = made.transform.transforms
    steps.insert(-2, transforms.RandomSolarization(
        prob=settings["solarization_prob"][i]))
  return made


def start(
    settings: dict
) -> tuple[dict[str, Any], dict[str, protocol.Repetition]]:
  """Builds and warms up the loader; see `protocol.serve`."""
  loader = torch.utils.data.DataLoader(
      Views(settings["folder"], multi_view_transform.MultiViewTransform(
          [view(settings, 0), view(settings, 1)])),
      batch_size=settings["batch_size"], num_workers=protocol.cores(),
      drop_last=True)
  batches = iter(loader)
  for _ in range(settings["warm"]):
    next(batches)
  protocol.settle()
  versions = {
      "lightly": lightly.__version__, "torch": torch.__version__,
      "torchvision": torchvision.__version__}
  return {"versions": versions}, {"input": lambda: protocol.drawn(
      batches, settings["batch_size"], settings["batches"])}


if __name__ == "__main__":
  protocol.serve(start)

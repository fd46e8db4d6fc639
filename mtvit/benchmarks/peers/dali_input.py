"""SimCLR's views, made by a pipeline of NVIDIA's DALI on the CPU from files.

Runs in an environment with DALI, and needs no GPU; speaks `protocol`.
"""

import pathlib
from typing import Any, Iterator

import numpy as np
from nvidia import dali
from nvidia.dali import fn
from nvidia.dali import types
import protocol


def view(image: Any, settings: dict, i: int) -> Any:
  """View i of decoded images, with lightly's steps.

  Colours change by one product; torchvision draws the order of four changes.
  """
  happens = lambda p: fn.random.coin_flip(probability=p, dtype=types.BOOL)
  uniform = lambda low, high: fn.random.uniform(range=[low, high])
  size, strength = settings["input_size"], settings["cj_strength"]
  x = fn.random_resized_crop(
      image, size=size, random_area=[settings["min_scale"], 1.0])
  x = fn.flip(x, horizontal=fn.random.coin_flip(
      probability=settings["hf_prob"]))
  jitter = happens(settings["cj_prob"])
  gray = happens(settings["random_gray_scale"])
  change = lambda most: jitter * uniform(-most * strength, most * strength)
  if jitter or gray:
    x = fn.color_twist(
        x, brightness=1 + change(0.8), contrast=1 + change(0.8),
        saturation=(1 + change(0.8)) * (1 - gray), hue=change(0.2 * 360))
  if happens(settings["gaussian_blur"][i]):
    x = fn.gaussian_blur(x, sigma=uniform(0.1, 2.0))
  if happens(settings["solarization_prob"][i]):
    x = fn.lookup_table(
        x, keys=list(range(256)), values=[min(v, 255 - v) for v in range(256)],
        dtype=types.UINT8)
  return x


@dali.pipeline_def(enable_conditionals=True)
def pipeline(settings: dict) -> tuple[Any, Any]:
  """Two views of each image file, uint8 [b, size, size, 3], without end."""
  files = sorted(map(str, pathlib.Path(settings["folder"]).rglob("*.*")))
  encoded, _ = fn.readers.file(files=files)
  image = fn.decoders.image(encoded)
  return view(image, settings, 0), view(image, settings, 1)


def drawn(made: dali.Pipeline) -> Iterator[list[np.ndarray]]:
  """Batches of views, as arrays that stay."""
  while True:
    yield [x.as_array() for x in made.run()]


def start(
    settings: dict
) -> tuple[dict[str, Any], dict[str, protocol.Repetition]]:
  """Builds and warms up the pipeline; see `protocol.serve`."""
  batches = drawn(pipeline(
      settings, batch_size=settings["batch_size"],
      num_threads=protocol.cores(), device_id=None))
  for _ in range(settings["warm"]):
    next(batches)
  protocol.settle()
  return {"versions": {"DALI": dali.__version__}}, {
      "input": lambda: protocol.drawn(
          batches, settings["batch_size"], settings["batches"])}


if __name__ == "__main__":
  protocol.serve(start)

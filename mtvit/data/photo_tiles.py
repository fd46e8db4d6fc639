"""photo_tiles: photographs that only texture and shape tell apart.

A TFDS data set that needs no network: square crops of twelve photographs that
the scikit-image and scikit-learn wheels carry; the label is the photograph.
Each is cut into tiles, of which some are for training, some for validation and
some for testing, all over it: the splits look alike and share no pixel. Each
crop has a light of its own, hues, mean and contrast drawn at random, so that
colour and brightness say nothing of the photograph. Prepared on first use; to
do it by hand:

  python -m mtvit.data.photo_tiles
"""

from typing import Iterator

from PIL import Image
import numpy as np
import tensorflow_datasets as tfds

from mtvit.data import photo_crops
from mtvit.data import source as source_lib

# Package and file, author or origin, licence.
PHOTOGRAPHS = photo_crops.PHOTOGRAPHS | {
    "brick": ("skimage/data/brick.png", "CC0Textures, Bricks25", "CC0"),
    "grass": ("skimage/data/grass.png", "linolafett (DeviantArt)", "CC0"),
    "gravel": ("skimage/data/gravel.png", "CC0Textures, Gravel04", "CC0"),
    "camera": ("skimage/data/camera.png", "Lav Varshney", "CC0"),
}
SIZE = 64                # Side of a stored crop, pixels.
TILE, LEAST = 64, 48     # Side of a tile, and of the smallest crop of one.
# Of each photograph.
CROPS = {"train": 100, "validation": 80, "test": 80}
# Of five tiles in a row one is for testing and the next for validation.
PATTERN = ("test", "validation", "train", "train", "train")
PLAIN = 10               # A crop that deviates less from its mean is left out.
# The light of a crop, in levels of 255: mean gray, and deviation from it.
MEAN, CONTRAST = (103, 153), (27, 74)
TINT = (0.6, 1.4)        # Of gray, by channel; they are scaled to a mean of 1.


def tiles(width: int, height: int, split: str) -> list[tuple[int, int]]:
  """The tiles of a split as their left and top sides, pixels.

  From one row to the next the pattern moves by two tiles, so each column has
  all splits too.
  """
  columns, rows = width // TILE, height // TILE
  left, top = (width - columns * TILE) // 2, (height - rows * TILE) // 2
  return [(left + i * TILE, top + j * TILE)
          for j in range(rows) for i in range(columns)
          if PATTERN[(i + 2 * j) % len(PATTERN)] == split]


def relit(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A crop, float [h, w, 3], in a light that is drawn: uint8 [h, w, 3].

  Its hues turn by one angle, grays are tinted, and mean and contrast are those
  that were drawn, whatever they have been.
  """
  turned = crop @ _turn(rng.uniform(0, 2 * np.pi)).T        # [h, w, 3]
  tint = rng.uniform(*TINT, 3)
  gray = turned.mean(-1, keepdims=True)                     # [h, w, 1]
  lit = turned + gray * (tint / tint.mean() - 1)            # [h, w, 3]
  lit -= lit.mean((0, 1))
  lit *= np.exp(rng.uniform(*np.log(CONTRAST))) / lit.mean(-1).std()
  return np.clip(
      np.round(lit + rng.uniform(*MEAN)), 0, 255).astype(np.uint8)


def _turn(angle: float) -> np.ndarray:
  """Rotation of colours around gray, by Rodrigues' formula: [3, 3]."""
  axis = np.full(3, np.sqrt(1 / 3))
  return (np.cos(angle) * np.eye(3) + np.sin(angle) * np.cross(np.eye(3), axis)
          + (1 - np.cos(angle)) * np.outer(axis, axis))


def crops(name: str, split: str) -> Iterator[np.ndarray]:
  """Square crops of a photograph's tiles, side 48 to 64, resized to 64."""
  photo = Image.fromarray(photo_crops.read(PHOTOGRAPHS[name][0]))
  corners = tiles(photo.width, photo.height, split)
  rng = np.random.default_rng([len(name), *name.encode(), *split.encode()])
  count = 0
  while count < CROPS[split]:
    left, top = corners[rng.integers(len(corners))]
    side = int(rng.integers(LEAST, TILE + 1))
    x, y = (int(corner + rng.integers(0, TILE - side + 1))
            for corner in (left, top))
    crop = np.asarray(photo.crop((x, y, x + side, y + side)).resize(
        (SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
    if crop.mean(-1).std() >= PLAIN:
      count += 1
      yield relit(crop, rng)


class PhotoTiles(photo_crops.PhotoCrops):
  """Crops of tiles of public-domain, CC0 and CC BY photographs."""

  VERSION = tfds.core.Version("1.0.0")
  photographs, splits = PHOTOGRAPHS, tuple(CROPS)

  def make(self, name: str, split: str) -> Iterator[np.ndarray]:
    return crops(name, split)


def open_source(request: source_lib.Request) -> source_lib.Source:
  """Opens a split, after making the files; see `datasets.open_source`."""
  return photo_crops.open_source(request, PhotoTiles)


if __name__ == "__main__":
  PhotoTiles(file_format="array_record").download_and_prepare()

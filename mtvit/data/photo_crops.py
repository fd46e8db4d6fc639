"""photo_crops: a small TFDS data set that needs no network.

Square crops of eight photographs that the scikit-image and scikit-learn wheels
carry; the label is the photograph. Train and test crops come from disjoint
parts of it, left and right. Colour alone nearly tells the photographs apart;
`photo_tiles` asks for more, and has taken the place of this set, which stays
as it is for the runs that began with it. Prepared on first use; to do it by
hand:

  python -m mtvit.data.photo_crops
"""

import contextlib
import importlib.util
import io
import pathlib
from typing import Iterator

from PIL import Image
import numpy as np
import tensorflow_datasets as tfds

from mtvit.data import source as source_lib
from mtvit.data import tfds_sources

SIZE = 64                       # side of a stored crop, pixels
CROPS = {"train": 500, "test": 100}    # of each photograph
TRAIN_SHARE = 0.7               # of the width, from the left; the rest is test
# Package and file, author or origin, licence.
PHOTOGRAPHS = {
    "astronaut": ("skimage/data/astronaut.png", "NASA", "public domain"),
    "chelsea": ("skimage/data/chelsea.png", "Stefan van der Walt", "CC0"),
    "coffee": ("skimage/data/coffee.png", "Rachel Michetti", "CC0"),
    "hubble": ("skimage/data/hubble_deep_field.jpg", "NASA", "public domain"),
    "retina": ("skimage/data/retina.jpg", "Mikael Häggström", "CC0"),
    "rocket": ("skimage/data/rocket.jpg", "SpaceX", "public domain"),
    "china": ("sklearn/datasets/images/china.jpg",
              "danielbuechele (Flickr 6061409035)", "CC BY 2.0"),
    "flower": ("sklearn/datasets/images/flower.jpg",
               "vultilion (Flickr 6056698931)", "CC BY 2.0"),
}


def load(name: str) -> np.ndarray:
  """A photograph, uint8 [h, w, 3], at most 640 pixels wide."""
  return read(PHOTOGRAPHS[name][0])


def read(path: str) -> np.ndarray:
  """The same, by package and file."""
  package, _, file = path.partition("/")
  spec = importlib.util.find_spec(package)      # Does not import the package.
  if spec is None or spec.origin is None:
    raise ModuleNotFoundError(package)
  with Image.open(pathlib.Path(spec.origin).parent / file) as opened:
    image = opened.convert("RGB")
    if image.width > 640:
      image = image.resize((640, round(image.height * 640 / image.width)))
    return np.asarray(image)


def crops(name: str, split: str) -> Iterator[np.ndarray]:
  """Square crops of a photograph, side 64 to 160, resized to 64 pixels."""
  photo = Image.fromarray(load(name))
  border = round(photo.width * TRAIN_SHARE)
  left, right = (0, border) if split == "train" else (border, photo.width)
  rng = np.random.default_rng([len(name), *name.encode(), split == "train"])
  for _ in range(CROPS[split]):
    side = int(rng.integers(64, 161))
    side = min(side, right - left, photo.height)
    x = int(rng.integers(left, right - side + 1))
    y = int(rng.integers(0, photo.height - side + 1))
    crop = photo.crop((x, y, x + side, y + side))
    yield np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


class PhotoCrops(tfds.core.GeneratorBasedBuilder):
  """Crops of public-domain, CC0 and CC BY photographs."""

  VERSION = tfds.core.Version("1.0.0")
  pkg_dir_path = pathlib.Path(__file__).parent    # No metadata files beside it.
  photographs, splits = PHOTOGRAPHS, tuple(CROPS)

  def make(self, name: str, split: str) -> Iterator[np.ndarray]:
    """The crops of a photograph, uint8 [64, 64, 3]."""
    return crops(name, split)

  def _info(self) -> tfds.core.DatasetInfo:
    credits = "; ".join(
        f"{name}: {author}, {licence}"
        for name, (_, author, licence) in self.photographs.items())
    return self.dataset_info_from_configs(
        description="Crops of photographs; the label is the photograph.",
        features=tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
            "label": tfds.features.ClassLabel(
                names=list(self.photographs)),
        }),
        supervised_keys=("image", "label"),
        citation=f"Photographs: {credits}.")

  def _split_generators(self, dl_manager):
    del dl_manager
    return {split: self._generate_examples(split) for split in self.splits}

  def _generate_examples(self, split):
    for name in self.photographs:
      for i, image in enumerate(self.make(name, split)):
        yield f"{name}_{i}", {"image": image, "label": name}


def open_source(
    request: source_lib.Request,
    builder_class: type[PhotoCrops] = PhotoCrops
) -> source_lib.Source:
  """Opens a split, after making the files; see `datasets.open_source`."""
  tfds.display_progress_bar(False)
  try:
    builder = _prepared(builder_class, request.data_dir)
  except FileExistsError:                 # Another process was done first.
    builder = _prepared(builder_class, request.data_dir)
  return tfds_sources.of_builder(builder, builder.name, request.split)


def _prepared(builder_class, data_dir):
  """A builder whose files are there."""
  builder = builder_class(data_dir=data_dir or None, file_format="array_record")
  # It makes its images; what TFDS prints of a download would mislead.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()
  return builder


if __name__ == "__main__":
  PhotoCrops(file_format="array_record").download_and_prepare()

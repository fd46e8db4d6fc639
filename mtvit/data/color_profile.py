"""ICC profiles: what the numbers in a file mean as colours, told in sRGB.

Most profiles are sRGB itself under some name, or no more than a rounding away
from it; these change nothing. The others (Adobe RGB, Display P3, CMYK, gray
with a gamma of its own) are converted by Little CMS.
"""

import functools
import io

from PIL import Image
from PIL import ImageCms
import numpy as np

_SAME = 3         # Levels of 255: profiles that differ by less are sRGB.
_STEPS = 9        # Of each channel, for that comparison.


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
  """A picture in the colours of a profile -> mode RGB, in sRGB.

  Args:
    image: mode L, RGB or CMYK.
    profile: as embedded in the file. One that is damaged, or of other colours
      than the picture's, is left alone.
  """
  conversion = _conversion(profile, image.mode) if profile else None
  return conversion.apply(image) if conversion else image.convert("RGB")


def matters(profile: bytes | None, mode: str) -> bool:
  """Whether `to_srgb` converts pictures of this mode."""
  return bool(profile) and _conversion(profile, mode) is not None


@functools.lru_cache(maxsize=32)      # Few cameras and programs in one folder.
def _conversion(
    profile: bytes, mode: str
) -> ImageCms.ImageCmsTransform | None:
  """From a profile to sRGB; None if there is nothing to convert, or no way."""
  # Its cache of one pixel would be shared by all threads.
  flags = ImageCms.Flags.NOCACHE
  if mode == "L":           # Optimised, dark grays are off by up to 10 levels.
    flags |= ImageCms.Flags.NOOPTIMIZE
  try:
    found = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)), _srgb(), mode, "RGB",
        flags=flags)
  except (ImageCms.PyCMSError, OSError, ValueError):
    return None
  if mode == "CMYK":
    return found
  samples = _samples(mode)
  plain = np.asarray(samples.convert("RGB"), np.int32)      # [h, w, 3]
  differ = np.abs(np.asarray(found.apply(samples), np.int32) - plain)
  return found if differ.max() > _SAME else None


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
  return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _samples(mode: str) -> Image.Image:
  """A picture of colours from all over the cube, or of all grays."""
  if mode == "L":
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
  levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
  cube = np.stack(np.meshgrid(levels, levels, levels), -1)
  return Image.fromarray(cube.reshape(_STEPS, -1, 3))

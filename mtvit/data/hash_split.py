"""Which images are held out where nobody has said so: their names decide.

No state is kept. Whatever comes or goes, an image stays on its side, but for
this: where there are very few images, or more than `MOST` would be held out,
new ones may bring some that were held out into training, never back.
"""

import hashlib
import os
from typing import Sequence

import numpy as np

from mtvit import errors

SHARE = 0.1                 # Of the images.
LEAST, MOST = 2, 5000       # Images that are held out.
ENOUGH = 20                 # Images, of which some can be held out.


def held_out(names: Sequence[str]) -> np.ndarray:
  """Whether each of these images is held out: bool [n].

  Args:
    names: of the images, all different; their order changes nothing.
  """
  hashes = [_hash(name) for name in names]
  count = sum(h < SHARE * 2**64 for h in hashes)
  order = sorted(range(len(names)), key=lambda i: (hashes[i], names[i]))
  chosen = np.zeros(len(names), bool)
  chosen[order[:min(max(count, LEAST), MOST)]] = True
  return chosen


def check(shown: str, count: int) -> None:
  """Raises DataError if there are too few images to hold some out."""
  if count < ENOUGH:
    raise errors.DataError(
        f"{shown} has {count} images that can be used; of {ENOUGH} or more "
        "some can be held out, and there is no other split",
        "add images, or a folder with those to hold out: PATH/train/ and "
        "PATH/test/")


def _hash(name: str) -> int:
  """An integer below 2^64, the same for ever; the name may be any bytes."""
  return int.from_bytes(
      hashlib.sha256(os.fsencode(name)).digest()[:8], "big")

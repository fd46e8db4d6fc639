"""Which images pictures show: different ones, and none without features."""

import numpy as np

CELLS = 6            # In a row and in a column of a view, to compare views by.


def order(views: np.ndarray, per_image: int) -> np.ndarray:
  """Images in the order in which pictures show them.

  Each is as unlike those before it as can be. Left out are those of which a
  view has less than half of the texture that is usual here, such as a clear
  sky with a roof in a corner.

  Args:
    views: uint8 [b, h, w, 3], those of an image adjacent.
    per_image: views of each.

  Returns:
    int [m], numbers of images.
  """
  cells = _cells(views)                             # [b, cells², pixels, 3]
  # Of most parts of a view: a few edges make no texture.
  texture = np.median(cells.std(2).mean(2), axis=1)         # [b]
  texture = texture.reshape(-1, per_image).min(1)           # [images]
  first = cells[::per_image]
  has_color = np.ptp(first, axis=3).mean((1, 2)) > 2
  thumbnails = first.mean(2).reshape(len(first), -1)        # [images, cells² 3]
  left = texture >= np.median(texture) / 2
  chosen = []
  distance = texture + 1e-6       # The first one has most texture.
  while left.any():
    # Views that augmentation has made gray come late: colours tell more.
    best = left & has_color if (left & has_color).any() else left
    i = int(np.argmax(np.where(best, distance, -1)))
    chosen.append(i)
    left[i] = False
    to_it = np.abs(thumbnails - thumbnails[i]).mean(1)
    distance = to_it if len(chosen) == 1 else np.minimum(distance, to_it)
  return np.array(chosen)


def rows(images: np.ndarray, per_image: int) -> np.ndarray:
  """The views of some images, adjacent: int [m] -> [m views]."""
  return (images[:, None] * per_image + np.arange(per_image)).ravel()


def _cells(views: np.ndarray) -> np.ndarray:
  """Cuts views into cells: [b, h, w, 3] -> float32 [b, cells, pixels, 3]."""
  b, h, w, _ = views.shape
  n = min(CELLS, h, w)
  cut = views[:, :h // n * n, :w // n * n].astype(np.float32)
  cut = cut.reshape(b, n, h // n, n, w // n, 3).swapaxes(2, 3)
  return cut.reshape(b, n * n, -1, 3)

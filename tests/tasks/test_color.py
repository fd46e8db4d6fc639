"""CIE Lab against scikit-image."""

import numpy as np
import skimage.color

from mtvit.tasks import color


def test_equals_scikit_image():
  steps = np.linspace(0, 1, 18)
  rgb = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
  want = skimage.color.rgb2lab(rgb)
  got = color.rgb_to_lab(rgb.astype(np.float32))
  np.testing.assert_allclose(got, want, atol=1e-3)
  # Out of gamut values are clipped; those inside come back.
  np.testing.assert_allclose(color.lab_to_rgb(got), rgb, atol=2e-4)
  outside = np.array([[50, 60, -120], [101, 0, 0]], np.float32)
  np.testing.assert_allclose(
      color.lab_to_rgb(outside), skimage.color.lab2rgb(outside), atol=2e-3)


def test_gray_has_no_color():
  gray = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, 1)
  assert np.abs(color.rgb_to_lab(gray)[:, 1:]).max() < 0.02

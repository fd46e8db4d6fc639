"""The command writes the picture that it names."""

import numpy as np
from PIL import Image

from tests import commands


def run(*flags):
  return commands.run(
      "mtvit.tools.inspect_batch", "--config=configs/quickstart.py", *flags)


def test_it_draws_a_batch(image_folder, tmp_path):
  done = run(
      f"--config.data.name=folder:{image_folder}", "--config.batch_size=8",
      f"--config.data.cache_dir={tmp_path}", "--images=2",
      f"--output={tmp_path / 'out' / 'batch.png'}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(tmp_path / "out" / "batch.png")
  drawn = np.asarray(Image.open(done.stdout.strip()).convert("RGB"))
  for color in ((0, 255, 255), (255, 255, 0)):       # Pairs, gray patches.
    near = np.abs(drawn.astype(int) - color).max(-1) < 90
    assert near.sum() > 50, color


def test_a_wrong_suffix_is_refused_early(tmp_path):
  done = run(f"--output={tmp_path / 'batch.tiff'}")
  assert done.returncode == 2 and "must end in .png" in done.stderr

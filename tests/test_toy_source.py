"""A data source from outside the package, as mtvit/data/README.md says."""

import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mtvit import config as config_lib
from mtvit import errors
from mtvit import pretrain
from mtvit.data import datasets
from mtvit.data import source as source_lib
from mtvit.run import config_values
from tests import states


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stripes(source_lib.Source):
  """Images of stripes, drawn when they are asked for; the label is the way."""
  kind = "indexed"

  side: int

  def read(self, i):
    rng = np.random.default_rng(i)
    image = np.zeros((self.side, self.side, 3), np.uint8)
    image[::2 + i // 2 % 3] = rng.integers(64, 256, 3)
    image = image if i % 2 else image.swapaxes(0, 1)
    return tf.io.encode_png(image).numpy()

  def lookup(self, ids):
    def example(i):
      data = tf.numpy_function(self.read, [i], tf.string, stateful=False)
      return tf.ensure_shape(data, []), i % 2, i

    return ids.map(example, **source_lib.PARALLEL)


def open_source(request):
  sizes = {"train": 40, "test": 20}
  if request.split not in sizes:
    raise errors.ConfigError(
        f"stripes have no split {request.split!r}"
        + errors.suggest(request.split, sizes))
  side = int(request.path)
  return Stripes(
      name=f"stripes of {side} pixels", num_examples=sizes[request.split],
      classes=("upright", "level"), fingerprint=f"stripes:{side}:1", side=side)


@pytest.mark.slow
def test_a_source_from_outside_trains_and_resumes(
    tiny, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(datasets.SOURCES, "stripes:", open_source)
  tiny.data.update(name="stripes:24", memory_mb=0)      # Not held.
  for name in ("relative_position", "colorize"):
    tiny.tasks[name].mode = "off"
  config = config_values.to_plain(tiny)
  result = pretrain.pretrain(config, tmp_path / "whole")
  assert result["knn/accuracy"] > 0.9       # Stripes are told from the way.
  shutil.copytree(tmp_path / "whole", tmp_path / "again")
  shutil.rmtree(tmp_path / "again" / "checkpoints" / "4")
  capsys.readouterr()
  pretrain.pretrain(config, tmp_path / "again")
  assert "resuming from step 2 of 4" in capsys.readouterr().out
  states.assert_same(tmp_path / "whole", tmp_path / "again")


def open_split(name, split, tmp_path):
  return datasets.open_source(
      config_lib.Data(name=name, cache_dir=str(tmp_path), memory_mb=1), split,
      min_side=4)


def test_it_is_opened_by_its_name(tmp_path, monkeypatch):
  monkeypatch.setitem(datasets.SOURCES, "stripes:", open_source)
  source = open_split("stripes:24", "test", tmp_path)
  assert source.kind == "held" and source.labels.tolist() == [0, 1] * 10
  assert (source.images[1] == source.images[1][:, :1]).all()
  with pytest.raises(errors.ConfigError, match="no split 'tset'.*test"):
    open_split("stripes:24", "tset", tmp_path)
  with pytest.raises(errors.ConfigError, match="stripe:24: no such data set"):
    open_split("stripe:24", "test", tmp_path)


@pytest.mark.slow
def test_a_folder_needs_no_tfds(image_folder, tmp_path):
  program = (
      "import sys; from mtvit.data import datasets, pipeline\n"
      "from mtvit import config\n"
      f"data = config.Data(name='folder:{image_folder}', memory_mb=1,"
      f" cache_dir={str(tmp_path)!r})\n"
      "s = datasets.open_source(data, 'test', min_side=4)"
      "\nprint(s.num_examples, 'tensorflow_datasets' in sys.modules)")
  done = subprocess.run(
      [sys.executable, "-c", program], capture_output=True, text=True,
      timeout=120)
  assert done.stdout.split() == ["20", "False"], done.stderr

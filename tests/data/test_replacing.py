"""Images that go bad during a run: replaced, counted, and not too many."""

import dataclasses
import os
import pathlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from mtvit import config as config_lib
from mtvit import errors
from mtvit.data import datasets
from mtvit.data import pipeline
from mtvit.data import replacing
from mtvit.data import source as source_lib

COUNT, BATCH, STEPS = 300, 20, 15     # One epoch.


def open_source(root, memory_mb=0):
  return datasets.open_source(
      config_lib.Data(
          name=f"folder:{root}", cache_dir=str(root / "cache"),
          memory_mb=memory_mb, max_pixels=10**6), "train", min_side=4)


@pytest.fixture
def root(tmp_path):
  """300 images in three classes; image i shows the value i // 2."""
  (tmp_path / "test").mkdir()
  for i in range(COUNT):
    folder = tmp_path / "train" / f"class{i // 100}"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (i // 2,) * 3).save(folder / f"{i:03}.png")
  return tmp_path


@pytest.fixture
def spec(parsed):
  augment = dataclasses.replace(
      parsed.augment, jitter=0.0, gray=0.0, blur=(0.0, 0.0),
      solarize=(0.0, 0.0))
  return pipeline.Spec(
      batch_size=BATCH, views=2, image_size=8, patch_size=4, augment=augment,
      passes={}, gray_input=False, seed=0)


def truncate(file):
  data = pathlib.Path(file).read_bytes()
  pathlib.Path(file).write_bytes(data[:len(data) // 2])


def garbage(file):
  pathlib.Path(file).write_text("<html>Service unavailable</html>")


def run(source, spec, start=0, stop=STEPS):
  batches = list(pipeline.Batches(source, spec, start, stop))
  return {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}


def order(spec):
  """Ids of one epoch, as asked for: one for each view."""
  ids = [pipeline.example_ids(spec, tf.constant(s, tf.int64), COUNT).numpy()
         for s in range(STEPS)]
  return np.repeat(np.concatenate(ids), 2)


def test_the_next_good_image_takes_the_place(root, spec, capsys):
  source = open_source(root)
  clean = run(source, spec)
  assert not clean["replaced"].any() and len(source.bad) == 0
  # Two in a row across a class, and the last: 99, 100 -> 101; 299 -> 0.
  stands_in = {99: 101, 100: 101, 299: 0}
  for i, spoil in zip(stands_in, (os.remove, truncate, garbage), strict=True):
    spoil(source.files[i])
  got = run(source, spec)
  asked = order(spec)
  used = np.array([stands_in.get(i, i) for i in asked])
  np.testing.assert_array_equal(clean["index"], asked)
  np.testing.assert_array_equal(got["index"], used)
  np.testing.assert_array_equal(got["replaced"], used != asked)
  np.testing.assert_array_equal(got["label"], used // 100)
  np.testing.assert_array_equal(
      np.round(got["image"].mean((1, 2, 3))), used // 2)
  # Nobody else's images changed, not by a pixel.
  np.testing.assert_array_equal(
      got["image"][used == asked], clean["image"][used == asked])
  said = capsys.readouterr().err.splitlines()
  assert sum("bad image, replaced by another" in line for line in said) == 3
  for i in stands_in:
    assert any(source.files[i] in line for line in said)
  assert sorted(source.bad.reasons) == [99, 100, 299]


@pytest.mark.slow
def test_neither_start_nor_hosts_nor_order_change_what_replaces(root, spec):
  bad = [40, 41, 200]
  sources = [open_source(root) for _ in range(5)]
  for i in bad:
    os.remove(sources[0].files[i])
  whole = run(sources[0], spec)
  assert set(whole["index"][whole["replaced"]]) == {42, 201}
  # Resumed by a process that has seen nothing of it.
  late = run(sources[1], spec, 7)
  for key, x in late.items():
    np.testing.assert_array_equal(x, whole[key][7 * BATCH * 2:])
  # Found in another order, by another reader.
  list(pipeline.eval_batches(sources[2], 8, 16))
  assert list(sources[2].bad.reasons) == bad
  again = run(sources[2], spec)
  hosts = [run(sources[3 + h], dataclasses.replace(
      spec, part=h, parts=2)) for h in range(2)]
  for key, x in whole.items():
    np.testing.assert_array_equal(again[key], x)
    halves = [h[key].reshape(STEPS, BATCH, *x.shape[1:]) for h in hosts]
    np.testing.assert_array_equal(
        np.concatenate(halves, axis=1).reshape(x.shape), x)


def test_a_reader_that_began_before_goes_on(root, spec):
  """Its data set knows nothing of what others found since."""
  source = open_source(root)
  batches = pipeline.Batches(source, spec, 0, STEPS)
  running = iter(batches)
  first = next(running)
  last = pipeline.example_ids(spec, tf.constant(14, tf.int64), COUNT)
  os.remove(source.files[int(last[3])])
  list(pipeline.eval_batches(source, 8, 50))
  assert len(source.bad) == 1
  rest = list(running)
  assert len(rest) == 14 and rest[-1]["replaced"].sum() == 2
  assert not first["replaced"].any()


def test_evaluation_replaces_too(root):
  source = open_source(root)
  for i in (0, 150):
    truncate(source.files[i])
  got = list(pipeline.eval_batches(source, 8, 64))
  assert sum(b["valid"].sum() for b in got) == COUNT
  value = np.concatenate([b["image"][b["valid"], 0, 0, 0] for b in got])
  want = np.arange(COUNT)
  want[[0, 150]] = 1, 151
  np.testing.assert_array_equal(value, want // 2)
  label = np.concatenate([b["label"][b["valid"]] for b in got])
  np.testing.assert_array_equal(label, want // 100)


def test_what_is_held_replaces_and_is_not_cached(root, spec, monkeypatch):
  real = datasets.SOURCES["folder:"]

  def opened(request):      # They go bad just after the check.
    source = real(request)
    for i in (5, 299):
      os.remove(source.files[i])
    return source

  with monkeypatch.context() as m:
    m.setitem(datasets.SOURCES, "folder:", opened)
    source = open_source(root, memory_mb=10)
  assert source.kind == "held" and not list(
      (root / "cache" / "decoded").glob("*.mtvit"))
  got = run(source, spec)
  asked = order(spec)
  used = np.where(asked == 5, 6, np.where(asked == 299, 0, asked))
  np.testing.assert_array_equal(got["index"], used)
  np.testing.assert_array_equal(got["replaced"], used != asked)
  np.testing.assert_array_equal(got["label"], used // 100)
  np.testing.assert_array_equal(
      np.round(got["image"].mean((1, 2, 3))), used // 2)
  # Started again, the two are left out from the beginning.
  again = open_source(root, memory_mb=10)
  assert again.num_examples == 298 and list(
      (root / "cache" / "decoded").glob("*.mtvit"))


@pytest.mark.parametrize("where", ["train", "eval"])
def test_too_many_end_the_run_with_their_list(where, root, spec):
  source = open_source(root)
  for i in range(3, 7):               # 4 of 300.
    os.remove(source.files[i])
  with pytest.raises(errors.DataError, match=(
      r"4 of 300 images went bad .* more than 1%; listed in \S+: \S+003.png"
  )) as e:
    if where == "train":
      run(source, spec)
    else:
      list(pipeline.eval_batches(source, 8, 100))
  message = str(e.value)
  assert e.value.exit_code == 4 and len(message.splitlines()) <= 5
  listed = pathlib.Path(message.partition("listed in ")[2].partition(": ")[0])
  lines = listed.read_text().splitlines()
  assert [line.split()[0] for line in lines] == list(source.files[3:7])
  assert all("No such file" in line for line in lines)


@pytest.mark.parametrize("memory_mb", [0, 10])
def test_an_error_that_is_no_image_is_a_data_error(memory_mb, root, spec):
  source = open_source(root, memory_mb)
  ids = tf.range(4, dtype=tf.int64)

  def make(done):
    return tf.data.Dataset.range(3).map(
        lambda i: tf.debugging.check_numerics(1 / tf.cast(2 - i, tf.float32),
                                              "it is broken"))

  read = replacing.elements(source, make, lambda done: ids)
  assert [float(next(read)) for _ in range(2)] == [0.5, 1.0]
  with pytest.raises(errors.DataError, match="though each .*: it is broken"):
    next(read)


def test_a_cyclic_search_for_the_next_good_one():
  bad = source_lib.Bad()
  assert bad.substitutes(5) == {}
  for i in (4, 0, 2):
    bad.reasons[i] = "broken"
  assert bad.substitutes(5) == {0: 1, 2: 3, 4: 1}

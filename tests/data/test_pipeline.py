"""Batches are a pure function of (seed, step), whatever the hosts."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mtvit.configs import common
from mtvit import config as config_lib
from mtvit.data import datasets
from mtvit.data import pipeline
from mtvit.run import config_values
from mtvit.training import inputs
from mtvit.training import run_tasks


@pytest.fixture
def held(parsed):
  return inputs.sources(parsed)[0]


@pytest.fixture(params=["held", "indexed"])
def source(request, parsed):
  config = parsed
  if request.param == "indexed":
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, memory_mb=0))
  train, _ = inputs.sources(config)
  assert train.kind == request.param
  return train


def batches(parsed, source, start, stop, index=0, count=1, tasks=None):
  spec = dataclasses.replace(
      inputs.pipeline_spec(
          parsed, run_tasks.create(parsed) if tasks is None else tasks),
      part=index, parts=count)
  return list(pipeline.Batches(source, spec, start, stop))


def assert_equal(a, b):
  tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def test_a_batch_depends_on_seed_and_step_alone(parsed, source):
  whole = batches(parsed, source, 0, 7)
  assert len(whole) == 7
  for a, b in zip(whole[3:], batches(parsed, source, 3, 7)):
    assert_equal(a, b)
  other = batches(dataclasses.replace(parsed, seed=1), source, 0, 1)
  image = lambda batch: batch["passes"]["shared"]["image"]
  assert (image(other[0]) != image(whole[0])).any()
  assert (image(whole[0]) != image(whole[1])).any()


def test_tar_shards_give_the_batches_of_a_folder(parsed, image_shards):
  """From any step on, on any number of hosts."""
  def opened(name):
    data = dataclasses.replace(parsed.data, name=name, memory_mb=0)
    return inputs.sources(dataclasses.replace(parsed, data=data))

  folder, _ = opened(parsed.data.name)
  train, test = opened(f"tar:{image_shards}")
  assert train.kind == "indexed" and train.num_examples == 40
  assert train.classes == test.classes == folder.classes
  whole = batches(parsed, folder, 0, 7, tasks=())
  halves = [batches(parsed, train, 4, 7, i, 2, tasks=()) for i in range(2)]
  for one, first, second in zip(whole[4:], *halves, strict=True):
    assert_equal(one, tf.nest.map_structure(
        lambda a, b: np.concatenate([a, b]), first, second))


def everything(tiny):
  """The tiny config with all tasks, some of which look at other views."""
  for name in common.TASKS:
    tiny.tasks[name].mode = "train"
  tiny.tasks.relative_position.update(num_pairs=1)
  tiny.tasks.rotation.views = "shared"
  tiny.tasks.inpaint.fill = "mixed"
  tiny.tasks.colorize.num_patches = 2
  return config_lib.parse(tiny)


def test_two_hosts_make_the_same_global_batch(tiny, source):
  parsed = everything(tiny)
  whole = batches(parsed, source, 0, 3)
  halves = [batches(parsed, source, 0, 3, i, 2) for i in range(2)]
  for one, first, second in zip(whole, *halves):
    joined = tf.nest.map_structure(
        lambda a, b: np.concatenate([a, b]), first, second)
    assert_equal(one, joined)


def test_every_epoch_has_every_example_once_in_another_order(parsed, source):
  # 40 images and batches of 8: epochs of 5 steps.
  ids = np.concatenate(
      [b["index"][::2] for b in batches(parsed, source, 0, 10)])
  first, second = ids[:40], ids[40:]
  assert sorted(first) == sorted(second) == list(range(40))
  assert (first != second).any() and (first != np.arange(40)).any()


def test_views_of_an_image_are_adjacent_and_differ(parsed, source):
  batch = batches(parsed, source, 0, 1, tasks=())[0]
  np.testing.assert_array_equal(batch["index"][::2], batch["index"][1::2])
  np.testing.assert_array_equal(batch["label"][::2], batch["label"][1::2])
  assert (batch["image"][::2] != batch["image"][1::2]).any((1, 2, 3)).all()
  _, labels = read_all(source)
  np.testing.assert_array_equal(batch["label"], labels[batch["index"]])


def read_all(source):
  if source.kind == "held":
    return source.images, source.labels
  records = list(source.lookup(
      tf.data.Dataset.range(source.num_examples)).as_numpy_iterator())
  return (np.stack([source.decode(r[0], r[2]).numpy() for r in records]),
          np.array([r[1] for r in records]))


def test_without_augmentation_a_view_is_the_image(parsed, source):
  augment = dataclasses.replace(
      parsed.augment, crop_scale=(1.0, 1.0), flip=0.0, jitter=0.0, gray=0.0)
  config = dataclasses.replace(
      parsed, augment=augment,
      model=dataclasses.replace(parsed.model, image_size=24))
  batch = batches(config, source, 0, 1, tasks=())[0]
  images, _ = read_all(source)
  got, want = batch["image"].astype(int), images[batch["index"]]
  # An aspect ratio other than 1 still squeezes; the content is the image's.
  assert np.abs(got.mean((1, 2)) - want.mean((1, 2))).max() < 12


def test_switches_do_what_they_say(parsed, held):
  def views(**changes):
    base = dict(flip=0.0, jitter=0.0, gray=0.0)
    augment = dataclasses.replace(parsed.augment, **(base | changes))
    return batches(dataclasses.replace(
        parsed, augment=augment), held, 0, 1, tasks=())[0]

  plain = views()
  assert not plain["gray_view"].any()
  gray = views(gray=1.0)
  assert gray["gray_view"].all()
  assert (np.ptp(gray["image"].astype(int), axis=-1) == 0).all()
  np.testing.assert_array_equal(
      views(flip=1.0)["image"][:, :, ::-1], plain["image"])
  # Blur on the first view only, solarisation on the second only.
  both = views(blur=(1.0, 0.0), solarize=(0.0, 1.0))["image"]
  rough = lambda x: np.abs(np.diff(x.astype(int), axis=2)).mean()
  assert rough(both[::2]) < rough(plain["image"][::2])
  second = plain["image"][1::2].astype(int)
  want = np.where(second >= 128, 255 - second, second)
  assert np.abs(both[1::2] - want)[np.abs(second - 127.5) > 1].max() <= 1
  assert (views(jitter=1.0)["image"] != plain["image"]).any((1, 2, 3)).all()


def test_eval_batches_are_clean_complete_and_padded(parsed, source):
  got = list(pipeline.eval_batches(source, 24, 16))
  assert [b["valid"].sum() for b in got] == [16, 16, 8]
  assert all(len(b["image"]) == 16 for b in got)
  images, labels = read_all(source)
  valid = np.concatenate([b["valid"] for b in got])
  np.testing.assert_array_equal(
      np.concatenate([b["image"] for b in got])[valid], images)
  np.testing.assert_array_equal(
      np.concatenate([b["label"] for b in got])[valid], labels)
  few = list(pipeline.eval_batches(source, 24, 16, limit=4))
  np.testing.assert_array_equal(
      few[0]["label"][few[0]["valid"]], labels[[0, 10, 20, 30]])


def test_separate_passes_corrupt_the_same_views(tiny, parsed, held):
  """Each on its own, and each task as it would with others in its pass."""
  config = everything(tiny)
  separate = dataclasses.replace(config, forward="separate")
  shared, = batches(config, held, 0, 1)
  split, = batches(separate, held, 0, 1)
  clean, = batches(config, held, 0, 1, tasks=())
  assert set(split["passes"]) == {t.name for t in run_tasks.create(config)}
  np.testing.assert_array_equal(
      split["passes"]["contrastive"]["image"], clean["image"])
  turned = split["passes"]["rotation"]["image"]
  for view, label in enumerate(split["answers"]["rotation"]["label"]):
    np.testing.assert_array_equal(
        np.rot90(clean["image"][view], label), turned[view])
  # Only the shared pass turns the views of the patch tasks.
  gray = split["passes"]["colorize"]["image"]
  assert 0 < (gray != clean["image"]).any(-1).mean() < 0.2
  assert_equal(split["answers"]["rotation"], shared["answers"]["rotation"])


def test_gray_input_takes_the_colour_from_every_view(tiny, parsed, held):
  config = everything(tiny)
  colored, = batches(config, held, 0, 1)
  gray, = batches(dataclasses.replace(config, input="gray"), held, 0, 1)
  is_gray = lambda image: (np.ptp(image.astype(int), axis=-1) == 0).all()
  assert is_gray(gray["passes"]["shared"]["image"])
  assert not is_gray(colored["passes"]["shared"]["image"])
  # The colours to predict are still there; pixels to inpaint are gray.
  np.testing.assert_array_equal(
      gray["answers"]["colorize"]["pixels"],
      colored["answers"]["colorize"]["pixels"])
  assert is_gray(gray["answers"]["inpaint"]["pixels"])
  evaluated = next(pipeline.eval_batches(held, 24, 16, gray_input=True))
  assert is_gray(evaluated["image"]) and evaluated["image"].std() > 10


def test_eval_cuts_out_the_centre():
  wide = np.zeros((1, 20, 40, 3), np.uint8)
  wide[0, :, 10:30] = 200
  source = datasets.Source(
      name="wide", num_examples=1, classes=("a",), fingerprint="",
      images=wide, labels=np.zeros(1, np.int32))
  batch = next(pipeline.eval_batches(source, 10, 1))
  assert (batch["image"] == 200).all()


@pytest.mark.slow
def test_a_program_may_end_while_batches_are_read(tiny):
  program = (
      "import json, sys\n"
      "from mtvit import config as config_lib\n"
      "from mtvit.training import inputs\n"
      "from mtvit.data import pipeline\n"
      "config = config_lib.parse(json.loads(sys.argv[1]))\n"
      "train, _ = inputs.sources(config)\n"
      "spec = inputs.pipeline_spec(config, ())\n"
      "batches = iter(pipeline.Batches(train, spec, 0, 10**6))\n"
      "next(batches)\n")
  for _ in range(2):      # It depends on what the threads do at the end.
    done = subprocess.run(
        [sys.executable, "-c", program,
         json.dumps(config_values.to_plain(tiny))],
        capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr

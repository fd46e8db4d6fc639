"""Configuration errors are found early and named."""

import dataclasses

import ml_collections
import pytest

from mtvit.configs import quickstart
from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks
from mtvit.run import config_values


def changed(key, value):
  config = quickstart.get_config().to_dict()
  *sections, last = key.split(".")
  section = config
  for name in sections:
    section = section[name]
  section[last] = value
  return config


@pytest.mark.parametrize("key, value, message", [
    ("batch_sise", 3, r"batch_sise: no such key \(did you mean batch_size\?\)"),
    ("optimizer.base_rl", 1.0, "optimizer.base_rl: no such key"),
    ("seed", 0.5, "seed=0.5 must be of type int"),
    ("seed", True, "seed=True must be of type int"),
    ("seed", 2**32, r"seed=4294967296 must lie in 0 \.\. 4294967295"),
    ("seed", -1, r"seed=-1 must lie in 0 \.\. 4294967295"),
    ("total_steps", 2**63, "total_steps=9223372036854775808 must lie in 0"),
    ("total_epochs", float("inf"), "total_epochs=inf must be finite"),
    ("total_epochs", 10**400, "must be of type float"),
    ("data.data_dir", "a\0b", "data.data_dir=.*must not contain 0 bytes"),
    ("optimizer.base_lr", "fast", "must be of type float"),
    ("optimizer.base_lr", float("nan"), "optimizer.base_lr is nan"),
    ("optimizer.base_lr", -1.0, r"optimizer\.base_lr=-1.0 must lie"),
    ("augment.flip", 1.5, r"augment\.flip=1.5 must lie"),
    ("augment.blur", (0.5, 2.0), r"augment\.blur=2.0 must lie"),
    ("augment.crop_scale", (0.5,), "must be 2 values"),
    ("augment.crop_scale", (0.5, 0.2), "low <= high"),
    ("model.variant", "S", "NAME/PATCH"),
    ("model", 3, "model must be a section"),
    ("total_steps", 0, "set either total_steps"),
    ("total_epochs", 2.0, "set either total_steps"),
    ("batch_size", 1, "batch_size=1"),
    ("log_every", 0, "log_every=0"),
    ("knn.k", -1, "k=-1"),
    ("optimizer.trainable", "(", "no regular expression"),
    ("model.drop_path", 1.0, "drop_path=1.0"),
    ("model.extra_tokens", "ct rot", "extra_tokens"),
    ("views", 3, "views"),
    ("profile_steps", (5, 2), "profile_steps"),
])
def test_what_is_wrong_is_named(key, value, message):
  with pytest.raises(errors.ConfigError, match=message):
    config_lib.parse(changed(key, value))


def test_a_missing_key_has_its_default():
  some = {"total_steps": 3, "knn": {"num_test": 9},
          "tasks": {"inpaint": {"mode": "train"}}}
  parsed = config_lib.parse(some)
  assert dataclasses.replace(parsed, tasks={}) == config_lib.Config(
      total_steps=3, knn=config_lib.Knn(num_test=9))
  assert (parsed.knn.k, parsed.views, parsed.model.remat) == (20, 2, "none")
  # So do tasks, also those that the config does not name.
  assert set(parsed.tasks) == set(tasks.TASKS)
  assert parsed.tasks["inpaint"]["fill"] == "mask"
  assert [name for name, fields in parsed.tasks.items()
          if fields["mode"] != "off"] == ["inpaint"]


def test_every_key_of_every_task_of_the_package_has_a_default():
  for task in tasks.TASKS.values():
    assert set(task.defaults()) == set(task.config_fields())
    assert task().mode == "off"


def test_resolving_changes_no_value_and_is_done_once():
  config = config_values.to_plain(quickstart.get_config())
  assert config_lib.resolved(config) == config     # It has every key.
  del config["knn"]["k"], config["tasks"]["rotation"]
  config["tasks"]["jigsaw"] = {"weight": 3, "typo": 1}
  full = config_lib.resolved(config)
  assert full == config_lib.resolved(full)
  assert full["knn"]["k"] == 20 and full["tasks"]["rotation"]["mode"] == "off"
  # What is wrong stays, for `parse` and `tasks.create` to name.
  assert full["tasks"]["jigsaw"]["typo"] == 1
  assert full["tasks"]["jigsaw"]["kind"] == "patch"


def test_a_config_is_the_same_after_json():
  config = quickstart.get_config()
  values = config_values.to_plain(config)
  assert config_lib.parse(values) == config_lib.parse(config)
  assert isinstance(config, ml_collections.ConfigDict)
  assert config_values.flatten(values)["tasks.colorize.target"] == "pixel"


def test_an_int_may_be_a_float():
  assert config_lib.parse(changed("augment.flip", 1)).augment.flip == 1.0

"""What the configs share: their argument, and the strategies to compare.

  --config=cifar10:strategy=separate,variant=nano/4

A config file states what differs from the defaults, which stand in the
dataclasses of `mtvit.config` and of the tasks. What an option of the argument
sets, the file leaves alone; if both set a key, and not the same, that is an
error. --config.KEY=VALUE changes any key after that.

`variant=NAME/PATCH` sets model.variant. `strategy=NAME` sets tasks.NAME.mode of
the tasks below, of which it trains some; knn.readout; the counts of patches,
which follow from the grid; and what the line says. A task that it does not
know, such as one from outside the package, is as the file has it.

  report       the report's three typical tasks in one forward pass
  patch_level  all seven tasks in one forward pass, on disjoint patches
  separate     one forward pass for each task, on a full corruption of its own:
               sets forward
  matched      the same, with as many targets for each task as patch_level
  harmonised   patch_level on gray inputs (Doersch & Zisserman 2017): sets input
  sit          contrastive, rotation, and reconstruction of blocks of patches
               (SiT, Atito et al. 2021, arXiv:2104.03602): sets weighting.kind
               and how tasks.inpaint corrupts and what it predicts
  control      contrastive alone, under the patch corruptions of patch_level
  report_control  the same, under those of report
  supervised   labels, from scratch
  NAME         a task alone: contrastive, rotation, clustering, ...
"""

import dataclasses
from typing import Any, Mapping

import ml_collections
from ml_collections import config_dict

from mtvit import config as config_lib
from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.models import variants
from mtvit.run import config_values

REPORT = ("contrastive", "relative_position", "colorize")
PATCH_TASKS = ("relative_position", "jigsaw", "inpaint", "colorize")
TASKS = ("contrastive", "rotation", "clustering") + PATCH_TASKS
KNOWN = TASKS + ("supervised",)
ENCODER = config_lib.Config.model.kind
# Strategy -> the tasks that train.
STRATEGIES = {
    "report": REPORT, "patch_level": TASKS, "separate": TASKS,
    "matched": TASKS, "harmonised": TASKS,
    "control": ("contrastive",), "report_control": ("contrastive",),
    "sit": ("contrastive", "rotation", "inpaint"),
} | {name: (name,) for name in KNOWN}


def parse(arg: str, **defaults: str) -> dict[str, str]:
  """Splits "key=value,key=value" over the defaults.

  Raises:
    ValueError: a key is not among the defaults.
  """
  options = dict(defaults)
  for item in filter(None, arg.split(",")):
    key, _, value = item.partition("=")
    if key not in options or not value:
      raise ValueError(
          f"it has no option {item}" + errors.suggest(
              f"{key}=", [f"{key}=" for key in options]))
    options[key] = value
  return options


def config(
    options: Mapping[str, str], counts: Mapping[str, int] | None = None,
    **differences: Any
) -> ml_collections.ConfigDict:
  """A config: the defaults, and over them what options and the file set.

  Args:
    options: of `parse`; strategy and variant are looked at, if they are there.
    counts: key below `tasks` -> patches, pairs or pieces in a forward pass that
      tasks share, where they are not to follow from the grid.
    **differences: what the file sets; a section is a dict.

  Raises:
    ConfigError: there is no such key, or an option sets it otherwise.
    ValueError: there is no such strategy or variant.
  """
  result = base(differences.get("model", {}).get("kind", ENCODER))
  known = config_values.flatten(result.to_dict())
  said = config_values.flatten(differences)
  for key in said:
    # Which evaluators there are, and their keys, is known to who runs them.
    if key not in known and not key.startswith("evaluators."):
      raise errors.ConfigError(
          f"{key}: no such key" + errors.suggest(key, known))
  result.update(differences)
  if options.get("variant"):
    _set("variant", options, {"model.variant": options["variant"]}, said,
         result)
  if options.get("strategy"):
    _set("strategy", options, _of_strategy(
        options["strategy"], result.model, counts or {}), said, result)
  return result


def base(encoder: str = ENCODER) -> ml_collections.ConfigDict:
  """The defaults of all sections, and of all tasks that are registered.

  A key without a default is a placeholder of its type. The section `model` is
  that of the encoder of this name.
  """
  result = ml_collections.ConfigDict(config_lib.defaults(encoder))
  for name, task in tasks_lib.TASKS.items():
    for field in dataclasses.fields(task):
      if (field.name in task.config_fields()
          and field.name not in task.defaults()):
        result.tasks[name][field.name] = config_dict.placeholder(
            field.type if isinstance(field.type, type) else object)
  return result


def _set(
    option: str, options: Mapping[str, str], changes: Mapping[str, Any],
    said: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Sets what an option says, unless the file says otherwise."""
  for key, value in changes.items():
    if said.get(key, value) != value:
      raise errors.ConfigError(
          f"{option}={options[option]} sets {key} to {value!r}, and the config "
          f"file to {said[key]!r}",
          f"another {option}=, or not in the file but --config.{key}="
          f"{said[key]}")
  config.update_from_flattened_dict(changes)


def _of_strategy(
    strategy: str, model: ml_collections.ConfigDict, counts: Mapping[str, int]
) -> dict[str, Any]:
  """The keys that a strategy sets, and to what."""
  if strategy not in STRATEGIES and strategy not in tasks_lib.TASKS:
    raise ValueError(
        f"there is no strategy {strategy}"
        + errors.suggest(strategy, STRATEGIES))
  trained = STRATEGIES.get(strategy, (strategy,))
  corrupts = {"control": PATCH_TASKS, "report_control": REPORT[1:]}.get(
      strategy, ())
  modes = dict.fromkeys(KNOWN, "off") | dict.fromkeys(
      trained, "train") | dict.fromkeys(corrupts, "corrupt")
  side = model.image_size // _patch_side(model)
  readout = "ct" if "contrastive" in trained else (
      "cls" if strategy == "supervised" else "gap")
  return {f"tasks.{name}.mode": mode for name, mode in modes.items()} | {
      f"tasks.{key}": count
      for key, count in (_shared(side**2) | dict(counts)).items()
  } | {"knn.readout": readout} | _OTHERS.get(strategy, lambda side: {})(side)


def _patch_side(model: ml_collections.ConfigDict) -> int:
  """The PATCH of a variant NAME/PATCH; names are those of the encoder."""
  if model.kind == ENCODER:
    return variants.parse_variant(model.variant)[1]
  return int(model.variant.rpartition("/")[2])


def _shared(patches: int) -> dict[str, int]:
  """What a task takes of a grid of so many patches, beside the other tasks.

  Of 64 patches `report` corrupts a quarter; of 16 more, as it takes two pairs
  for position=swap.
  """
  few = max(2, patches * 3 // 32)
  return {
      "relative_position.num_pairs": max(2, patches // 16),
      "jigsaw.num_pieces": few, "jigsaw.num_groups": 1,
      "inpaint.num_patches": few, "colorize.num_patches": max(2, patches // 8)}


def _separate(side: int) -> dict[str, Any]:
  return {
      "forward": "separate", "tasks.relative_position.num_pairs": side**2 // 2,
      "tasks.jigsaw.num_pieces": side**2,
      "tasks.jigsaw.num_groups": (side // 3) ** 2,
      "tasks.inpaint.num_patches": side**2 * 3 // 4,
      "tasks.colorize.num_patches": side**2}


def _sit(side: int) -> dict[str, Any]:
  # Half of the patches, in blocks, become noise or another image's; all pixels
  # are reconstructed; the weights are learned.
  return {"weighting.kind": "uncertainty"} | {
      f"tasks.inpaint.{key}": value for key, value in dict(
          num_patches=side**2 // 2, shape="blocks", fill="mixed",
          target="pixels", error="absolute", scope="all").items()}


# Strategy -> what it sets beside modes and readout, on a grid of that side.
_OTHERS = {
    "separate": _separate, "sit": _sit,
    "matched": lambda side: {"forward": "separate"},
    "harmonised": lambda side: {"input": "gray"},
}

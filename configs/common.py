"""What the configs share: their argument, and the strategies to compare.

  --config=configs/cifar10.py:strategy=separate,variant=nano/4

`variant=NAME/PATCH` picks the model, `strategy=` what is trained, and how.
Counts of patches follow from both, so give them here and not as overrides.

  report       the report's three typical tasks in one forward pass
  patch_level  all seven tasks in one forward pass, on disjoint patches
  separate     one forward pass for each task, on a full corruption of its own
  matched      the same, with as many targets for each task as patch_level
  harmonised   patch_level on gray inputs (Doersch & Zisserman 2017)
  sit          contrastive, rotation, and reconstruction of blocks of patches
               (SiT, Atito et al. 2021, arXiv:2104.03602)
  control      contrastive alone, under the patch corruptions of patch_level
  report_control  the same, under those of report
  supervised   labels, from scratch
  NAME         a task alone: contrastive, rotation, clustering, ...
"""

import ml_collections

from mtvit.models import variants

REPORT = ("contrastive", "relative_position", "colorize")
PATCH_TASKS = ("relative_position", "jigsaw", "inpaint", "colorize")
TASKS = ("contrastive", "rotation", "clustering") + PATCH_TASKS
# Strategy -> the tasks that train.
STRATEGIES = {
    "report": REPORT, "patch_level": TASKS, "separate": TASKS,
    "matched": TASKS, "harmonised": TASKS,
    "control": ("contrastive",), "report_control": ("contrastive",),
    "sit": ("contrastive", "rotation", "inpaint"),
} | {name: (name,) for name in TASKS + ("supervised",)}


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
          f"the config has no option {item!r}; there are "
          f"{', '.join(f'{key}=' for key in options)}")
    options[key] = value
  return options


def set_strategy(config: ml_collections.ConfigDict, strategy: str) -> None:
  """Changes a config that lists every task, as in `patch_level`.

  Raises:
    ValueError: there is no such strategy.
  """
  if strategy not in STRATEGIES:
    raise ValueError(
        f"strategy={strategy} is none of {', '.join(STRATEGIES)}")
  tasks, trained = config.tasks, STRATEGIES[strategy]
  for name in tasks:
    tasks[name].mode = "train" if name in trained else "off"
  _, patch = variants.parse_variant(config.model.variant)
  side = config.model.image_size // patch
  if strategy in ("separate", "matched"):
    config.forward = "separate"
  if strategy == "separate":
    tasks.relative_position.num_pairs = side**2 // 2
    tasks.jigsaw.num_pieces = tasks.colorize.num_patches = side**2
    tasks.jigsaw.num_groups = (side // 3) ** 2
    tasks.inpaint.num_patches = side**2 * 3 // 4
  if strategy == "harmonised":
    config.input = "gray"
  if strategy in ("control", "report_control"):
    for name in PATCH_TASKS if strategy == "control" else REPORT[1:]:
      tasks[name].mode = "corrupt"
  if strategy == "sit":
    # Half of the patches, in blocks, become noise or another image's; all
    # pixels are reconstructed; the weights are learned.
    config.weighting.kind = "uncertainty"
    tasks.inpaint.update(
        num_patches=side**2 // 2, shape="blocks", fill="mixed",
        target="pixels", error="absolute", scope="all")
  if "contrastive" not in trained:
    config.knn.readout = "cls" if strategy == "supervised" else "gap"

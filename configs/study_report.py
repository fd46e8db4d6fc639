"""The study of the report's claims: many tasks at once, against their controls.

  mtvit study plan configs/study_report.py:cpu --data=folder:PATH
  mtvit study run configs/study_report.py:cpu --data=folder:PATH
  mtvit study show configs/study_report.py:cpu

PATH holds CIFAR-10 as train/<class>/ and test/<class>/; without --data it is
the TFDS data set. Arms that share a seed see the same images in the same order,
the same crops and the same first encoder. All that can change a result is
stated here, so that a later change of a default changes nothing.

  smoke     pico on built-in photographs, 6 steps: the machinery, no verdict
  cpu       pico/4 on CIFAR-10, 2 CPU cores
  gpu       nano/4 on CIFAR-10 in bfloat16, one GPU
  imagenet  S/16 on ImageNet-1k, a TPU slice or 8 GPUs
"""

from typing import Any

from mtvit.study import arms

TASKS = ("contrastive", "rotation", "clustering", "relative_position",
         "jigsaw", "inpaint", "colorize")
REPORT = ("contrastive", "relative_position", "colorize")
# Section -> key -> value, of all tiers; a tier's own come on top.
PINNED: dict[str, dict[str, Any]] = {
    "augment": dict(
        crop_scale=(0.2, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.5,
        gray=0.2, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
    "optimizer": dict(
        base_lr=2e-3, warmup=0.1, weight_decay=0.05, decay="kernel$", b1=0.9,
        b2=0.99, clip_norm=1.0, layer_decay=1.0, trainable=""),
    "model": dict(
        image_size=32, dtype="float32", position_init="normal",
        activation="gelu_tanh", drop_path=0.0, layer_scale=0.0, registers=0,
        class_position=False, rotary_base=0.0, norm_epsilon=1e-6,
        freeze_patch_embed=False),
    "weighting": dict(kind="fixed"),
    "tasks.contrastive": dict(
        kind="infonce", temperature=0.2, hidden_dim=256, num_hidden=2,
        out_dim=128, weight=1.0),
    "tasks.rotation": dict(hidden_dim=256, views="both_views", weight=1.0),
    "tasks.clustering": dict(
        num_prototypes=128, temperature=0.1, epsilon=0.05, iterations=3,
        hidden_dim=256, num_hidden=2, out_dim=128, weight=1.0),
    "tasks.relative_position": dict(
        pairs="neighbours", num_pairs=4, position="keep", crop=1.15, jitter=0.8,
        jitter_strength=0.5, gray=0.2, hidden_dim=256, weight=1.0),
    "tasks.jigsaw": dict(
        kind="patch", num_pieces=6, num_groups=1, position="keep",
        hidden_dim=256, weight=1.0),
    "tasks.inpaint": dict(
        num_patches=6, fill="mask", shape="random", scope="missing",
        error="squared", target="normalised", region="whole", hidden_dim=256,
        weight=1.0),
    "tasks.colorize": dict(
        num_patches=8, target="pixel", hidden_dim=256, weight=1.0),
    "tasks.supervised": dict(
        readout="cls", smoothing=0.0, mixup=0.0, cutmix=0.0, weight=1.0,
        num_classes=10),
    # What the study measures it measures itself, when a run has ended.
    "knn": dict(every_steps=0, k=0),
}
# Tier -> config, seeds, keys. The length is in `total_steps`.
TIERS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "smoke": ("cifar10:variant=pico/4", 2, {
        "data.name": "photo_tiles", "total_steps": 6, "batch_size": 32,
        "tasks.supervised.num_classes": 12, "tasks.clustering.num_prototypes":
        32}),
    "cpu": ("cifar10:variant=pico/4", 5, {
        "total_steps": 300, "batch_size": 256}),
    "gpu": ("cifar10:variant=nano/4", 5, {
        "total_steps": 1200, "batch_size": 512, "model.dtype": "bfloat16"}),
    "imagenet": ("imagenet:variant=S/16", 3, {
        "total_epochs": 0.0, "total_steps": 31_200, "batch_size": 4096,
        "augment.crop_scale": (0.08, 1.0), "augment.blur": (1.0, 0.1),
        "augment.solarize": (0.0, 0.2), "model.image_size": 224,
        "model.dtype": "bfloat16", "optimizer.base_lr": 1.5e-4,
        "optimizer.weight_decay": 0.1, "optimizer.b2": 0.95,
        "tasks.relative_position.num_pairs": 12, "tasks.jigsaw.num_pieces": 18,
        "tasks.jigsaw.num_groups": 2, "tasks.inpaint.num_patches": 18,
        "tasks.colorize.num_patches": 24, "tasks.supervised.num_classes": 1000,
        "tasks.clustering.num_prototypes": 3000, **{
            f"tasks.{name}.hidden_dim": 1024 for name in TASKS},
        "tasks.contrastive.hidden_dim": 4096, "tasks.contrastive.out_dim": 256,
        "tasks.clustering.hidden_dim": 2048,
        "model.freeze_patch_embed": True}),
}
# Images that `smoke` looks at.
FEW = dict(num_train=200, num_test=100, layers=32, mosaics=(64, 32),
           heldout=64, cheat_steps=3, permutations=1)


def get_study(tier: str = "cpu") -> arms.Study:
  """The arms, the runs and what is asked of them; `tier` is one of `TIERS`."""
  config, seeds, own = TIERS[tier]
  changes = {f"{section}.{key}": value for section, keys in PINNED.items()
             for key, value in keys.items()} | own
  steps = changes["total_steps"]
  # Six looks at the gradients, two in each third.
  changes |= {"diagnose_every": max(1, steps // 6)}
  third = {"total_steps": steps // 3, "diagnose_every": max(1, steps // 18)}
  smoke = tier == "smoke"
  of_core = seeds
  of_alone = 1 if smoke else 3
  of_rest = 1 if smoke else seeds
  return arms.Study(
      config=config, seeds=seeds, changes=changes,
      arms=(*_core(of_core), *_rest(of_rest, third), *_alone(of_alone),
            *_single()),
      comparisons=tuple(
          arms.Comparison(arm, against) for arm, against in (
              ("contrastive", "random"), ("report", "contrastive"),
              ("report", "control"), ("all", "contrastive"),
              ("all", "all_control"), ("report_drop", "report"),
              ("report_swap", "report"), ("report_sincos", "report"),
              ("separate_compute", "report"), ("report", "harmonised"))),
      measures=FEW if smoke else {"cheat_steps": 100},
      claims="mtvit.study.report_claims", cost_against="contrastive")


def _core(seeds: int) -> list[arms.Arm]:
  """What claims 1 and 2 need."""
  def arm(name, strategy, changes=None, **fields):
    return arms.Arm(name, changes or {}, argument=f"strategy={strategy}",
                    seeds=seeds, **fields)

  position = lambda how: {"tasks.relative_position.position": how}
  return [
      arm("random", "contrastive", train=False),
      arm("contrastive", "contrastive"), arm("control", "report_control"),
      arm("report", "report"), arm("report_drop", "report", position("drop")),
      arm("report_swap", "report", position("swap")),
      arm("all", "patch_level"), arm(
          "all_control", "control", {"tasks.rotation.mode": "corrupt"})]


def _rest(seeds: int, third: dict[str, int]) -> list[arms.Arm]:
  """The other arms of all seeds; `third` is what a third as long is."""
  return [
      arms.Arm("report_sincos", {
          "model.position_init": "sincos",
          "optimizer.trainable": "^(?!encoder/position$)"},
          "strategy=report", seeds),
      arms.Arm("separate_compute", _passes() | third, "strategy=matched",
               seeds),
      arms.Arm("harmonised", {"input": "gray"}, "strategy=report", seeds)]


def _alone(seeds: int) -> list[arms.Arm]:
  """Each task, under the corruptions of all."""
  return [
      arms.Arm(f"alone_{name}", {
          **{f"tasks.{x}.mode": "corrupt" for x in TASKS if x != name},
          "knn.readout": "ct" if name == "contrastive" else "gap"},
          "strategy=patch_level", seeds)
      for name in TASKS]


def _single() -> list[arms.Arm]:
  """One seed: what is told beside the verdicts, the weights, the gates."""
  patch = "tasks.relative_position"
  weighed = {"relative_position": ["relative_position"],
             "colorize": ["colorize"], "others": TASKS[1:]}
  return [
      arms.Arm("separate", _passes(), "strategy=matched", 1),
      *(arms.Arm(f"pair_{name}", {f"tasks.{other}.mode": "off"},
                 "strategy=report", 1)
        for name, other in (REPORT[1:], REPORT[:0:-1])),
      arms.Arm("supervised", {}, "strategy=supervised", 1),
      *(arms.Arm(f"weight_{name}_{how}",
                 {f"tasks.{x}.weight": weight for x in names},
                 "strategy=patch_level", 1)
        for name, names in weighed.items()
        for how, weight in (("times_3", 3.0), ("over_3", 1 / 3))),
      arms.Arm("contrastive_again", {}, "strategy=contrastive", 1),
      arms.Arm("control_nothing", {
          "tasks.colorize.mode": "off", f"{patch}.crop": 1.0,
          f"{patch}.jitter": 0.0, f"{patch}.gray": 0.0},
          "strategy=report_control", 1)]


def _passes() -> dict[str, str]:
  """A forward pass for each of the report's tasks."""
  return {f"tasks.{x}.mode": "off" for x in TASKS if x not in REPORT}

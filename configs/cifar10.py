"""CIFAR-10 with a nano ViT: the report's tasks, and what they compare with.

  bash launch/local.sh mtvit.pretrain \
      --config=configs/cifar10.py:strategy=patch_level \
      --config.data.name=folder:PATH --workdir=runs/cifar10

PATH holds train/<class>/ and test/<class>/; without it the TFDS data set is
used. The strategies are in configs/common.py; the default is `report`.
`,variant=nano/4` cuts smaller patches (4 times the patches).

Hardware: 2 CPU cores. Expect: see the tables in README.md.
"""

import ml_collections

from configs import common
from mtvit.models import variants


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """32 px images; the argument is strategy=NAME,variant=NAME/PATCH."""
  options = common.parse(arg, strategy="report", variant="nano/8")
  variant = options["variant"]
  patches = (32 // variants.parse_variant(variant)[1]) ** 2
  # Of 64 patches `report` corrupts a quarter; of 16 more, as it takes two pairs
  # for position=swap.
  few, pairs = max(2, patches * 3 // 32), max(2, patches // 16)
  config = ml_collections.ConfigDict(dict(
      seed=0, total_steps=600, total_epochs=0.0,
      batch_size=256,             # images
      accumulate=1,
      views=2, input="rgb", forward="shared",
      data=dict(
          name="cifar10", train_split="train", test_split="test",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048,
          max_pixels=100_000_000),
      augment=dict(
          crop_scale=(0.2, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.5,
          gray=0.2, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
      model=dict(
          variant=variant, image_size=32, dtype="float32", remat="none",
          unroll=0, freeze_patch_embed=False, position_init="normal",
          activation="gelu_tanh", drop_path=0.0, extra_tokens=""),
      tasks=dict(
          contrastive=dict(
              mode="train", weight=1.0, kind="infonce", temperature=0.2,
              hidden_dim=256, num_hidden=2, out_dim=128, momentum=0.99,
              queue_size=4096),
          rotation=dict(
              mode="train", weight=1.0, views="both_views", hidden_dim=256),
          clustering=dict(
              mode="train", weight=1.0, num_prototypes=128, temperature=0.1,
              epsilon=0.05, iterations=3, hidden_dim=256, num_hidden=2,
              out_dim=128),
          relative_position=dict(
              mode="train", weight=1.0, pairs="neighbours",
              num_pairs=pairs, position="keep", crop=1.15, jitter=0.8,
              jitter_strength=0.5, gray=0.2, hidden_dim=256),
          jigsaw=dict(
              mode="train", weight=1.0, kind="patch", num_pieces=few,
              num_groups=1, num_permutations=100, position="keep",
              hidden_dim=256),
          inpaint=dict(
              mode="train", weight=1.0, num_patches=few, region="whole",
              fill="mask", shape="random", target="normalised",
              error="squared", scope="missing", hidden_dim=256),
          colorize=dict(
              mode="train", weight=1.0, num_patches=max(2, patches // 8),
              target="pixel", hidden_dim=256),
          supervised=dict(
              mode="off", weight=1.0, num_classes=10, readout="cls",
              smoothing=0.0, mixup=0.0, cutmix=0.0)),
      weighting=dict(kind="fixed", dwa_window=50, dwa_temperature=2.0),
      optimizer=dict(
          base_lr=2e-3, warmup=0.1, weight_decay=0.05, decay="kernel$",
          b1=0.9, b2=0.99, clip_norm=1.0, layer_decay=1.0, trainable=""),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(
          every_steps=200, num_train=5000, num_test=1000, final_num_train=0,
          final_num_test=0, k=20, temperature=0.07, readout="ct"),
      log_every=10, diagnose_every=100, checkpoint_every=100,
      keep_checkpoints=2, init_from="", profile_steps=(0, 0),
      max_skipped_steps=10, watchdog_seconds=1800))
  common.set_strategy(config, options["strategy"])
  return config

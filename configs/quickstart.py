"""All seven tasks in one forward pass, on built-in photographs.

  bash launch/local.sh

`:strategy=NAME` trains others; see common.py. Hardware: 2 CPU cores, 6 minutes
(Intel Xeon). Expect: the table in configs/README.md.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The quickstart; every key can be overridden, as --config.KEY=VALUE."""
  options = common.parse(arg, strategy="patch_level")
  config = ml_collections.ConfigDict(dict(
      seed=0, total_steps=1000, total_epochs=0.0,
      batch_size=64,              # images
      accumulate=1,
      views=2, input="rgb", forward="shared",
      data=dict(
          name="photo_crops", train_split="train", test_split="test",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048,
          max_pixels=100_000_000),
      augment=dict(
          crop_scale=(0.5, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.25,
          gray=0.1, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
      model=dict(
          variant="pico/8", image_size=48, dtype="float32", remat="none",
          unroll=0, freeze_patch_embed=False,
          position_init="sincos",
          activation="gelu_tanh", drop_path=0.0, extra_tokens=""),
      # Rotation and jigsaw are slow to start; their weights let minutes do.
      tasks=dict(
          contrastive=dict(
              mode="train", weight=1.0, kind="infonce", temperature=0.2,
              hidden_dim=256, num_hidden=2, out_dim=128, momentum=0.99,
              queue_size=2048),
          rotation=dict(
              mode="train", weight=3.0, views="shared", hidden_dim=256),
          clustering=dict(
              mode="train", weight=1.0, num_prototypes=32, temperature=0.1,
              epsilon=0.05, iterations=3, hidden_dim=256, num_hidden=2,
              out_dim=128),
          relative_position=dict(
              mode="train", weight=1.0, pairs="neighbours", num_pairs=2,
              position="keep", crop=1.15, jitter=0.8, jitter_strength=0.2,
              gray=0.2, hidden_dim=256),
          jigsaw=dict(
              mode="train", weight=10.0, kind="patch", num_pieces=6,
              num_groups=1, num_permutations=100, position="keep",
              hidden_dim=256),
          inpaint=dict(
              mode="train", weight=1.0, num_patches=3, region="whole",
              fill="mask", shape="random", target="normalised",
              error="squared", scope="missing", hidden_dim=256),
          colorize=dict(
              mode="train", weight=1.0, num_patches=4, target="pixel",
              hidden_dim=256),
          supervised=dict(
              mode="off", weight=1.0, num_classes=8, readout="cls",
              smoothing=0.0, mixup=0.0, cutmix=0.0)),
      weighting=dict(kind="fixed", dwa_window=50, dwa_temperature=2.0),
      optimizer=dict(
          base_lr=3e-3, warmup=0.1, weight_decay=0.05, decay="kernel$",
          b1=0.9, b2=0.99, clip_norm=1.0, layer_decay=1.0, trainable=""),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(
          every_steps=200, num_train=2000, num_test=400, final_num_train=0,
          final_num_test=0, k=20, temperature=0.07, readout="ct"),
      log_every=20, diagnose_every=200, checkpoint_every=200,
      keep_checkpoints=2, init_from="", profile_steps=(0, 0),
      max_skipped_steps=10, watchdog_seconds=1800))
  common.set_strategy(config, options["strategy"])
  return config

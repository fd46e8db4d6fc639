"""CIFAR-10 with a nano ViT and the report's three tasks.

  bash launch/local.sh mtvit.pretrain --config=configs/cifar10.py \
      --config.data.name=folder:PATH --workdir=runs/cifar10

PATH holds train/<class>/ and test/<class>/; without it the TFDS data set is
used. `:variant=nano/4` takes smaller patches (4 times the patches).

Hardware: 2 CPU cores. Expect: see the table in README.md.
"""

import ml_collections


def get_config(arg: str = "variant=nano/8") -> ml_collections.ConfigDict:
  """32 px images; the argument is variant=NAME/PATCH."""
  variant = arg.removeprefix("variant=")
  return ml_collections.ConfigDict(dict(
      seed=0,
      total_steps=600,
      total_epochs=0.0,
      batch_size=256,             # images; each gives two views
      data=dict(
          name="cifar10", train_split="train", test_split="test",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048),
      augment=dict(
          crop_scale=(0.2, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.5,
          gray=0.2, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
      model=dict(
          variant=variant, image_size=32, dtype="float32", remat="none",
          unroll=0, freeze_patch_embed=False,
          position_init="normal"),
      tasks=dict(
          contrastive=dict(
              mode="train", weight=1.0, temperature=0.2, hidden_dim=256,
              num_hidden=2, out_dim=128),
          relative_position=dict(
              mode="train", weight=1.0, num_pairs=1, position="keep",
              crop=1.15, jitter=0.8, jitter_strength=0.5, gray=0.2,
              hidden_dim=256),
          colorize=dict(
              mode="train", weight=1.0, num_patches=4, target="pixel",
              hidden_dim=256)),
      optimizer=dict(
          base_lr=2e-3, warmup=0.1, weight_decay=0.05, decay="kernel$",
          b1=0.9, b2=0.99, clip_norm=1.0),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(
          every_steps=200, num_train=5000, num_test=1000, final_num_train=0,
          final_num_test=0, k=20, temperature=0.07, readout="ct"),
      log_every=10,
      checkpoint_every=100,
      keep_checkpoints=2,
      init_from="",
      profile_steps=(0, 0)))

"""ImageNet-1k with the report's three tasks, for TPU slices and GPUs.

  bash launch/prepare_tfds.sh imagenet2012
  bash launch/local.sh mtvit.pretrain \
      --config=configs/imagenet.py:variant=S/16 --workdir=DIR

`:variant=` takes Ti/16, S/16, B/16, L/16, H/14 or g/14. Larger variants want
mesh.fsdp above 1 and remat=dots or full.

Hardware, hours and expected number: not measured yet.
"""

import ml_collections


def get_config(arg: str = "variant=S/16") -> ml_collections.ConfigDict:
  """224 px images; the argument is variant=NAME/PATCH."""
  variant = arg.removeprefix("variant=")
  return ml_collections.ConfigDict(dict(
      seed=0,
      total_steps=0,
      total_epochs=300.0,
      batch_size=4096,            # images; each gives two views
      data=dict(
          name="imagenet2012", train_split="train",
          test_split="validation",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048),
      augment=dict(
          crop_scale=(0.08, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.5,
          gray=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)),
      model=dict(
          variant=variant, image_size=224, dtype="bfloat16", remat="none",
          unroll=1, freeze_patch_embed=True,
          position_init="sincos"),
      tasks=dict(
          contrastive=dict(
              mode="train", weight=1.0, temperature=0.2, hidden_dim=4096,
              num_hidden=2, out_dim=256),
          relative_position=dict(
              mode="train", weight=1.0, num_pairs=8, position="keep",
              crop=1.15, jitter=0.8, jitter_strength=0.5, gray=0.2,
              hidden_dim=1024),
          colorize=dict(
              mode="train", weight=1.0, num_patches=49, target="pixel",
              hidden_dim=1024)),
      optimizer=dict(
          base_lr=1.5e-4, warmup=0.1, weight_decay=0.1, decay="kernel$",
          b1=0.9, b2=0.95, clip_norm=1.0),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(
          every_steps=10_000, num_train=50_000, num_test=10_000,
          final_num_train=0, final_num_test=0, k=20, temperature=0.07,
          readout="ct"),
      log_every=100,
      checkpoint_every=2000,
      keep_checkpoints=2,
      init_from="",
      profile_steps=(0, 0)))

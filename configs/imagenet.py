"""ImageNet-1k with the report's three tasks, for TPU slices and GPUs.

  bash launch/prepare_tfds.sh imagenet2012
  bash launch/local.sh mtvit.pretrain \
      --config=configs/imagenet.py:variant=S/16 --workdir=DIR

`:variant=` takes Ti/16, S/16, B/16, L/16, H/14 or g/14, and `,strategy=` what
configs/common.py lists. Larger variants want mesh.fsdp above 1 and remat=dots
or full. Up to B/16 the layers are unrolled: a step takes fewer cycles and less
memory on a TPU, and minutes to compile; from L/16 on they are scanned.

Hardware, hours and expected number: not measured yet.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """224 px images; the argument is strategy=NAME,variant=NAME/PATCH."""
  options = common.parse(arg, strategy="report", variant="S/16")
  variant = options["variant"]
  unrolled = variant.startswith(("Ti/", "S/", "B/"))
  config = ml_collections.ConfigDict(dict(
      seed=0, total_steps=0, total_epochs=300.0,
      batch_size=4096,            # images
      accumulate=1,
      views=2, input="rgb", forward="shared",
      data=dict(
          name="imagenet2012", train_split="train",
          test_split="validation",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048,
          max_pixels=100_000_000),
      augment=dict(
          crop_scale=(0.08, 1.0), flip=0.5, jitter=0.8, jitter_strength=0.5,
          gray=0.2, blur=(1.0, 0.1), solarize=(0.0, 0.2)),
      model=dict(
          variant=variant, image_size=224, dtype="bfloat16", remat="none",
          unroll=0 if unrolled else 1, freeze_patch_embed=True,
          position_init="sincos",
          activation="gelu_tanh", drop_path=0.0, extra_tokens=""),
      tasks=dict(
          contrastive=dict(
              mode="train", weight=1.0, kind="infonce", temperature=0.2,
              hidden_dim=4096, num_hidden=2, out_dim=256, momentum=0.99,
              queue_size=65536),
          rotation=dict(
              mode="train", weight=1.0, views="both_views", hidden_dim=1024),
          clustering=dict(
              mode="train", weight=1.0, num_prototypes=3000, temperature=0.1,
              epsilon=0.05, iterations=3, hidden_dim=2048, num_hidden=2,
              out_dim=128),
          relative_position=dict(
              mode="train", weight=1.0, pairs="neighbours", num_pairs=12,
              position="keep", crop=1.15, jitter=0.8, jitter_strength=0.5,
              gray=0.2, hidden_dim=1024),
          jigsaw=dict(
              mode="train", weight=1.0, kind="patch", num_pieces=18,
              num_groups=2, num_permutations=100, position="keep",
              hidden_dim=1024),
          inpaint=dict(
              mode="train", weight=1.0, num_patches=18, region="whole",
              fill="mask", shape="random", target="normalised",
              error="squared", scope="missing", hidden_dim=1024),
          colorize=dict(
              mode="train", weight=1.0, num_patches=24, target="pixel",
              hidden_dim=1024),
          supervised=dict(
              mode="off", weight=1.0, num_classes=1000, readout="cls",
              smoothing=0.0, mixup=0.0, cutmix=0.0)),
      weighting=dict(kind="fixed", dwa_window=300, dwa_temperature=2.0),
      optimizer=dict(
          base_lr=1.5e-4, warmup=0.1, weight_decay=0.1, decay="kernel$",
          b1=0.9, b2=0.95, clip_norm=1.0, layer_decay=1.0, trainable=""),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(
          every_steps=10_000, num_train=50_000, num_test=10_000,
          final_num_train=50_000, final_num_test=0, k=20, temperature=0.07,
          readout="ct"),
      log_every=100, diagnose_every=10_000, checkpoint_every=2000,
      keep_checkpoints=2, init_from="", profile_steps=(0, 0),
      max_skipped_steps=10, watchdog_seconds=1800))
  common.set_strategy(config, options["strategy"])
  return config

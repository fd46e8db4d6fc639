"""ImageNet-1k with the report's three tasks, for TPU slices and GPUs.

  bash launch/prepare_tfds.sh imagenet2012
  mtvit pretrain \
      --config=imagenet:variant=S/16 --workdir=DIR

`:variant=` takes Ti/16, S/16, B/16, L/16, H/14 or g/14, and `,strategy=` what
configs/common.py lists. Larger variants want mesh.fsdp above 1 and remat=dots
or full. Up to B/16 the layers are unrolled: a step takes fewer cycles and less
memory on a TPU, and minutes to compile; from L/16 on they are scanned.

Hardware, hours and expected number: not measured yet.
"""

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """224 px images; the argument is strategy=NAME,variant=NAME/PATCH."""
  options = common.parse(arg, strategy="report", variant="S/16")
  unrolled = options["variant"].startswith(("Ti/", "S/", "B/"))
  return common.config(
      options,
      counts={                      # Those of 14x14 patches, on 16x16 too.
          "relative_position.num_pairs": 12, "jigsaw.num_pieces": 18,
          "jigsaw.num_groups": 2, "inpaint.num_patches": 18,
          "colorize.num_patches": 24},
      total_epochs=300.0, batch_size=4096,
      data=dict(name="imagenet2012", test_split="validation"),
      augment=dict(
          crop_scale=(0.08, 1.0), blur=(1.0, 0.1), solarize=(0.0, 0.2)),
      model=dict(
          image_size=224, dtype="bfloat16", unroll=0 if unrolled else 1,
          freeze_patch_embed=True, position_init="sincos"),
      tasks=dict(
          contrastive=dict(hidden_dim=4096, out_dim=256, queue_size=65536),
          clustering=dict(num_prototypes=3000, hidden_dim=2048),
          supervised=dict(num_classes=1000),
          **{name: dict(hidden_dim=1024) for name in (
              "rotation", "relative_position", "jigsaw", "inpaint",
              "colorize")}),
      weighting=dict(dwa_window=300),
      optimizer=dict(base_lr=1.5e-4, weight_decay=0.1, b2=0.95),
      knn=dict(every_steps=10_000, num_train=50_000, num_test=10_000,
               final_num_train=50_000),
      log_every=100, diagnose_every=10_000, checkpoint_every=2000)

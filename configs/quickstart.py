"""All seven tasks in one forward pass, on built-in photographs.

  bash launch/local.sh

`:strategy=NAME` trains others; see common.py. Hardware: 2 CPU cores, some
minutes. Expect: kNN 0.50 and a linear probe 0.54 on new crops, where random
init has 0.23 and 0.37; the tables in configs/README.md.
"""

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The quickstart; every key can be overridden, as --config.KEY=VALUE."""
  options = common.parse(arg, strategy="patch_level")
  return common.config(
      options, counts={"jigsaw.num_pieces": 6},
      total_steps=1000, batch_size=64, data=dict(name="photo_tiles"),
      augment=dict(crop_scale=(0.3, 1.0), jitter_strength=0.6),
      model=dict(variant="pico/8", image_size=48, position_init="sincos"),
      # Rotation and jigsaw are slow to start; their weights let minutes do. The
      # photographs are told apart by what contrastive learns, hence its weight.
      tasks=dict(
          contrastive=dict(weight=10.0, queue_size=2048),
          rotation=dict(weight=5.0, views="shared"),
          clustering=dict(num_prototypes=32),
          relative_position=dict(jitter_strength=0.2),
          jigsaw=dict(weight=10.0), supervised=dict(num_classes=12)),
      # All images each time: the curve ends at the final figure.
      optimizer=dict(base_lr=6e-3), knn=dict(num_train=0, num_test=0),
      log_every=20, diagnose_every=200, checkpoint_every=200)

"""All seven tasks in one forward pass, on built-in photographs.

  bash launch/local.sh

`:strategy=NAME` trains others; see common.py. Hardware: 2 CPU cores, 6 minutes
(Intel Xeon). Expect: the table in configs/README.md.
"""

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The quickstart; every key can be overridden, as --config.KEY=VALUE."""
  options = common.parse(arg, strategy="patch_level")
  return common.config(
      options, counts={"jigsaw.num_pieces": 6},
      total_steps=1000, batch_size=64,
      augment=dict(crop_scale=(0.5, 1.0), jitter_strength=0.25, gray=0.1),
      model=dict(variant="pico/8", image_size=48, position_init="sincos"),
      # Rotation and jigsaw are slow to start; their weights let minutes do.
      tasks=dict(
          contrastive=dict(queue_size=2048),
          rotation=dict(weight=3.0, views="shared"),
          clustering=dict(num_prototypes=32),
          relative_position=dict(jitter_strength=0.2),
          jigsaw=dict(weight=10.0), supervised=dict(num_classes=8)),
      optimizer=dict(base_lr=3e-3), knn=dict(num_train=2000, num_test=400),
      log_every=20, diagnose_every=200, checkpoint_every=200)

"""Photographs of any size in a folder, with or without labels.

  mtvit pretrain --config=photos --config.data.name=folder:PATH \
      --workdir=runs/photos
  mtvit pretrain --config=photos:variant=nano/16 \
      --config.data.name=folder:PATH --workdir=runs/photos

The first is for a GPU or a TPU: S/16 at 224 px, or `:variant=Ti/16`. The second
is for a CPU: 128 px. `,strategy=` takes what configs/common.py lists.

A run has as many steps for 1,000 photographs as for 100,000, so that what it
takes is known before: 20,000 of 256 images, with nano/16 5,000 of 128. A
million want some hundred epochs, --config.total_steps=400000.

Hardware, hours and expected number: configs/README.md.
"""

from typing import Any

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The argument is strategy=NAME,variant=NAME/PATCH."""
  options = common.parse(arg, strategy="report", variant="S/16")
  small = options["variant"].startswith(("nano/", "pico/"))
  size: dict[str, Any] = dict(
      total_steps=5000, batch_size=128, checkpoint_every=250,
      model=dict(image_size=128), optimizer=dict(base_lr=2e-3),
  ) if small else dict(
      total_steps=20_000, batch_size=256, checkpoint_every=500,
      augment=dict(blur=(1.0, 0.1), solarize=(0.0, 0.2)),
      model=dict(image_size=224, dtype="bfloat16"),
      tasks=dict(contrastive=dict(hidden_dim=2048, out_dim=256)),
      optimizer=dict(base_lr=5e-4))
  size["model"]["position_init"] = "sincos"
  return common.config(
      options, data=dict(memory_mb=0),    # They are too large to hold decoded.
      # The defaults, here to be changed on the command line.
      evaluators={name: dict(when="unlabelled", num_images=2000)
                  for name in ("retrieval", "heldout")},
      knn=dict(every_steps=250), **size)

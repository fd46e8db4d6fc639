"""Fine-tunes a trained encoder on CIFAR-10, end to end or a linear head.

  mtvit finetune --config=finetune:mode=full \
      --config.init_from=runs/cifar10 --config.data.name=folder:PATH

`mode=linear` trains a linear head on the frozen encoder. `init_from` is a work
directory, one of its checkpoints, or a file of weights (.safetensors, .npz);
the model's sizes are its own. From scratch: no init_from, and `variant=nano/8`.
`--config.model.image_size=64` is a higher resolution, with resized position
embeddings. PATH holds train/<class>/ and test/<class>/.

Hardware: 2 CPU cores, 1 to 2 minutes an epoch of CIFAR-10 with nano/8.
"""

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The argument is mode=full|linear, variant=NAME/PATCH."""
  options = common.parse(arg, mode="full", variant="")
  if options["mode"] not in ("full", "linear"):
    raise ValueError(f"mode={options['mode']} is neither full nor linear")
  full = options["mode"] == "full"
  return common.config(
      options, total_epochs=10.0, views=1,
      data=dict(name="cifar10"),
      augment=dict(
          crop_scale=(0.4, 1.0), jitter=0.0, jitter_strength=0.0, gray=0.0),
      # "" and 0: as in init_from.
      input="", model=dict(
          variant=options["variant"], image_size=0, activation="",
          drop_path=0.1 if full else 0.0),
      tasks=dict(supervised=dict(
          mode="train", readout="gap", smoothing=0.1 if full else 0.0,
          mixup=0.2 if full else 0.0, cutmix=1.0 if full else 0.0)),
      optimizer=dict(b2=0.999, **(
          dict(base_lr=1e-3, layer_decay=0.8) if full else
          dict(base_lr=1e-1, weight_decay=0.0, trainable="^head_"))),
      knn=dict(num_train=0, k=0))   # k=0: only the classifier's accuracy.

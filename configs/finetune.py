"""Fine-tunes a trained encoder on CIFAR-10, end to end or a linear head.

  bash launch/local.sh mtvit.finetune --config=configs/finetune.py:mode=full \
      --config.init_from=runs/cifar10 --config.data.name=folder:PATH

`mode=linear` trains a linear head on the frozen encoder. `init_from` is a work
directory, one of its checkpoints, or a file of weights (.safetensors, .npz);
the model's sizes are its own. From scratch: no init_from, and `variant=nano/8`.
`--config.model.image_size=64` is a higher resolution, with resized position
embeddings. PATH holds train/<class>/ and test/<class>/.

Hardware: 2 CPU cores, 1 to 2 minutes an epoch of CIFAR-10 with nano/8.
"""

import ml_collections

from configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """The argument is mode=full|linear, variant=NAME/PATCH."""
  options = common.parse(arg, mode="full", variant="")
  if options["mode"] not in ("full", "linear"):
    raise ValueError(f"mode={options['mode']} is neither full nor linear")
  config = ml_collections.ConfigDict(dict(
      seed=0, total_steps=0, total_epochs=10.0,
      batch_size=256,             # images
      accumulate=1,
      views=1, input="",          # "": as in init_from
      forward="shared",
      data=dict(
          name="cifar10", train_split="train", test_split="test",
          data_dir="", cache_dir="~/.cache/mtvit", memory_mb=2048,
          max_pixels=100_000_000),
      augment=dict(
          crop_scale=(0.4, 1.0), flip=0.5, jitter=0.0, jitter_strength=0.0,
          gray=0.0, blur=(0.0, 0.0), solarize=(0.0, 0.0)),
      model=dict(                 # "" and 0: as in init_from
          variant=options["variant"], image_size=0, dtype="float32",
          remat="none", unroll=0, freeze_patch_embed=False,
          position_init="normal", activation="", drop_path=0.1,
          extra_tokens=""),
      tasks=dict(supervised=dict(
          mode="train", weight=1.0, num_classes=10, readout="gap",
          smoothing=0.1, mixup=0.2, cutmix=1.0)),
      weighting=dict(kind="fixed", dwa_window=50, dwa_temperature=2.0),
      optimizer=dict(
          base_lr=1e-3, warmup=0.1, weight_decay=0.05, decay="kernel$",
          b1=0.9, b2=0.999, clip_norm=1.0, layer_decay=0.8, trainable=""),
      mesh=dict(data=-1, fsdp=1, tensor=1),
      knn=dict(                   # k=0: only the classifier's accuracy
          every_steps=200, num_train=0, num_test=1000, final_num_train=0,
          final_num_test=0, k=0, temperature=0.07, readout="gap"),
      log_every=10, diagnose_every=0, checkpoint_every=100, keep_checkpoints=2,
      init_from="", profile_steps=(0, 0), max_skipped_steps=10,
      watchdog_seconds=1800))
  if options["mode"] == "linear":
    config.optimizer.update(
        trainable="^head_", layer_decay=1.0, base_lr=1e-1, weight_decay=0.0)
    config.model.drop_path = 0.0
    config.tasks.supervised.update(smoothing=0.0, mixup=0.0, cutmix=0.0)
  return config

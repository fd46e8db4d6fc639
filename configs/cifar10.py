"""CIFAR-10 with a nano ViT: the report's tasks, and what they compare with.

  mtvit pretrain \
      --config=cifar10:strategy=patch_level \
      --config.data.name=folder:PATH --workdir=runs/cifar10

PATH holds train/<class>/ and test/<class>/; without it the TFDS data set is
used. The strategies are in configs/common.py; the default is `report`.
`,variant=nano/4` cuts smaller patches (4 times the patches).

Hardware: 2 CPU cores. Expect: the table in README.md.
"""

import ml_collections

from mtvit.configs import common


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """32 px images; the argument is strategy=NAME,variant=NAME/PATCH."""
  options = common.parse(arg, strategy="report", variant="nano/8")
  return common.config(
      options, total_steps=600, data=dict(name="cifar10"),
      optimizer=dict(base_lr=2e-3), diagnose_every=100)

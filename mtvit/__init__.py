"""mtvit: multi-task self-supervised pretraining of Vision Transformers."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
  from mtvit.api import load_config as load_config
  from mtvit.api import open_run as open_run
  from mtvit.api import sample_batch as sample_batch
  from mtvit.api import train as train
  from mtvit.encoder import load as load
  from mtvit.errors import Preempted as Preempted
  from mtvit.errors import UserError as UserError

# Name -> the module that has it, which is imported when it is asked for.
_OFFERED = {
    "load": "mtvit.encoder", "load_config": "mtvit.api",
    "sample_batch": "mtvit.api", "train": "mtvit.api", "open_run": "mtvit.api",
    "Preempted": "mtvit.errors", "UserError": "mtvit.errors"}


def __getattr__(name: str) -> Any:
  if name not in _OFFERED:
    raise AttributeError(f"module 'mtvit' has no attribute {name!r}")
  return getattr(importlib.import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_OFFERED])

r"""Fine-tunes a trained encoder on labelled images, or trains one from scratch.

  mtvit finetune --config=finetune \
      --config.init_from=runs/cifar10 --workdir=runs/finetuned

It is a run as those of `mtvit pretrain`, whose only task is the classification:
the same loop, checkpoints, exit codes and files. What the config leaves open
("", 0 or the default) is taken from what it starts from: sizes of the model,
activation, special tokens, LayerScale, rotary positions, the epsilon of its
norms, and whether its images are gray.
"""

import dataclasses
from typing import Any, Mapping

from absl import flags
from absl import logging
from etils import epath

from mtvit import encoder
from mtvit import errors
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.models import encoders
from mtvit.run import config_values
from mtvit.run import entry

# Keys of a `model` section that a run sets for itself, or leaves open ("", 0).
_OWN = ("variant", "activation", "image_size", "extra_tokens", "position_init",
        "dtype", "remat", "unroll", "freeze_patch_embed", "drop_path")
# What a config leaves open.
_OPEN = {
    "init_from": "", "input": "",
    "model": dict(variant="", activation="", image_size=0, extra_tokens="")}


def main() -> None:
  """The command line."""
  pretrain.main(complete)


def complete(
    raw: Mapping[str, Any], workdir: epath.Path | None = None
) -> dict[str, Any]:
  """Fills in what a plain config leaves open.

  A run that is continued needs what it started from no more: its own
  checkpoint has the config that was completed then.

  Args:
    raw: the config; `model.variant`, `model.activation`,
      `model.extra_tokens` and `input` may be "", `model.image_size` 0, or
      missing.
    workdir: of the run; None for no run.

  Raises:
    ConfigError: it is to start from nothing, and says no variant.
    CheckpointError: what it is to start from can't be read.
  """
  raw = config_values.over(config_values.to_plain(raw), _OPEN)
  begun = workdir and loading.found_config(workdir)
  if begun and begun.get("init_from") == raw["init_from"]:
    return _completed_as(begun, raw)
  model, gray = raw["model"], False
  if raw["init_from"]:
    source = encoder.load(raw["init_from"])
    found, gray = _sizes(source), source.gray
    model |= _not_set(model, dataclasses.asdict(source.model))
    if (source.module.position_policy == "drop_all"
        or getattr(source.model, "position_init", "") == "none"):
      model["position_init"] = "none"
  elif model["variant"]:
    found = dict(activation="gelu_tanh", image_size=32)
  else:
    raise errors.ConfigError(
        "neither init_from nor model.variant is set",
        "--config.init_from=RUN, or from scratch: "
        "--config=finetune:variant=nano/8")
  for key, value in found.items():
    model[key] = model[key] or value
  raw["model"] = _known(model)
  raw["input"] = raw["input"] or ("gray" if gray else "rgb")
  return raw


def _sizes(source: encoder.Encoder) -> dict[str, Any]:
  """What a config's `model` section may leave open, as an encoder has it."""
  found = dataclasses.asdict(source.model) | {
      "extra_tokens": ",".join(source.token_names[1:])}
  return {key: found[key] for key in _OPEN["model"] if key in found}


def _known(model: Mapping[str, Any]) -> dict[str, Any]:
  """A `model` section without the keys of a ViT that its own kind has not.

  The config of fine-tuning has them, as it does not know what it starts from.

  Raises:
    ConfigError: its kind can't be without positions, as it should.
  """
  name = model.get("kind", "vit")
  known, ours = (
      config_values.defaults(encoders.config_class(kind))
      for kind in (name, "vit"))
  if model.get("position_init") == "none" and "position_init" not in known:
    raise errors.ConfigError(
        "init_from was trained without positions (position=drop_all), and "
        f"model.kind={name} has no position_init to say so",
        "another init_from")
  left_out = [key for key in model if key not in known and key in ours]
  for key in left_out:
    if model[key] and model[key] != ours[key]:
      logging.warning("model.kind=%s has no %s: left out", name, key)
  return {key: model[key] for key in model if key not in left_out}


def _not_set(
    model: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, Any]:
  """The other's values of what is at its default in a `model` section.

  They are of the architecture: LayerScale, rotary positions, and what an
  encoder of another kind has. How a run computes, and "" and 0, are left alone.
  """
  kind = encoders.config_class(other.get("kind", "vit"))
  return {
      field.name: other[field.name] for field in dataclasses.fields(kind)
      if field.name in other and field.name not in _OWN
      and model.get(field.name, field.default) == field.default}


def _completed_as(
    begun: Mapping[str, Any], raw: Mapping[str, Any]
) -> dict[str, Any]:
  """`raw`, with what it leaves open as the config of the run has it."""
  then, now = config_values.flatten(begun), config_values.flatten(raw)
  model = dict(raw["model"])
  for key in _OPEN["model"]:
    model[key] = now[f"model.{key}"] or then.get(f"model.{key}")
  model |= _not_set(model, begun["model"])
  if then.get("model.position_init") == "none":
    model["position_init"] = "none"
  return dict(raw) | {
      "model": _known(model), "input": raw["input"] or then.get("input")}


if __name__ == "__main__":
  pretrain.define_flags()
  flags.adopt_module_key_flags(pretrain)
  entry.run(main)

r"""Measures this machine's speed, and prints Markdown tables.

  mtvit bench input --images=DIR
  mtvit bench step --profile
  mtvit bench step --config=imagenet:variant=S/16 --config.batch_size=512 \
      --strategies=contrastive,report,patch_level --layers=unrolled,scanned
  mtvit bench strategies --json=strategies.json

`input` is the input pipeline, `step` the train step, `strategies` what tasks
cost in one forward pass and in one for each. --config, with overrides, says of
what; a batch has 64 images (`step`: 128) unless --config.batch_size is given.

Each contestant is a process of its own that works only when it has the word;
they take turns, --repeats times, but on an accelerator one runs after the
other. Steps are made on what JAX finds, or on JAX_PLATFORMS. A figure is the
median, with the least and the most in brackets; a ratio is the median of those
of each round. With --peer lightly and DALI, or timm, take part: `bash
launch/local.sh --with_peers bench input --peer` installs them into an
environment of their own.

A machine without TensorFlow or data takes a batch that another has saved:
`bench step --save_batch=FILE`, and there the same with --batch=FILE. It is
repeated up to --config.batch_size.
"""

import json
import pathlib
import runpy
import sys
from typing import Any, Iterable, Sequence

from absl import flags
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import arguments
from mtvit.benchmarks import images as images_lib
from mtvit.benchmarks import input as input_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import saved_batches
from mtvit.benchmarks import show
from mtvit.benchmarks import step as step_lib
from mtvit.benchmarks import strategies as strategies_lib
from mtvit.run import command_line
from mtvit.run import config_values
from mtvit.run import entry
from mtvit.run import files
from mtvit.run import paths
from mtvit.training import run_tasks
from mtvit.training import sharding

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, command_line.config_help())
_REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=1)
_BATCHES = flags.DEFINE_integer(
    "batches", 8, "Batches of a repetition of an input pipeline.",
    lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Steps of a repetition; two on a CPU, and two seconds "
    "elsewhere, if it is not given.", lower_bound=1)
_STRATEGIES = flags.DEFINE_list(
    "strategies", None, "step: of the config file, to measure instead of the "
    "config as it is and contrastive.")
_LAYERS = flags.DEFINE_list(
    "layers", None, f"step: {', '.join(step_lib.LAYERS)}, instead of the "
    "config's.")
_BATCH = flags.DEFINE_string(
    "batch", None, "step: a file of --save_batch; needs no TensorFlow.")
_SAVE_BATCH = flags.DEFINE_string(
    "save_batch", None, "step: a file to write, and no more; batches of the "
    "config's data for the tasks that would be measured.")
_IMAGES = flags.DEFINE_string(
    "images", None, "input: a folder with JPEG or PNG files anywhere below; "
    "else cuts of the built-in photographs.")
_ALSO = flags.DEFINE_string(
    "also", "patch_level", "input: another strategy to measure, if any.")
_PEER = flags.DEFINE_bool(
    "peer", False, "input: also lightly and DALI. step: also timm.")
_PEER_PYTHON = flags.DEFINE_string(
    "peer_python", str(processes.PEER_PYTHON), "Of an environment with them.")
_PEER_FORMS = flags.DEFINE_list(
    "peer_forms", None, f"step: of timm's, {', '.join(step_lib.PEER_FORMS)}; "
    "compiled on a GPU and eager elsewhere if none is given.")
_PROFILE = flags.DEFINE_bool(
    "profile", False, "step: also where the time goes, by a trace.")
_NUM_TASKS = flags.DEFINE_multi_integer(
    "num_tasks", range(2, len(strategies_lib.ORDER) + 1),
    "strategies: how many tasks. All contestants are in memory at once.",
    lower_bound=2, upper_bound=len(strategies_lib.ORDER))
_JSON = flags.DEFINE_string("json", None, "File to write.")


def variant(
    strategy: str | None = None, off: Sequence[str] = (),
    **sections: Any
) -> dict[str, Any]:
  """The config as it was given, but for the strategy and more, plain.

  Args:
    strategy: of the config file's argument; None keeps the one that was given.
    off: tasks whose mode is off.
    **sections: values of a section to change.

  Raises:
    ConfigError: the file has no such strategy, or the result is impossible.
  """
  flag = flags.FLAGS[_CONFIG.name]
  if strategy is None:
    values = entry.given_config(_CONFIG)
  else:
    file, _, argument = config_flags.get_config_filename(flag).partition(":")
    argument = f"{argument},strategy={strategy}".lstrip(",")
    try:
      config = runpy.run_path(file)["get_config"](argument)
      config.update_from_flattened_dict(config_flags.get_override_values(flag))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
      raise errors.ConfigError(
          f"{file}:{argument}: {e}",
          "a config file with strategies, such as cifar10") from e
    values = config_values.to_plain(config)
  for name in off:
    values["tasks"][name]["mode"] = "off"
  for name, changes in sections.items():
    values[name] |= changes
  run_tasks.create(config_lib.parse(values))    # Raises what is wrong with it.
  return values


def _input(python: pathlib.Path | None) -> dict[str, Any]:
  """Runs `input`; returns what to write."""
  given = variant()
  with images_lib.folder(
      _IMAGES.value, config_lib.parse(given).data) as (folder, what):
    data = dict(
        name=f"folder:{folder}", cache_dir=str(folder / "cache"),
        labels="folders")       # Some config may be supervised.
    own = variant(data=data)
    configs = {f"mtvit, {_tasks(own)}": own}
    if _ALSO.value:
      also = variant(_ALSO.value, data=data)
      if also != own:
        configs[f"mtvit, strategy={_ALSO.value}"] = also
    work = input_lib.Work(configs, _BATCHES.value, python)
    found = _measure(input_lib.specs(work))
    size = own["model"]["image_size"]
    return found._asdict() | {"title": (
        f"Input pipeline: {own['views']} views of {size} px from {what}, "
        f"batches of {own['batch_size']} images"),
        "config": own, "text": input_lib.report(work, found.measured)}


def _check_list(flag: flags.FlagHolder, known: Iterable[str]) -> None:
  """Raises ConfigError if one is not known."""
  for name in flag.value or ():
    if name not in known:
      raise errors.ConfigError(
          f"--{flag.name}={name}: no such thing",
          f"one or more of {','.join(known)}{errors.suggest(name, known)}")


def _step_configs() -> dict[str, dict[str, Any]]:
  """Contestants of `step` -> their configs."""
  if _STRATEGIES.value:
    found = {f"mtvit, {x}": variant(x) for x in _STRATEGIES.value}
  else:
    own = variant()
    found = {f"mtvit, {_tasks(own)}": own,
             "mtvit, contrastive": variant("contrastive")}
  _check_list(_LAYERS, step_lib.LAYERS)
  if not _LAYERS.value:
    return found
  return {
      f"{name}, {layers}": values | {"model": values["model"] | {
          "unroll": step_lib.LAYERS[layers]}}
      for layers in _LAYERS.value for name, values in found.items()}


def _step(python: pathlib.Path | None) -> dict[str, Any]:
  """Runs `step`; returns what to write."""
  configs = _step_configs()
  own = next(iter(configs.values()))
  _check_list(_PEER_FORMS, step_lib.PEER_FORMS)
  batch = _BATCH.value and paths.expand(_BATCH.value)
  work = step_lib.Work(
      configs, _STEPS.value, python, batch, _PEER_FORMS.value or ())
  found = _measure(step_lib.specs(work), ["profile"] * _PROFILE.value)
  text = step_lib.report(work, found)
  if _PROFILE.value:
    text += ("\n\nWhere the time goes:\n\n"
             + step_lib.profile_table(found.last["profile"]["shares"]))
  return found._asdict() | {
      "title": f"Train step: {_model(own)}", "config": own, "text": text}


def _save_batch(file: pathlib.Path) -> None:
  """Writes the batches that `step --batch` reads."""
  configs = {saved_batches.name_of(config): config for config in map(
      config_lib.parse, _step_configs().values())}
  mesh = sharding.create_mesh(config_lib.Mesh(data=1))
  saved_batches.write(file, list(configs.values()), mesh)
  print(f"{file}: batches of {next(iter(configs.values())).batch_size} images "
        f"for {'; '.join(configs)}")


def _strategies(python: pathlib.Path | None) -> dict[str, Any]:
  """Runs `strategies`; returns what to write."""
  del python
  work = strategies_lib.Work(
      strategies_lib.configs(variant, sorted(_NUM_TASKS.value)),
      _STEPS.value, _BATCHES.value)
  found = _measure(strategies_lib.specs(work))
  order = ", ".join(strategies_lib.ORDER[:max(_NUM_TASKS.value)])
  return found._asdict() | {
      "title": f"Strategies: {_model(variant())}; tasks: {order}",
      "config": variant(), "text": strategies_lib.report(
          work, found.measured, found.ready)}


KINDS = {"input": _input, "step": _step, "strategies": _strategies}


def _measure(
    specs: Sequence[processes.Spec], last: Sequence[str] = ()
) -> processes.Found:
  return processes.measure(specs, _REPEATS.value, last)


def _tasks(values: dict[str, Any]) -> str:
  """The tasks that train."""
  return " + ".join(name for name, task in values["tasks"].items()
                    if task["mode"] == "train")


def _model(values: dict[str, Any]) -> str:
  return (f"{values['model']['variant']}, {values['model']['image_size']} px, "
          f"{values['views'] * values['batch_size']} views, "
          f"{values['model']['dtype']}")


def _writable(flag: flags.FlagHolder) -> pathlib.Path:
  """The file of a flag; raises ConfigError if it can't be written."""
  file = pathlib.Path(paths.expand(flag.value))
  files.check_writable(f"--{flag.name}", file, file.parent)
  return file


def main(kind: str) -> None:
  """Measures, prints and writes."""
  if kind not in KINDS:
    raise errors.ConfigError(
        f"no benchmark {kind!r}" if kind else "which benchmark?",
        f"mtvit bench {' | '.join(KINDS)}, and then flags")
  if kind != "step" and (_BATCH.value or _SAVE_BATCH.value):
    raise errors.ConfigError(
        f"{kind} takes no saved batch", "mtvit bench step --batch=FILE")
  if _SAVE_BATCH.value:
    _save_batch(_writable(_SAVE_BATCH))
    return
  file = _writable(_JSON) if _JSON.value else None
  found = KINDS[kind](
      pathlib.Path(paths.expand(_PEER_PYTHON.value))
      if _PEER.value else None)
  machine = show.machine()
  versions: dict[str, str] = {}
  for told in found["ready"].values():
    versions |= told["versions"]
    if processes.on_accelerator(told):
      machine["accelerator"] = told["device"]
  listed = ", ".join(f"{name} {version}" for name, version in versions.items())
  print(f"**{found['title']}.** {show.machine_text(machine)}; {listed}; "
        f"median (least to most) of {_REPEATS.value} rounds.\n"
        f"\n{found['text']}")
  if file:
    files.write(file, json.dumps(
        {"benchmark": kind, "machine": machine, "versions": versions}
        | found, indent=1) + "\n")


if __name__ == "__main__":
  _KIND, sys.argv[1:] = arguments.complete(sys.argv[1:])
  entry.run(lambda: main(_KIND))

"""Measures this machine's speed, and prints Markdown tables.

  mtvit bench input --images=DIR
  mtvit bench step --profile
  mtvit bench strategies --json=strategies.json

`input` is the input pipeline, `step` the train step, `strategies` what tasks
cost in one forward pass and in one for each. --config, with overrides, says of
what; a batch has 64 images (`step`: 128) unless --config.batch_size is given.

Each contestant is a process of its own that works only when it has the word;
they take turns, --repeats times. A figure is the median, with the least and the
most in brackets; a ratio is the median of those of each round. With --peer
lightly and timm take part: `bash launch/local.sh --with_peers bench
input --peer` installs them into an environment of their own.
"""

import json
import pathlib
import runpy
import sys
from typing import Any, Sequence

from absl import flags
from ml_collections import config_flags

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import arguments
from mtvit.benchmarks import images as images_lib
from mtvit.benchmarks import input as input_lib
from mtvit.benchmarks import processes
from mtvit.benchmarks import show
from mtvit.benchmarks import step as step_lib
from mtvit.benchmarks import strategies as strategies_lib
from mtvit.run import command_line
from mtvit.run import config_values
from mtvit.run import entry
from mtvit.run import files
from mtvit.run import paths
from mtvit.training import run_tasks

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, command_line.config_help())
_REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds.", lower_bound=1)
_BATCHES = flags.DEFINE_integer(
    "batches", 8, "Batches of a repetition of an input pipeline.",
    lower_bound=1)
_STEPS = flags.DEFINE_integer(
    "steps", 2, "Steps of a repetition.", lower_bound=1)
_IMAGES = flags.DEFINE_string(
    "images", None, "input: a folder with JPEG or PNG files anywhere below; "
    "else cuts of the built-in photographs.")
_ALSO = flags.DEFINE_string(
    "also", "patch_level", "input: another strategy to measure, if any.")
_PEER = flags.DEFINE_bool("peer", False, "input, step: also lightly or timm.")
_PEER_PYTHON = flags.DEFINE_string(
    "peer_python", str(processes.PEER_PYTHON), "Of an environment with them.")
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
    return found | {"title": (
        f"Input pipeline: {own['views']} views of {size} px from {what}, "
        f"batches of {own['batch_size']} images"),
        "config": own, "text": input_lib.report(work, found["measured"])}


def _step(python: pathlib.Path | None) -> dict[str, Any]:
  """Runs `step`; returns what to write."""
  own, alone = variant(), variant("contrastive")
  work = step_lib.Work(
      {f"mtvit, {_tasks(own)}": own, "mtvit, contrastive": alone},
      _STEPS.value, python)
  found = _measure(step_lib.specs(work), ["profile"] * _PROFILE.value)
  text = step_lib.report(work, found["measured"], found["ready"])
  if _PROFILE.value:
    text += ("\n\nWhere the time goes:\n\n"
             + step_lib.profile_table(found["last"]["profile"]["shares"]))
  return found | {
      "title": f"Train step: {_model(own)}", "config": own, "text": text}


def _strategies(python: pathlib.Path | None) -> dict[str, Any]:
  """Runs `strategies`; returns what to write."""
  del python
  work = strategies_lib.Work(
      strategies_lib.configs(variant, sorted(_NUM_TASKS.value)),
      _STEPS.value, _BATCHES.value)
  found = _measure(strategies_lib.specs(work))
  order = ", ".join(strategies_lib.ORDER[:max(_NUM_TASKS.value)])
  return found | {
      "title": f"Strategies: {_model(variant())}; tasks: {order}",
      "config": variant(), "text": strategies_lib.report(
          work, found["measured"], found["ready"])}


KINDS = {"input": _input, "step": _step, "strategies": _strategies}


def _measure(
    specs: Sequence[processes.Spec], last: Sequence[str] = ()
) -> dict[str, Any]:
  """Runs the contestants; at the end the first does `last` too."""
  with processes.started(specs) as running:
    measured = processes.interleaved(running, _REPEATS.value)
    return {
        "measured": measured, "ready": {x.spec.name: x.ready for x in running},
        "last": {what: running[0].repeat(what) for what in last}}


def _tasks(values: dict[str, Any]) -> str:
  """The tasks that train."""
  return " + ".join(name for name, task in values["tasks"].items()
                    if task["mode"] == "train")


def _model(values: dict[str, Any]) -> str:
  return (f"{values['model']['variant']}, {values['model']['image_size']} px, "
          f"{values['views'] * values['batch_size']} views, "
          f"{values['model']['dtype']}")


def main(kind: str) -> None:
  """Measures, prints and writes."""
  if kind not in KINDS:
    raise errors.ConfigError(
        f"no benchmark {kind!r}" if kind else "which benchmark?",
        f"mtvit bench {' | '.join(KINDS)}, and then flags")
  file = _JSON.value and pathlib.Path(paths.expand(_JSON.value))
  if file:
    try:
      files.try_writing(file.parent)
    except OSError as e:
      raise errors.ConfigError(
          f"--json={file} can't be written: {e.strerror}", "another --json"
      ) from e
  found = KINDS[kind](
      pathlib.Path(paths.expand(_PEER_PYTHON.value))
      if _PEER.value else None)
  machine = show.machine()
  versions: dict[str, str] = {}
  for told in found["ready"].values():
    versions |= told["versions"]
  listed = ", ".join(f"{name} {version}" for name, version in versions.items())
  print(f"**{found['title']}.** {machine['processor']}, {machine['cores']} "
        f"cores; {listed}; median (least to most) of {_REPEATS.value} rounds.\n"
        f"\n{found['text']}")
  if file:
    files.write(file, json.dumps(
        {"benchmark": kind, "machine": machine, "versions": versions}
        | found, indent=1) + "\n")


if __name__ == "__main__":
  _KIND, sys.argv[1:] = arguments.complete(sys.argv[1:])
  entry.run(lambda: main(_KIND))

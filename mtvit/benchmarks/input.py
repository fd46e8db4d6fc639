"""How fast the input pipeline is: beside its ceiling, and beside others."""

import pathlib
import sys
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mtvit import config as config_lib
from mtvit import errors
from mtvit.benchmarks import processes
from mtvit.benchmarks import show

CEILING = "decoding and cropping alone"
AUGMENT = "mtvit, augmentation alone"
# Peer -> the package that it needs, and its script.
PEERS = {"lightly": ("lightly", "lightly_input.py"),
         "DALI": ("nvidia.dali", "dali_input.py")}
# Of a pipeline until its parallelism has settled.
WARM = 12


class Work(NamedTuple):
  """What is measured.

  Attributes:
    configs: contestant's name -> config as plain values; the first is the
      config's own.
    batches: of a repetition.
    peer_python: of the peers' environment; None without them.
  """
  configs: Mapping[str, Mapping[str, Any]]
  batches: int
  peer_python: pathlib.Path | None


def specs(work: Work) -> list[processes.Spec]:
  """The contestants; raises ConfigError if no peer is installed."""
  config = next(iter(work.configs.values()))
  run = dict(batches=work.batches, warm=WARM)
  one = lambda name, kind, config: processes.ours(
      name, "input_process", {"config": config, "kind": kind} | run, ["input"])
  made = [one(CEILING, "ceiling", config), one(AUGMENT, "augment", config)]
  made += [one(name, "tasks", x) for name, x in work.configs.items()]
  if work.peer_python:
    made += _peers(
        work.peer_python, peer_settings(config_lib.parse(config)) | run)
  return made


def _peers(
    python: pathlib.Path, settings: Mapping[str, Any]
) -> list[processes.Spec]:
  """Those that are installed."""
  made = []
  for name, (package, script) in PEERS.items():
    spec = processes.peer(name, script, python, settings, ["input"])
    if processes.has_package(python, package):
      made.append(spec)
    else:
      print(f"{name} is left out: {python} has no {package}", file=sys.stderr)
  if not made:
    raise errors.ConfigError(
        f"--peer_python={python} has none of {', '.join(PEERS)}",
        "bash launch/local.sh --with_peers bench ... makes one that has")
  return made


def peer_settings(config: config_lib.Config) -> dict[str, Any]:
  """What makes peers augment as the config asks."""
  augment, data = config.augment, config.data
  return dict(
      folder=f"{data.name.removeprefix('folder:')}/{data.train_split}",
      input_size=config.model.image_size, batch_size=config.batch_size,
      cj_prob=augment.jitter, cj_strength=augment.jitter_strength,
      min_scale=augment.crop_scale[0], random_gray_scale=augment.gray,
      gaussian_blur=augment.blur, solarization_prob=augment.solarize,
      hf_prob=augment.flip)


def report(work: Work, measured: processes.Measured) -> str:
  """The tables, in Markdown."""
  found = {name: x["input"] for name, x in measured.items()}
  rate = {name: show.rates(x) for name, x in found.items()}
  columns = ["", "images/s", "CPU ms an image", "of the ceiling"]
  peers = [name for name in PEERS if name in found]
  rows = []
  for name in found:
    row = [name, show.spread(rate[name]).text(),
           show.milliseconds(show.cpu_milliseconds(found[name])),
           show.ratio(rate[name], rate[CEILING]).text(2)]
    for peer in peers:
      row += show.against(found[name], found[peer])
    rows.append(row)
  for peer in peers:
    columns += [f"against {peer}", "by CPU time"]
  text = show.table(columns, rows)
  return f"{text}\n\nWhere the time goes:\n\n{_stages(work, found)}"


def _stages(
    work: Work, found: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
  """What each stage costs: the contestant with it, less the one without."""
  cost = {name: show.cpu_milliseconds(x) for name, x in found.items()}
  less: Callable[[str, str], list[float]] = lambda a, b: [
      x - y for x, y in zip(cost[a], cost[b], strict=True)]
  rows = [(CEILING, cost[CEILING]),
          ("augmentation, and whatever else is not below",
           less(AUGMENT, CEILING))]
  rows += [(f"patch corruption: {name.removeprefix('mtvit, ')}",
            less(name, AUGMENT)) for name in work.configs]
  return show.table(
      ["stage", "CPU ms an image"],
      [[name, show.milliseconds(values)] for name, values in rows])

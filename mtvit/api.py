"""What `import mtvit` offers beside `mtvit.load`; the README shows it."""

import dataclasses
import importlib.util
import pathlib
from typing import Any, Mapping

from etils import epath
import ml_collections

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit import evaluate
from mtvit import pretrain
from mtvit.checkpoints import loading
from mtvit.interchange import exporting
from mtvit.pictures import batches
from mtvit.report import exported
from mtvit.run import command_line
from mtvit.run import config_values
from mtvit.run import flag_errors
from mtvit.run import metrics
from mtvit.run import paths
from mtvit.run import reading
from mtvit.training import run_tasks
from mtvit.training import saved_runs


def load_config(
    name: str, overrides: Mapping[str, Any] | None = None
) -> ml_collections.ConfigDict:
  """A config, as --config and --config.KEY=VALUE give it.

  Args:
    name: of a shipped config, such as "quickstart", or the path of a file of
      one's own; an argument may follow a colon, as in
      "quickstart:strategy=report".
    overrides: key -> value, such as {"tasks.colorize.mode": "off"}.

  Returns:
    The config, whose fields can be changed.

  Raises:
    ConfigError: there is no such config, option or key, or a value has another
      type.
  """
  file, _, argument = command_line.with_file(name).partition(":")
  spec = importlib.util.spec_from_file_location(
      f"config_{pathlib.Path(file).stem}", file)
  if spec is None or spec.loader is None:
    raise errors.ConfigError(
        f"{file} is no Python file", "the name of a config ends in .py")
  module = importlib.util.module_from_spec(spec)
  with flag_errors.clear():
    spec.loader.exec_module(module)
    config = module.get_config(argument)
  known = config_values.flatten(config.to_dict())
  for key in overrides or {}:
    if key not in known:
      raise errors.ConfigError(
          f"{key}: no such key" + errors.suggest(key, known))
  with flag_errors.clear():
    config.update_from_flattened_dict(overrides or {})
  run_tasks.create(config_lib.parse(config))       # Checks it.
  return config


def sample_batch(config: Mapping[str, Any], step: int = 0) -> batches.Batch:
  """A training batch as the run would make it: clean, corrupted, answers.

  Args:
    config: of `load_config`.
    step: whose batch.

  Returns:
    The batch; its `save(file)` draws it.

  Raises:
    UserError: of the config or its data.
  """
  return batches.sample(config_lib.parse(config), step)


def train(
    config: Mapping[str, Any], workdir: paths.Given, *,
    allow_config_change: bool = False
) -> "Run":
  """Trains, or goes on where the run in `workdir` stopped.

  Args:
    config: of `load_config`.
    workdir: where the run is kept, a folder or gs://.
    allow_config_change: continue a run that had another config.

  Raises:
    Preempted: it was interrupted and has saved; call again to continue.
    UserError: see `mtvit.errors` for the others.
  """
  pretrain.pretrain(config_values.to_plain(config), workdir,
                    allow_config_change=allow_config_change)
  return open_run(workdir)


def open_run(workdir: paths.Given) -> "Run":
  """A run that is there, finished or not.

  Raises:
    ConfigError: there is none.
  """
  folder = paths.parse(workdir)
  if not (folder / "config.json").exists():
    raise errors.ConfigError(
        f"{folder} is not the work directory of a run",
        "mtvit.train(config, workdir) makes one")
  return Run(folder)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run's work directory.

  Attributes:
    workdir: its path.
  """
  workdir: epath.Path

  @property
  def config(self) -> dict[str, Any]:
    """The config that it is trained with, plain."""
    return reading.read_json(self.workdir / "config.json")

  @property
  def result(self) -> dict[str, Any]:
    """The final scores and what they took; empty while it has not ended."""
    try:
      return reading.read_json(self.workdir / "result.json")
    except FileNotFoundError:
      return {}

  @property
  def metrics(self) -> list[dict[str, float]]:
    """The curves: a dict for each report, with its "step"."""
    return metrics.read(self.workdir / metrics.METRICS)

  @property
  def pictures(self) -> dict[str, epath.Path]:
    """Name -> PNG, of the end of the run and of its evaluations.

    Such as "curves", a task's name, "positions", "neighbours".
    """
    patterns = ("evaluation/*/*.png", "report/*.png")
    return {file.stem: file for pattern in patterns
            for file in sorted(self.workdir.glob(pattern))}

  def encoder(self, step: int | None = None) -> encoder_lib.Encoder:
    """The trained encoder; see `mtvit.load`."""
    return encoder_lib.load(self.workdir, step)

  def evaluate(self, **options: Any) -> dict[str, Any]:
    """Probes and diagnostics; see `mtvit.evaluate.Options` for the options."""
    return evaluate.evaluate(self.workdir, evaluate.Options(**options))

  def export(self, output: paths.Given) -> list[epath.Path]:
    """Writes the encoder for timm, transformers and numpy; the files."""
    folder = paths.parse(output)
    loaded = loading.load_checkpoint(self.workdir)
    encoder = encoder_lib.from_run(
        self.workdir, saved_runs.rebuild(loaded, self.workdir))
    story = exported.story(self.workdir, loaded.step, loaded.meta)
    return [folder / file for file in exporting.export(
        encoder, folder, story=story)]

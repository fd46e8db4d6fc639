"""What is evaluated, on what, and where the results go."""

import dataclasses
import re

from etils import epath
from etils import epy

from mtvit import config as config_lib
from mtvit import encoder as encoder_lib
from mtvit import errors
from mtvit.checkpoints import fingerprint
from mtvit.checkpoints import loading
from mtvit.run import files
from mtvit.run import paths
from mtvit.training import run_data
from mtvit.training import saved_runs
from mtvit.training import train_state

with epy.lazy_imports():
  from mtvit.data import datasets


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """An encoder and a data set, all that is needed of them in memory.

  So a run may go on meanwhile, and remove the checkpoint.

  Attributes:
    encoder: to evaluate.
    run: what it is of; None for a file of weights.
    single: it was given as one checkpoint, not as a run.
    data: describes the data set.
    train: its training split.
    test: its test split, with the same classes, or none.
    root: where evaluations of this encoder are kept.
    folder: where those on this data set are kept.
    events: where TensorBoard's files go.
  """
  encoder: encoder_lib.Encoder
  run: saved_runs.TrainedRun | None
  single: bool
  data: config_lib.Data
  train: "datasets.Source"
  test: "datasets.Source"
  root: epath.Path
  folder: epath.Path
  events: epath.Path

  @property
  def labelled(self) -> bool:
    """Whether there is something to classify."""
    return len(self.train.classes) > 1

  @property
  def config(self) -> config_lib.Config:
    """Of the run; for a file of weights the defaults, with its sizes."""
    return self.run.config if self.run else config_lib.Config(
        total_steps=1, model=self.encoder.model,
        input="gray" if self.encoder.gray else "rgb")

  def random_init(self) -> encoder_lib.Encoder:
    """The same architecture with the run's own first parameters.

    Those of a run that began with a file of weights are what its seed draws; of
    a file of weights itself, what seed 0 draws.
    """
    encoder = self.encoder
    return dataclasses.replace(
        encoder, step=0, name=f"{encoder.name}, random init",
        params=train_state.first_encoder(
            encoder.module, encoder.model,
            self.run.config.seed if self.run else 0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """Which encoder, and which data.

  Attributes:
    step: of a run: which checkpoint; None for the newest.
    data: "photo_tiles", "folder:PATH" or a TFDS name; "" for the run's own.
    train_split: "" for the run's own, or "train" with another data set.
    test_split: "" for the run's own, or "test" with another data set.
    data_dir: where TFDS keeps its data; "" for the run's own.
    cache_dir: where caches go; "" for the default, see
      `loading.with_own_folders`.
  """
  step: int | None = None
  data: str = ""
  train_split: str = ""
  test_split: str = ""
  data_dir: str = ""
  cache_dir: str = ""


def open_target(path: epath.Path, choice: Choice = Choice()) -> Target:
  """Opens all of it.

  Args:
    path: the work directory of a run, one of its checkpoints, or a file of
      weights.
    choice: see there.

  Raises:
    CheckpointError: there is no such encoder.
    ConfigError: no such data set or split, or nothing can be written to `root`.
    DataError: the splits have different classes.
  """
  single = is_checkpoint(path)
  work = paths.absolute(path).parents[1] if single else path
  if path.suffix in loading.WEIGHTS:
    run, encoder = None, encoder_lib.load(path, choice.step)
  else:
    run = saved_runs.load(path, choice.step)
    encoder = encoder_lib.from_run(path, run)
  given = {key: getattr(choice, key) for key in (
      "train_split", "test_split", "data_dir")}
  if choice.data:
    given |= dict(
        name=choice.data, train_split=choice.train_split or "train",
        test_split=choice.test_split or "test")
  asked = dataclasses.replace(
      _own_data(path, run, choice.data),
      **{key: value for key, value in given.items() if value})
  section = loading.with_own_folders(asked, choice.cache_dir, choice.data_dir)
  run_data.check_local(section)
  train, test = datasets.open_splits(section, max(encoder.grid))
  root = _writable(
      path.with_name(f"{path.name}.evaluation") if path.suffix
      in loading.WEIGHTS else work / "evaluation")
  # Other splits, and other names that look alike, have folders of their own.
  which = [asked.name, asked.data_dir, asked.train_split, asked.test_split]
  slug = re.sub(r"[^A-Za-z0-9.-]+", "_", asked.name).strip("._-")
  slug = f"{slug[:60]}_{fingerprint.of_json(which)[:6]}"
  return Target(encoder=encoder, run=run, single=single, data=section,
                train=train, test=test, root=root, folder=root / slug,
                events=root if path.suffix in loading.WEIGHTS else root.parent)


def is_checkpoint(path: epath.Path) -> bool:
  """Whether it is one checkpoint, not a run."""
  return path.name.isdecimal() and (path / "meta").exists()


def _own_data(
    path: epath.Path, run: saved_runs.TrainedRun | None, asked: str
) -> config_lib.Data:
  """The data section of the checkpoint; the defaults for a file of weights."""
  if run:
    return run.config.data
  if not asked:
    raise errors.ConfigError(
        f"{path} does not say on which data", "--data=folder:PATH")
  return config_lib.Data()


def _writable(root: epath.Path) -> epath.Path:
  """Makes the folder and tries whether it can be written to."""
  with errors.unwritable(
      f"{root}", "copy the run to a place where you may write"):
    files.try_writing(root)
  return root

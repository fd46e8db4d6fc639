"""A run's configuration: sections with checked values.

A config file returns an `ml_collections.ConfigDict`; `parse` turns it into
dataclasses whose fields are the keys. A key that is missing has the default of
its field: what the method says, or what runs did before there was such a key.
An unknown key or an impossible value is an error before anything is built.
"""

import dataclasses
from typing import Any, Mapping

from mtvit import errors
from mtvit import tasks as tasks_lib
from mtvit.models import encoders
from mtvit.models import interface
from mtvit.models import vit
from mtvit.run import config_values
from mtvit.run import paths

Pair = tuple[float, float]
Sections = Mapping[str, Mapping[str, Any]]
INPUTS, FORWARDS = ("rgb", "gray"), ("shared", "separate")
LABELS = ("auto", "folders", "none")
WEIGHTINGS = ("fixed", "uncertainty", "dwa")
MAX_STEPS = 2**31 - 1      # A step is an int32.
MAX_SEED = 2**32 - 1       # jax.random.key takes no more bits.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """Section `data`.

  Attributes:
    name: "photo_tiles", "folder:PATH", "list:FILE", "tar:PATTERN" or a TFDS
      name.
    train_split: a TFDS split, or a folder below PATH; "." is PATH itself.
    test_split: likewise, or a list beside FILE; "" holds some images of the
      training split out.
    labels: of a folder: "folders" says that its folders are classes, "none"
      that it has none, and "auto" that it should be told by what is there.
    data_dir: where TFDS keeps its data; "" for its default.
    cache_dir: where decoded small sets and lists of files are kept;
      $MTVIT_CACHE_DIR, if set, takes the place of "~/.cache/mtvit".
    memory_mb: sets of one image size that decode to at most this are held.
    max_pixels: files of a folder with more, width times height, are refused.
  """
  name: str = "photo_tiles"
  train_split: str = "train"
  test_split: str = "test"
  labels: str = "auto"
  data_dir: str = ""
  cache_dir: str = paths.CACHE_DIR
  memory_mb: int = 2048
  max_pixels: int = 100_000_000

  def __post_init__(self):
    errors.check_choices(labels=(self.labels, LABELS))
    errors.check_ranges(max_pixels=(self.max_pixels, 1, 2**63))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
  """Section `augment`: what makes two views of an image. p is a probability.

  Attributes:
    crop_scale: least and largest area of a random resized crop.
    flip: p of a horizontal flip.
    jitter: p of colour jitter.
    jitter_strength: of it, 1 for SimCLR's on ImageNet.
    gray: p of gray.
    blur: p of Gaussian blur, of the first and of the second view.
    solarize: p of solarisation, of the first and of the second view.
  """
  crop_scale: Pair = (0.2, 1.0)
  flip: float = 0.5
  jitter: float = 0.8
  jitter_strength: float = 0.5
  gray: float = 0.2
  blur: Pair = (0.0, 0.0)
  solarize: Pair = (0.0, 0.0)

  def __post_init__(self):
    low, high = self.crop_scale
    if not 0 < low <= high <= 1:
      raise ValueError(
          f"crop_scale={self.crop_scale} must be 0 < low <= high <= 1")
    one = lambda value: (value, 0, 1)
    errors.check_ranges(
        flip=one(self.flip), jitter=one(self.jitter), gray=one(self.gray),
        jitter_strength=one(self.jitter_strength))
    for blur, solarize in zip(self.blur, self.solarize):
      errors.check_ranges(blur=one(blur), solarize=one(solarize))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
  """Section `optimizer`: AdamW, linear warm-up and cosine to 0.

  Attributes:
    base_lr: peak learning rate for a batch of 256 images; scales linearly.
    warmup: share of the steps.
    weight_decay: decoupled, times the learning rate.
    decay: regular expression; parameters whose path it matches are decayed.
    b1: decay of the first moment.
    b2: decay of the second moment.
    clip_norm: largest global gradient norm.
    layer_decay: each layer of the encoder learns this much slower than the one
      after it (BEiT, Bao et al. 2022, arXiv:2106.08254); 1 for all the same.
    trainable: regular expression; only parameters whose path it finds are
      trained, such as "^head_" for a linear probe. "" for all.
  """
  base_lr: float = 1e-3
  warmup: float = 0.1
  weight_decay: float = 0.05
  decay: str = "kernel$"
  b1: float = 0.9
  b2: float = 0.99
  clip_norm: float = 1.0
  layer_decay: float = 1.0
  trainable: str = ""

  def __post_init__(self):
    errors.check_ranges(
        base_lr=(self.base_lr, 0, 100), warmup=(self.warmup, 0, 1),
        weight_decay=(self.weight_decay, 0, 100), b1=(self.b1, 0, 0.99999),
        b2=(self.b2, 0, 0.99999), clip_norm=(self.clip_norm, 1e-9, 1e9),
        layer_decay=(self.layer_decay, 0, 1))
    errors.check_patterns(decay=self.decay, trainable=self.trainable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
  """Section `mesh`: sizes of the device axes; one -1 takes what is left."""
  data: int = -1
  fsdp: int = 1
  tensor: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knn:
  """Section `knn`: weighted k nearest neighbours during and after training.

  Attributes:
    every_steps: how often during training; 0 for never.
    num_train: training images used then; 0 for all.
    num_test: test images used then; 0 for all.
    final_num_train: training images used at the end; 0 for all.
    final_num_test: test images used at the end; 0 for all.
    k: neighbours; 0 for no kNN. The accuracy of a supervised head on the test
      images is reported all the same.
    temperature: a neighbour votes with exp(cosine / temperature).
    readout: reported as knn/accuracy: a token ("cls", "ct"), or "gap", the
      mean of the patches.
  """
  every_steps: int = 200
  num_train: int = 5000
  num_test: int = 1000
  final_num_train: int = 0
  final_num_test: int = 0
  k: int = 20
  temperature: float = 0.07
  readout: str = "gap"

  def __post_init__(self):
    errors.check_ranges(
        temperature=(self.temperature, 1e-9, 1e9),
        **{name: (getattr(self, name), 0, MAX_STEPS) for name in (
            "every_steps", "num_train", "num_test", "final_num_train",
            "final_num_test", "k")})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighting:
  """Section `weighting`: how losses, each over its trivial value, add up.

  Attributes:
    kind: "fixed", "uncertainty" or "dwa"; see `mtvit.training.weighting`.
    dwa_window: steps whose mean loss is compared with the window before.
    dwa_temperature: of the softmax over the ratios; 2 in the paper.
  """
  kind: str = "fixed"
  dwa_window: int = 50
  dwa_temperature: float = 2.0

  def __post_init__(self):
    errors.check_choices(kind=(self.kind, WEIGHTINGS))
    errors.check_ranges(
        dwa_window=(self.dwa_window, 1, MAX_STEPS),
        dwa_temperature=(self.dwa_temperature, 1e-9, 1e9))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """A whole run.

  Attributes:
    seed: of everything random, 0 to 2^32 - 1.
    total_steps: training steps; 0 if `total_epochs` says.
    total_epochs: passes over the training split; 0 if `total_steps` says.
    batch_size: images in a step.
    accumulate: the views of a step go through the model in so many pieces, so
      that the activations of one are held at a time. The losses are of the
      whole batch all the same; the model runs forward twice.
    views: of each image in a batch; 2, or 1 if no task compares two.
    input: "rgb", or "gray": views lose their colour, for every task and for
      every evaluation (harmonised inputs, Doersch & Zisserman 2017).
    forward: "shared", one forward pass for all tasks (the report), or
      "separate", one for each task on a corruption of its own (k·N).
    weighting: how the losses are added up.
    tasks: task name -> its fields; `mtvit.tasks.create` checks them.
    evaluators: name -> its fields, of those that have a section of their own;
      `mtvit.training.evaluation.check` checks them.
    log_every: steps between reports.
    diagnose_every: steps between looks at each task's gradients; 0 for never.
    checkpoint_every: steps between checkpoints; the last step is always saved.
    keep_checkpoints: how many are kept.
    init_from: whose parameters to start from: a work directory, one of its
      checkpoints, or a .safetensors or .npz file of weights; or "".
    profile_steps: first and last step of a jax.profiler trace; (0, 0) for none.
    max_skipped_steps: steps in a row whose loss or gradient may be not finite;
      they change nothing, and one more ends the run.
    watchdog_seconds: a process that makes no step for so long dumps the stacks
      of its threads and exits; longer than compiling takes. 0 for never.
  """
  seed: int = 0
  total_steps: int = 0
  total_epochs: float = 0.0
  batch_size: int = 256
  accumulate: int = 1
  views: int = 2
  input: str = "rgb"
  forward: str = "shared"
  data: Data = Data()
  augment: Augment = Augment()
  model: interface.EncoderConfig = vit.ModelConfig()
  tasks: Sections = dataclasses.field(default_factory=dict)
  evaluators: Sections = dataclasses.field(default_factory=dict)
  weighting: Weighting = Weighting()
  optimizer: Optimizer = Optimizer()
  mesh: Mesh = Mesh()
  knn: Knn = Knn()
  log_every: int = 10
  diagnose_every: int = 0
  checkpoint_every: int = 100
  keep_checkpoints: int = 2
  init_from: str = ""
  profile_steps: tuple[int, int] = (0, 0)
  max_skipped_steps: int = 10
  watchdog_seconds: int = 1800

  def __post_init__(self):
    errors.check_choices(
        input=(self.input, INPUTS), forward=(self.forward, FORWARDS),
        views=(self.views, (1, 2)))
    errors.check_ranges(
        seed=(self.seed, 0, MAX_SEED), **{
            name: (getattr(self, name), least, MAX_STEPS)
            for name, least in dict(
                total_steps=0, total_epochs=0, batch_size=2, accumulate=1,
                log_every=1, diagnose_every=0, checkpoint_every=1,
                keep_checkpoints=1, max_skipped_steps=0, watchdog_seconds=0
            ).items()})
    if (self.total_steps > 0) == (self.total_epochs > 0):
      raise ValueError(
          f"set either total_steps (now {self.total_steps}) or total_epochs "
          f"(now {self.total_epochs}) above 0, and the other to 0")
    first, last = self.profile_steps
    if self.profile_steps != (0, 0) and not 1 <= first <= last:
      raise ValueError(
          f"profile_steps={self.profile_steps} must be (first, last) with "
          f"1 <= first <= last, or (0, 0)")


def parse(config: Mapping[str, Any]) -> Config:
  """Checks a config and returns it as dataclasses.

  Raises:
    ConfigError: names the key, what is wrong, and the nearest right name.
  """
  plain = resolved(config)
  try:
    model = encoders.config_class(_encoder(plain))
  except ValueError as e:
    raise errors.ConfigError(str(e)) from e
  return config_values.parse_section(Config, plain, sections={"model": model})


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
  """A config with the defaults of the keys that it lacks, plain, unchecked."""
  plain = config_values.to_plain(config)
  return config_values.over(
      plain, config_values.to_plain(defaults(_encoder(plain))))


def defaults(encoder: str = Config.model.kind) -> dict[str, Any]:
  """Key -> default, of all sections, this encoder's, and of all tasks."""
  model = encoders.ENCODERS.get(encoder, type(Config.model))
  tasks = {name: task.defaults() for name, task in tasks_lib.TASKS.items()}
  return config_values.defaults(Config) | {
      "model": config_values.defaults(model), "tasks": tasks}


def _encoder(plain: Mapping[str, Any]) -> str:
  """The name of the encoder that a config has, perhaps of none."""
  model = plain.get("model")
  kind = model.get("kind") if isinstance(model, dict) else None
  return kind if isinstance(kind, str) else Config.model.kind

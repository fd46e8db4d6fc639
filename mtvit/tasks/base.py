"""What a pretext task is: its corruption, its head, its loss, its pictures.

A task is declared once, in one file. Its dataclass fields are its config keys;
`geometry` and `statistics` are bound when a run is built.
"""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Iterable, Mapping, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mtvit import errors
from mtvit.tasks import picture

if TYPE_CHECKING:
  from mtvit.data import corruption
  from mtvit.data import draws

MODES = ("train", "corrupt", "off")
POSITION_POLICIES = ("keep", "drop", "drop_all", "mask_token", "swap")
Metrics = dict[str, jax.Array]


class Geometry(NamedTuple):
  """The views of a run.

  Attributes:
    image_size: side of a view, pixels.
    patch_size: side of a patch, pixels.
    num_views: views in a global batch (images times views per image).
    views: of each image.
  """
  image_size: int
  patch_size: int
  num_views: int
  views: int = 2

  @property
  def grid(self) -> tuple[int, int]:
    """Patches per column and per row."""
    side = self.image_size // self.patch_size
    return side, side


class Corrupted(NamedTuple):
  """What a task did to a batch of views.

  Attributes:
    pixels: after the corruption, uint8: claimed patches [b, k, p, p, 3] from
      `Task.corrupt`, whole views [b, h, w, 3] from `Task.corrupt_image`.
    queries: field -> [b, ...], what the head may look at.
    answers: field -> [b, ...], what only the loss sees.
    hide_ids: int32 [b, k] patches that lose their position embedding, or None.
  """
  pixels: Any
  queries: dict[str, Any] = {}
  answers: dict[str, Any] = {}
  hide_ids: Any = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
  """Base of all tasks; a subclass names itself and overrides what it needs.

  Attributes:
    mode: "train" (corruption and loss), "corrupt" (corruption only, the
      augmentation control) or "off".
    weight: of the loss divided by its trivial value.
    geometry: bound by `tasks.create`; not a config key.
    statistics: what `statistics_of` found; not a config key.
  """
  name: ClassVar[str]
  shows: ClassVar[str] = ""           # What its picture shows, in plain words.
  token: ClassVar[str | None] = None
  num_blocks: ClassVar[int] = 0       # 3x3 blocks that `claim` takes
  num_neighbours: ClassVar[int] = 0   # pairs of neighbours that it takes
  num_patches: ClassVar[int] = 0      # single patches that it takes
  single_views: ClassVar[bool] = False    # one view of an image is enough
  readout: ClassVar[str | None] = None    # what the head reads of the encoder
  mixes: ClassVar[bool] = False           # whole images

  mode: str = "off"
  weight: float = 1.0
  geometry: Geometry = None  # type: ignore[assignment]  # Until it is built.
  statistics: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    self.check_choice("mode", MODES)
    self.check_least(weight=0)

  def check_choice(self, field: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless the field holds one of `choices`."""
    errors.check_choices(**{field: (getattr(self, field), choices)})

  def check_least(self, **least: float) -> None:
    """Raises ValueError unless each field is finite and at least so much."""
    for field, low in least.items():
      if not low <= getattr(self, field) < float("inf"):
        raise ValueError(
            f"{field}={getattr(self, field)} must be at least {low}")

  def check_statistics(self) -> None:
    """Raises KeyError, TypeError or ValueError if they are of another kind."""

  @classmethod
  def config_fields(cls) -> tuple[str, ...]:
    """Names of the config keys."""
    names = [f.name for f in dataclasses.fields(cls)]
    return tuple(n for n in names if n not in ("geometry", "statistics"))

  @classmethod
  def defaults(cls) -> dict[str, Any]:
    """Config key -> its default; without the keys that have none."""
    classes = [c for c in cls.__mro__ if issubclass(c, Task)]
    result = {}
    for key in cls.config_fields():
      # What a class attribute of `Task` says, such as num_patches, is no
      # default of the field of that name.
      where = next(c for c in classes if key in inspect.get_annotations(c))
      if key in vars(where):
        result[key] = getattr(cls, key)
    return result

  @property
  def trains(self) -> bool:
    return self.mode == "train"

  @property
  def position_policy(self) -> str | None:
    """One of `POSITION_POLICIES`; None if answers are not about positions."""
    return None

  @property
  def chance(self) -> float | None:
    """Accuracy of the best constant guess; None if there is no accuracy."""
    return None

  @property
  def slot_bound(self) -> float | None:
    """Accuracy of an ideal reader of which slots are asked about.

    None if that tells nothing, or if the embeddings tell more.
    """
    return None

  @property
  def teacher_momentum(self) -> float | None:
    """A number if the loss needs the momentum encoder's predictions.

    It is the momentum at the first step, and rises to 1 along a cosine.
    """
    return None

  @property
  def trivial_loss(self) -> float:
    """The loss of the constant predictor; the step divides by it."""
    raise NotImplementedError

  # Corruption, in TensorFlow, on whole batches.

  def corrupt_image(self, images: Any, draw: "draws.Draw") -> Corrupted:
    """Changes whole views, before patches are cut and claimed.

    Args:
      images: uint8 [b, h, w, 3], the views of an image adjacent.
      draw: stateless randomness of this task.
    """
    return Corrupted(images)

  def claim(self, layout: "corruption.Layout", draw: "draws.Draw") -> Any:
    """Which patches are this task's alone.

    Args:
      layout: `data.corruption.Layout`: the grid and what is still free.
      draw: stateless randomness of this task.

    Returns:
      int32 [b, k] patch ids, or None if the task changes no pixels.
    """
    del layout, draw
    return None

  def corrupt(
      self, patches: Any, ids: Any, layout: "corruption.Layout",
      draw: "draws.Draw"
  ) -> Corrupted:
    """Corrupts the claimed patches of a batch.

    Args:
      patches: uint8 [b, k, p, p, 3], those of `ids`; None without any.
      ids: what `claim` returned.
      layout: the grid, all that any task claimed, and the clean views.
      draw: stateless randomness of this task.
    """
    del ids, layout, draw
    return Corrupted(patches)

  def context(
      self, layout: "corruption.Layout", queries: Mapping[str, Any]
  ) -> dict[str, Any]:
    """More answers, from what all tasks together have left unchanged.

    Args:
      layout: with `changed`, the patches that any task has changed.
      queries: the task's own, of `corrupt_image` and `corrupt`.
    """
    del layout, queries
    return {}

  # Model and loss, in JAX.

  def head(self) -> nn.Module:
    """The module that maps (features, queries) to the prediction.

    Without `name`: its parameters are called head_<task>.
    """
    raise NotImplementedError

  def loss(
      self, predicted: jax.Array, answers: Mapping[str, jax.Array]
  ) -> tuple[jax.Array, Metrics]:
    """Scalar float32 loss over the global batch, and scalar metrics.

    The metrics include `skill`, 1 - loss / loss of the constant predictor.

    Args:
      predicted: what the head returned.
      answers: the task's own, and what else the loss alone sees: "teacher",
        what the momentum encoder's head returned, if `teacher_momentum` is
        set; "state", if `init_state` gives any.
    """
    raise NotImplementedError

  def init_state(self) -> dict[str, jax.Array]:
    """Arrays that the task carries from step to step, such as a queue."""
    return {}

  def update_state(self, answers: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The next state, from the same answers that `loss` saw."""
    return answers["state"]

  def check_classes(self, classes: tuple[str, ...]) -> None:
    """Raises ConfigError if the task can't have data of these classes."""

  def statistics_of(
      self, batches: Iterable[Mapping[str, np.ndarray]]
  ) -> dict[str, Any]:
    """What the task needs to know of the training data, as JSON values.

    Args:
      batches: of augmented, uncorrupted views: `image` uint8 [b, h, w, 3],
        `input`, the same as the model sees them (gray if its input is),
        `gray_view` bool [b], the views that lost their colour, and `label`
        int32 [b].
    """
    del batches
    return {}

  # Pictures, in numpy.

  def panels(
      self, image: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: np.ndarray | None
  ) -> list[picture.Panel]:
    """Shows one corrupted view, the truth, and the prediction if given.

    Args:
      image: uint8 [h, w, 3], the corrupted view.
      queries: this view's fields, without the batch axis.
      answers: likewise.
      predicted: the head's output for this view.
    """
    del image, queries, answers, predicted
    return []

  def rows(
      self, images: np.ndarray, queries: Mapping[str, np.ndarray],
      answers: Mapping[str, np.ndarray], predicted: Any, limit: int
  ) -> list[list[picture.Panel]]:
    """The task's picture of a batch: at most `limit` rows, one for each image.

    The arguments are those of `panels`, with a batch axis.
    """
    step = self.geometry.views
    row = lambda tree, i: jax.tree.map(lambda x: np.asarray(x[i]), tree)
    rows = [self.panels(images[i], *(row(tree, i) for tree in (
        queries, answers, predicted)))
            for i in range(0, len(images), step)[:limit]]
    return [panels for panels in rows if panels]

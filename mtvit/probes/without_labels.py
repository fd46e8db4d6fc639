"""What evaluators share that look at held-out images and need no labels."""

import dataclasses

from mtvit import config as config_lib
from mtvit import errors
from mtvit.probes import retrieval
from mtvit.training import evaluation

WHEN = ("unlabelled", "always", "never")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """A section `evaluators.<name>`.

  Attributes:
    when: "unlabelled", in runs whose data have no labels; "always"; or "never".
    num_images: held-out images, at most.
  """
  when: str = "unlabelled"
  num_images: int = retrieval.NUM_IMAGES

  def __post_init__(self):
    errors.check_choices(when=(self.when, WHEN))
    errors.check_ranges(num_images=(self.num_images, 1, config_lib.MAX_STEPS))


class WithoutLabels(evaluation.Evaluator):
  """Looks every `knn.every_steps` and at the end, or never."""

  settings = Settings

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self.looks = self.section.when == "always" or (
        self.section.when == "unlabelled" and not context.labelled)
    self.every = context.config.knn.every_steps if self.looks else 0
    if not self.looks:
      self.at_end = "nothing"

"""The evaluator `classifiers`: accuracy of supervised heads on test images.

A classifier is a task whose head reads one readout; only such a head answers
for a clean image.
"""

from typing import TYPE_CHECKING, Any, Callable

import jax
from jax.sharding import NamedSharding, PartitionSpec as P

from mtvit.models import parameter_names
from mtvit.probes import bootstrap
from mtvit.probes import features as features_lib
from mtvit.training import evaluation

if TYPE_CHECKING:
  from mtvit.models import pretrainer
  from mtvit.tasks import base


class Classifiers(evaluation.Evaluator):
  """`<task>/test_accuracy` during training, at the end with its interval.

  Then it is `<task>/final_accuracy`, and `_low` and `_high` of a 95 % bootstrap
  interval. As often, and on as many images, as the section `knn` says.
  """

  name = "classifiers"
  title = "test accuracy"
  at_end = "run"

  def __init__(self, context: evaluation.Context):
    super().__init__(context)
    self._config = context.config.knn
    self.every = self._config.every_steps
    parts = context.parts
    self._images = features_lib.RunImages(context)
    self._classifiers = {
        task.name: _classifier(parts.model, task, parts.mesh)
        for task in parts.tasks if task.trains and task.readout}
    self.headline = next(
        (f"{name}/test_accuracy" for name in self._classifiers), "")

  def owns(self, scalar: str) -> bool:
    return scalar.partition("/")[2] in (
        "test_accuracy", "final_accuracy", "final_accuracy_low",
        "final_accuracy_high")

  def run(self, look: evaluation.Look) -> evaluation.Found:
    limit = (self._config.final_num_test if look.final
             else self._config.num_test)
    scores = {}
    for name, classify in self._classifiers.items():
      found, labels = self._images.outputs(
          classify, look.state.params, "test", limit)
      if not found or labels.min() < 0:
        continue
      right = found["class"][:, 0] == labels                # bool [n]
      if not look.final:
        scores[f"{name}/test_accuracy"] = float(right.mean())
        continue
      low, high = bootstrap.interval(right)
      key = f"{name}/final_accuracy"
      scores |= {key: float(right.mean()), f"{key}_low": low,
                 f"{key}_high": high}
    return evaluation.Found(scores)


def _classifier(
    model: "pretrainer.Pretrainer", task: "base.Task", mesh: jax.sharding.Mesh
) -> Callable[[Any, jax.Array], dict[str, jax.Array]]:
  """A jitted (params, image [b, h, w, 3]) -> `class` int32 [b, 1]."""
  encoder, head = model.encoder(), task.head()

  def classify(params, image):
    features = encoder.apply({"params": params["encoder"]}, image)
    logits: Any = head.apply(
        {"params": params[parameter_names.head(task.name)]}, features, {})
    return {"class": logits.argmax(-1)[:, None]}            # [b, 1]

  return jax.jit(classify, out_shardings=NamedSharding(mesh, P()))

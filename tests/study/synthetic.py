"""Rows of a made-up report study whose truth is known, made by numpy alone."""

import base64

import numpy as np

from mtvit.study import results as results_lib
from mtvit.study import rows as rows_lib

# Of mean 0 and standard deviation 0.2: half an interval of five is 0.2483.
PATTERN = np.array([-0.3, 0.1, 0.2, -0.1, 0.1])
TASKS = ("contrastive", "colorize", "relative_position", "inpaint", "jigsaw",
         "rotation", "counting")
FIVE = ("random", "contrastive", "control", "report", "report_drop",
        "report_swap", "report_sincos", "all", "all_control",
        "separate_compute", "harmonised")
WEIGHTS = tuple(f"weight_{what}_{way}" for what in (
    "relative_position", "colorize", "tasks") for way in ("times_3", "over_3"))
IMAGES = 400


class World:
  """Measures by arm, [seeds] or [seeds, layers]; in the beginning no effect."""

  def __init__(self):
    self.seeds = {name: 5 for name in FIVE}
    self.seeds |= {f"alone_{task}": 3 for task in TASKS}
    self.seeds |= {name: 1 for name in (
        *WEIGHTS, "control_nothing", "contrastive_again")}
    self.arms = {arm: self._arm(n) for arm, n in self.seeds.items()}
    self.arms["random"]["knn"] -= 20 + PATTERN
    for name in ("contrastive", "contrastive_again", "control_nothing"):
      self.arms[name]["digest"] = [f"same {i}" for i in range(5)][
          :self.seeds[name]]
    for arm in ("report", "control"):
      self.arms[arm]["images_digest"] = [f"pixels {i}" for i in range(5)]
    self.cost = {"against": "contrastive", "arms": {
        "contrastive": {"flops_ratio": 1.0, "ratio": 1.0},
        "report": {"flops_ratio": 1.02, "ratio": 1.1}}}
    self.failed, self.lost = {}, set()
    self.machine, self.code, self.data = {}, {}, {}

  def _arm(self, n):
    of_seed = np.array([0.0, 3, -2, 1, 5])[:n]     # Cancels within a seed.
    found = {"knn": 60 + of_seed, "linear": 70 + of_seed,
             "knn_gray": 60 + of_seed, "linear_gray": 70 + of_seed,
             "position/r2": 0.4 + of_seed / 100,
             "linear_shuffled_labels": 10 + PATTERN[:n],
             "num_classes": np.full(n, 10), "num_test": np.full(n, IMAGES),
             "skipped": np.zeros(n), "digest": [object()] * n}
    found |= {f"skill/{task}": 0.5 + of_seed / 100 for task in TASKS}
    grow = np.linspace(0.1, 0.6, 7)
    found["layers/cosine_centred"] = grow + of_seed[:, None] / 100
    found["layers/residual_share"] = 0.5 - grow / 2 + of_seed[:, None] / 100
    for name, x in (("nothing/trained", 0.6), ("contents/trained", 0.1),
                    ("contents/refitted", 0.2), ("chance", 0.1)):
      found[f"cheat/relative_position/{name}"] = np.full(n, x)
    for third in ("early", "middle", "late"):
      for group in ("embed", "early", "late", "all"):
        for pair in ("colorize~contrastive", "contrastive~inpaint"):
          found[f"gradients/{third}/{group}/{pair}"] = np.full(n, 0.01)
    return found

  def shift(self, arm, measure, effect, scale=1.0):
    """Adds to a measure, the pattern times `scale` (to kNN and linear) too."""
    for name in ("knn", "linear") if measure == "probes" else (measure,):
      x = np.array(self.arms[arm][name], float)
      effects = effect + scale * PATTERN[:len(x)]
      self.arms[arm][name] = x + effects.reshape(
          (-1,) + (1,) * (x.ndim - 1))
    return self

  def rows(self):
    """As a study's file has them."""
    found = []
    for arm, n in self.seeds.items():
      for seed in range(n):
        if (arm, seed) in self.lost:
          continue
        reason = self.failed.get((arm, seed), "")
        measures = {} if reason else {
            name: value for name, x in self.arms[arm].items()
            if (value := plain(x[seed])) is not None}
        found.append(rows_lib.Row(
            arm=arm, seed=seed, status="failed" if reason else "done",
            reason=reason, config_digest=f"config of {arm}",
            code_digest=self.code.get((arm, seed), "code"),
            data=self.data.get((arm, seed), "images"),
            machine=self.machine.get((arm, seed), "cpu"), measures=measures))
    return found

  def results(self):
    return results_lib.Results(
        {arm: range(n) for arm, n in self.seeds.items()}, self.rows(),
        self.cost)


def plain(x):
  """As JSON has it; None for what is no value of a row."""
  if isinstance(x, str):
    return x
  if isinstance(x, np.ndarray):
    return x.tolist()
  return x.item() if isinstance(x, np.generic) else None


def packed(right):
  """bool [n] as rows have it, bit by bit."""
  bits = "".join("1" if x else "0" for x in right)
  bits += "0" * (-len(bits) % 8)
  return base64.b64encode(bytes(
      int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))).decode()

"""How many dimensions features use: the guards against collapse."""

import numpy as np

from mtvit.probes import knn


def effective_rank(singular_values: np.ndarray) -> float:
  """exp of the entropy of the normalised singular values.

  k equal ones and zeros give k. Roy & Vetterli 2007, "The effective rank".

  Args:
    singular_values: [k], not negative. If all are 0 the rank is 0.
  """
  total = singular_values.sum()
  if not total > 0:
    return 0.0
  share = singular_values[singular_values > 0] / total      # [<= k]
  return float(np.exp(-np.sum(share * np.log(share))))


def rankme(features: np.ndarray) -> float:
  """RankMe, the effective rank of features that are not centred.

  Garrido et al. 2023 (arXiv:2210.02885), equation 1, without the 1e-7 that they
  add to every share. At most min(m, d).

  Args:
    features: [m, d], finite.
  """
  return effective_rank(np.linalg.svd(
      np.asarray(features, np.float64), compute_uv=False))


def spread_per_dimension(features: np.ndarray) -> float:
  """Mean deviation of a dimension over examples, times sqrt(d).

  Of features with length 1: 1 if they point everywhere alike, 0 if all point
  the same way (SimSiam, Chen & He 2021, arXiv:2011.10566, figure 2).

  Args:
    features: [m, d], finite.
  """
  x = knn.normalised(np.asarray(features, np.float64))
  return float(x.std(axis=0).mean() * np.sqrt(x.shape[1]))


def describe(features: dict[str, np.ndarray]) -> list[dict[str, object]]:
  """One row for each readout, from its features [m, d]."""
  return [
      {"readout": name, "rankme": rankme(x),
       "spread_per_dimension": spread_per_dimension(x)}
      for name, x in features.items()]

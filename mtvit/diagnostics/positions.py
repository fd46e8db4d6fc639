"""What position embeddings have learned about the grid."""

from typing import Any

import numpy as np
from scipy import stats

from mtvit.diagnostics import smoothing

# Ridge, as a share of the mean eigenvalue of the embeddings' Gram matrix.
RIDGE = 0.1


def describe(embedding: np.ndarray, grid: tuple[int, int]) -> dict[str, Any]:
  """How well embeddings tell rows and columns, and near from far.

  Args:
    embedding: [n, d], of patches in reading order.
    grid: rows and columns of patches, n in all.

  Returns:
    `r2_row` and `r2_column` of `leave_one_out_r2`; `distance_correlation`, the
    rank correlation (Spearman's) over pairs of patches of the cosine of their
    embeddings with minus their distance, so 1 is nearest most similar; `grid`;
    `similarity`, all cosines, n lists of n.
  """
  x = np.asarray(embedding, np.float64)                     # [n, d]
  row, column = np.divmod(np.arange(len(x)), grid[1])       # [n] each
  unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
  similarity = unit @ unit.T                                # [n, n]
  return {
      "r2_row": leave_one_out_r2(x, row),
      "r2_column": leave_one_out_r2(x, column),
      "distance_correlation": _correlation(
          similarity, smoothing.grid_distances(grid)),
      "grid": list(grid), "similarity": similarity.round(4).tolist()}


def leave_one_out_r2(x: np.ndarray, y: np.ndarray) -> float:
  """R² of a ridge regression on patches that it was not fitted to.

  With kernel K = x xᵀ / d of standardised x and hat matrix
  H = 1/n + K (K + RIDGE · trace(K)/n)⁻¹, leaving patch i out gives the error
  (y - H y)_i / (1 - H_ii) (Hastie et al. 2009, section 7.10). R² compares it
  with the mean of the others, so a model that knows nothing has 0; below 0 it
  is misled.

  Args:
    x: [n, d]; standardised over the n rows.
    y: [n]. If it is constant there is nothing to predict: 0.
  """
  x = np.asarray(x, np.float64)
  n, d = x.shape
  if n < 2:
    return 0.0
  deviation = x.std(axis=0)                                 # [d]
  x = (x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
  gram = x @ x.T / d                                        # [n, n]
  ridge = RIDGE * np.trace(gram) / n or 1.0
  hat = 1 / n + gram @ np.linalg.inv(gram + ridge * np.eye(n))  # [n, n]
  centred = y - np.mean(y)                                  # [n]
  error = (y - hat @ y) / (1 - np.diag(hat))                # [n]
  baseline = np.square(centred / (1 - 1 / n)).sum()
  return float(1 - np.square(error).sum() / baseline) if baseline else 0.0


def changed(embedding: np.ndarray) -> dict[str, np.ndarray]:
  """The embeddings [n, d] with their rows `shuffled`, and `zeroed`."""
  order = np.random.default_rng(0).permutation(len(embedding))  # [n]
  return {
      "shuffled": embedding[order], "zeroed": np.zeros_like(embedding)}


def _correlation(similarity: np.ndarray, distance: np.ndarray) -> float:
  """Spearman's over pairs; 0 where one of the two does not vary."""
  a, b = (x[np.triu_indices(len(x), 1)] for x in (similarity, -distance))
  if len(a) < 2 or np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
    return 0.0
  # Rounding must not rank embeddings that are equally similar.
  return float(stats.spearmanr(a.round(9), b.round(9)).statistic)

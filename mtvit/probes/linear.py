"""Linear probe: multinomial logistic regression on frozen features.

Full batch, to convergence, so there is no learning rate to choose. Minimised is

  mean cross entropy + l2 / 2 * |weights|^2

with the bias left free and features standardised by the training rows; so
scikit-learn's LogisticRegression(C=1 / (n * l2)) finds the same.
"""

import dataclasses
from typing import NamedTuple, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from mtvit.probes import blas

# From strong to weak, so that each fit starts near its solution.
GRID = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclasses.dataclass(frozen=True)
class Probe:
  """A linear classifier of standardised features; few-shot has it too.

  Attributes:
    mean: [d], of the training rows.
    scale: [d], their deviation; 1 where that is 0.
    weights: [d, classes].
    bias: [classes].
  """
  mean: np.ndarray
  scale: np.ndarray
  weights: np.ndarray
  bias: np.ndarray

  def logits(self, x: np.ndarray) -> np.ndarray:
    """[m, d] -> float32 [m, classes]; softmax makes a fit's probabilities."""
    weights = (self.weights / self.scale[:, None]).astype(x.dtype)
    logits = (x - self.mean.astype(x.dtype)) @ weights + self.bias
    return logits.astype(np.float32)

  def predict(self, x: np.ndarray) -> np.ndarray:
    """[m, d] -> the likeliest classes, int [m]."""
    return self.logits(x).argmax(-1)


@dataclasses.dataclass(frozen=True)
class Selected:
  """The probe with the regularisation that validation prefers.

  Attributes:
    probe: fitted on the training rows.
    l2: of it.
    accuracy: of it, on the validation rows.
  """
  probe: Probe
  l2: float
  accuracy: float


class Standard(NamedTuple):
  """Mean and deviation of features, [d] each; 1 for a deviation of 0."""
  mean: np.ndarray
  scale: np.ndarray


def standard(x: np.ndarray) -> Standard:
  """How features [n, d] are standardised."""
  # Scaled by a power of two, which rounds nothing, as squares may be infinite.
  largest, exponent = np.frexp(np.abs(x).max())
  x = np.ldexp(x, -exponent)                                # [n, d]
  mean, deviation = x.mean(0), x.std(0)                     # [d], [d]
  return Standard(np.ldexp(mean, exponent), np.where(
      deviation > 1e-6 * largest, np.ldexp(deviation, exponent), 1))


def fit(
    x: np.ndarray, labels: np.ndarray, num_classes: int, l2: float,
    start: Probe | None = None, tolerance: float = 1e-9
) -> Probe:
  """Fits a probe.

  L-BFGS in coordinates in which the loss is about equally curved in all
  directions: the principal axes of the features, each scaled by its variance.
  That takes a tenth of the iterations and leaves the minimum where it is.

  Args:
    x: float32 [n, d].
    labels: int [n].
    num_classes: labels lie below it.
    l2: penalty; see the module.
    start: of a similar problem, to begin with.
    tolerance: it ends once a step lowers the loss by less than this share.
  """
  mean, scale = standard(x)                                 # [d], [d]
  scaled = jnp.asarray((x - mean) / scale, jnp.float32)     # [n, d]
  with blas.one_thread():
    values, axes = np.linalg.eigh(np.asarray(_covariance(scaled), np.float64))
  # Where all classes are as likely the curvature is variance / classes + l2.
  curvature = np.maximum(values, 0) / num_classes + l2      # [d]
  basis = axes / np.sqrt(curvature)                         # [d, d]
  rotated = _product(scaled, jnp.asarray(basis, jnp.float32))    # [n, d]
  penalty = jnp.asarray(l2 / curvature, jnp.float32)[:, None]
  right = jnp.asarray(labels, jnp.int32)                    # [n]
  first = np.zeros((x.shape[1] + 1, num_classes))           # [d+1, classes]
  if start is not None:
    first[:-1] = np.sqrt(curvature)[:, None] * (axes.T @ start.weights)
    first[-1] = start.bias

  found = _minimise(first, tolerance, rotated, right, penalty)
  return Probe(mean, scale, (basis @ found[:-1]).astype(np.float32),
               found[-1].astype(np.float32))


def select(
    x: np.ndarray, labels: np.ndarray, x_val: np.ndarray,
    labels_val: np.ndarray, num_classes: int, grid: Sequence[float] = GRID
) -> Selected:
  """Chooses the regularisation by validation accuracy.

  Args:
    x: float32 [n, d], to fit.
    labels: int [n].
    x_val: float32 [m, d], to choose by.
    labels_val: int [m].
    num_classes: labels lie below it.
    grid: penalties, falling; of equally good ones the first is taken. After
      two in a row that are no better the weaker ones are not tried.
  """
  best: Selected | None = None
  probe: Probe | None = None
  worse = 0
  for l2 in grid:
    # A tighter tolerance moves accuracies by less than 0.1 %.
    probe = fit(x, labels, num_classes, l2, probe, 1e-6)
    accuracy = float((probe.predict(x_val) == labels_val).mean())
    if best is None or accuracy > best.accuracy:
      best, worse = Selected(probe, l2, accuracy), 0
    else:
      worse += 1
    if worse == 2:
      break
  if best is None:
    raise ValueError("no penalty to choose from")
  return best


def _minimise(
    first: np.ndarray, tolerance: float, *data: jax.Array
) -> np.ndarray:
  """The coefficients [d+1, classes] with the least `_objective` of the data."""
  def objective(flat):
    value, gradient = _objective(
        flat.reshape(first.shape).astype(np.float32), *data)
    return float(value), np.asarray(gradient, np.float64).ravel()

  with blas.one_thread():
    return optimize.minimize(
        objective, first.ravel(), jac=True, method="L-BFGS-B",
        options=dict(maxiter=500, ftol=tolerance, gtol=2e-6)
    ).x.reshape(first.shape)


@jax.jit
def _product(a, b):
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _covariance(x):
  return _product(x.T, x) / len(x)


@jax.jit
def _objective(coefficients, x, labels, penalty):
  """The loss and its gradient, [d+1, classes], in rotated coordinates."""
  def loss(coefficients):
    weights, bias = coefficients[:-1], coefficients[-1]
    logits = _product(x, weights) + bias                    # [n, classes]
    right = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - right) + 0.5 * jnp.sum(
        penalty * weights**2)
  return jax.value_and_grad(loss)(coefficients)

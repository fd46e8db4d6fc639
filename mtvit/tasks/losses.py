"""Losses that tasks share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax


def classification(
    logits: jax.Array, labels: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Cross-entropy against uniform guessing: [..., classes], int [...]."""
  logits = logits.astype(jnp.float32)
  loss = optax.losses.softmax_cross_entropy_with_integer_labels(
      logits, labels).mean()
  return loss, {
      "accuracy": jnp.mean(logits.argmax(-1) == labels),
      "skill": 1 - loss / np.log(logits.shape[-1]),
  }

"""Softmax attention, in the form that suits the device.

Without being asked for, no form keeps the weights [b, h, t, t] for the
gradient: they are computed again from queries and keys, by the log of the
softmax's sums (Dao et al. 2022, arXiv:2205.14135).
"""

import concurrent.futures
import functools
from typing import Callable

from absl import logging
import jax
from jax.sharding import PartitionSpec as P
import jax.numpy as jnp
import numpy as np

from mtvit.models import chunks
from mtvit.models import recompute
from mtvit.models import target

# By the key `model.attention`.
FORMS = ("auto", "xla", "plain")


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, form: str = "auto",
    heads_first: bool = False
) -> jax.Array:
  """softmax(q kᵀ / √e) v, for each head.

  Args:
    q: queries, [b, t, h, e].
    k: keys, the same shape.
    v: values, the same shape.
    form: one of `FORMS`. "plain" keeps the weights for the gradient and "xla"
      does not; "auto" is the kernel in cuDNN where it works, and "xla"
      elsewhere.
    heads_first: all arrays are [b, h, t, e].

  Returns:
    As the queries.
  """
  if form == "plain":
    return with_weights(q, k, v, heads_first)[0]
  if form == "auto" and target.is_nvidia() and q.dtype in (
      jnp.bfloat16, jnp.float16):
    problem = cudnn_problem(q.shape[1:], q.dtype.name)
    if not problem:
      return on_each_device(_kernel, q, k, v)
    _note(problem)
  return _lean(q * q.shape[-1]**-0.5, k, v, heads_first)


def with_weights(
    q: jax.Array, k: jax.Array, v: jax.Array, heads_first: bool = False
) -> tuple[jax.Array, jax.Array]:
  """The same by its definition, and the weights, float32 [b, h, t, t]."""
  query, key = _axes(heads_first)
  logits = jnp.einsum(f"{query},{key}->bhqk", q * q.shape[-1]**-0.5, k)
  weights = jax.nn.softmax(logits.astype(jnp.float32))      # [b, h, t, t]
  out = jnp.einsum(f"bhqk,{key}->{query}", weights.astype(q.dtype), v)
  return out, weights


def _axes(heads_first):
  """Those of queries and of keys, for `einsum`."""
  return ("bhqe", "bhke") if heads_first else ("bqhe", "bkhe")


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _lean(q, k, v, heads_first):
  """Attention of queries that are scaled already."""
  return _lean_forward(q, k, v, heads_first)[0]


def _lean_forward(q, k, v, heads_first):
  query, key = _axes(heads_first)
  logits = jnp.einsum(f"{query},{key}->bhqk", q, k)         # [b, h, t, t]
  logits = logits.astype(jnp.float32)
  most = logits.max(-1, keepdims=True)                      # [b, h, t, 1]
  weights = jnp.exp(logits - most)
  total = weights.sum(-1, keepdims=True)                    # [b, h, t, 1]
  weights = (weights / total).astype(q.dtype)
  out = jnp.einsum(f"bhqk,{key}->{query}", weights, v)
  return out, (q, k, v, (most + jnp.log(total))[..., 0])


def _lean_backward(heads_first, saved, grad):
  grad, (q, k, v, log_total) = recompute.after(grad, saved)
  query, key = _axes(heads_first)
  logits = jnp.einsum(f"{query},{key}->bhqk", q, k)         # [b, h, t, t]
  weights = jnp.exp(logits.astype(jnp.float32) - log_total[..., None])
  dv = jnp.einsum(f"bhqk,{query}->{key}", weights.astype(q.dtype), grad)
  dweights = jnp.einsum(f"{query},{key}->bhqk", grad, v)    # [b, h, t, t]
  dweights = dweights.astype(jnp.float32)
  mean = (weights * dweights).sum(-1, keepdims=True)        # [b, h, t, 1]
  dlogits = (weights * (dweights - mean)).astype(q.dtype)
  return (jnp.einsum(f"bhqk,{key}->{query}", dlogits, k),
          jnp.einsum(f"bhqk,{query}->{key}", dlogits, q), dv)


_lean.defvjp(_lean_forward, _lean_backward)


_kernel = functools.partial(
    jax.nn.dot_product_attention, implementation="cudnn")


def on_each_device(
    kernel: Callable[..., jax.Array], q: jax.Array, k: jax.Array, v: jax.Array
) -> jax.Array:
  """Attention by a kernel, on each device for its own rows and heads.

  Nothing crosses devices, so XLA needn't know how to split the kernel.

  Args:
    kernel: (q, k, v) -> as the queries.
    q: [b, t, h, e].
    k: the same shape.
    v: the same shape.
  """
  sizes = jax.sharding.get_abstract_mesh().shape
  if not sizes:
    return kernel(q, k, v)
  rows = chunks.ROWS if len(q) % chunks.shards() == 0 else None
  heads = "tensor" if q.shape[2] % sizes.get("tensor", 1) == 0 else None
  spec = P(rows, None, heads, None)
  return jax.shard_map(
      kernel, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q, k, v)


def cudnn_problem(shape: tuple[int, ...], dtype: str) -> str:
  """Why cuDNN's kernel does not do here; "" if it does.

  It is tried on this machine's first GPU, since versions of cuDNN differ in
  the shapes that they take, and some say so only when they compile (jax-ml/jax
  issues 23833 and 32430). Where there is none, as when a step is planned, only
  what JAX knows of it is asked.

  Args:
    shape: (t, h, e), of queries.
    dtype: of queries.
  """
  return _cudnn_problem(shape, dtype, target.device_kind())


@functools.cache
def _cudnn_problem(shape, dtype, kind):
  del kind      # It only tells apart what is asked of one device and another.
  # A thread has neither the mesh nor the trace of the caller.
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    return pool.submit(_try_cudnn, shape, dtype).result()


def _try_cudnn(shape, dtype):
  plain = lambda q, k, v: with_weights(q, k, v)[0]
  gradient = lambda f: jax.jit(lambda x: jax.value_and_grad(
      lambda q, k, v: jnp.sum(jnp.square(f(q, k, v).astype(jnp.float32))),
      (0, 1, 2))(*x))
  x = np.random.default_rng(0).standard_normal((3, 1, *shape), np.float32)
  try:
    gradient(_kernel).trace(jnp.asarray(x, dtype))
    gpus = [d for d in jax.local_devices() if d.platform == "gpu"]
    if not gpus:
      return ""
    x = jax.device_put(jnp.asarray(x, dtype), gpus[0])
    found, wanted = gradient(_kernel)(x), gradient(plain)(x)
  except (RuntimeError, NotImplementedError, ValueError) as e:
    return str(e).strip().splitlines()[0][:200] if str(e) else type(e).__name__
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if not np.abs(a - b).max() <= 0.1 * np.abs(b).max():
      return "its result differs from softmax attention"
  return ""


@functools.cache
def _note(problem):
  """Said once."""
  logging.warning(
      "cuDNN's attention does not work here: %s; attention takes XLA's "
      "products, which need more time and memory", problem)

"""Small matrices in NumPy and SciPy, beside a busy XLA."""

import contextlib
import functools

import threadpoolctl


def one_thread() -> contextlib.AbstractContextManager[object]:
  """Within it BLAS and LAPACK use one thread.

  OpenBLAS's threads wait for each other in busy loops. Where others want the
  cores too, an eigendecomposition of 5 ms then takes a second.
  """
  return _libraries().limit(limits=1, user_api="blas")


@functools.cache
def _libraries() -> threadpoolctl.ThreadpoolController:
  return threadpoolctl.ThreadpoolController()    # Searching takes a moment.
